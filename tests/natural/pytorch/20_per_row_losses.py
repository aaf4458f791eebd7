"""My criteria have reduction="none"; I pass the losses row by row, of the rows that have a label of the task."""

import polytask as pt
import torch
from torch import nn

torch.manual_seed(0)
trunk = nn.Sequential(nn.Linear(4, 12), nn.ReLU())
heads = nn.ModuleList([nn.Linear(12, 1), nn.Linear(12, 1)])
parameters = [*trunk.parameters(), *heads.parameters()]
x = torch.randn(40, 4)
y = x[:, :2].clone()
y[::3, 1] = float("nan")


def losses_by_row():
    h = trunk(x)
    known = ~torch.isnan(y)
    return [
        nn.functional.mse_loss(head(h[known[:, k]])[:, 0], y[known[:, k], k], reduction="none")
        for k, head in enumerate(heads)
    ]


expected = torch.autograd.grad(sum(loss.mean() for loss in losses_by_row()), parameters)
pt.torch.backward(losses_by_row(), weighting="equal")
for parameter, gradient in zip(parameters, expected, strict=True):
    torch.testing.assert_close(parameter.grad, gradient)
