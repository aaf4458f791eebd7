"""I say which parameters are shared: the weighting looks at the last layer of the trunk alone."""

import polytask as pt
import torch
from torch import nn

torch.manual_seed(0)
trunk = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU())
heads = nn.ModuleList([nn.Linear(16, 1), nn.Linear(16, 1)])
x = torch.randn(50, 5)
h = trunk(x)
losses = [(heads[0](h)[:, 0] - 5).square().mean(), (heads[1](h)[:, 0] - x[:, 0]).abs().mean()]
pt.torch.backward(losses, weighting=pt.weighting.MGDA(), shared=trunk[2].parameters())

for parameter in [*trunk.parameters(), *heads.parameters()]:
    assert parameter.grad is not None
assert trunk[0].weight.grad.abs().sum() > 0
assert heads[0].weight.grad.abs().sum() > 0
