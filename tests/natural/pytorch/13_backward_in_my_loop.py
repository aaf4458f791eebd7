"""In my training loop I replace sum(losses).backward() by PCGrad."""

import polytask as pt
import torch
from torch import nn

torch.manual_seed(0)
trunk, head_a, head_b = nn.Sequential(nn.Linear(5, 16), nn.ReLU()), nn.Linear(16, 1), nn.Linear(16, 3)
parameters = [*trunk.parameters(), *head_a.parameters(), *head_b.parameters()]
optimizer = torch.optim.Adam(parameters, lr=1e-2)
x = torch.randn(64, 5)
a, b = x[:, :1] * 2, x[:, :3].argmax(1)

totals = []
for _ in range(30):
    optimizer.zero_grad()
    h = trunk(x)
    losses = [nn.functional.mse_loss(head_a(h), a), nn.functional.cross_entropy(head_b(h), b)]
    pt.torch.backward(losses, weighting="pcgrad")
    optimizer.step()
    totals.append(sum(loss.item() for loss in losses))
assert totals[-1] < 0.7 * totals[0]
