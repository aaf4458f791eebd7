"""Four micro batches add up in .grad before a step; with equal weights this must equal plain autograd."""

import polytask as pt
import torch
from torch import nn

torch.manual_seed(0)
trunk = nn.Sequential(nn.Linear(5, 8), nn.Tanh())
heads = nn.ModuleList([nn.Linear(8, 1), nn.Linear(8, 1)])
x, y = torch.randn(80, 5), torch.randn(80, 2)
parameters = [*trunk.parameters(), *heads.parameters()]


def losses_of(rows):
    h = trunk(x[rows])
    return [(head(h)[:, 0] - y[rows, k]).square().mean() / 4 for k, head in enumerate(heads)]


for rows in torch.arange(80).chunk(4):
    sum(losses_of(rows)).backward()
expected = [p.grad.clone() for p in parameters]
for p in parameters:
    p.grad = None
for rows in torch.arange(80).chunk(4):
    pt.torch.backward(losses_of(rows), weighting="equal")
for p, gradient in zip(parameters, expected, strict=True):
    torch.testing.assert_close(p.grad, gradient)
