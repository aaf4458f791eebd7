"""A Balancer with GradNorm keeps its state from step to step; my losses are a dict by task."""

import polytask as pt
import torch
from torch import nn

torch.manual_seed(0)
trunk = nn.Sequential(nn.Linear(4, 16), nn.ReLU())
heads = nn.ModuleDict({"depth": nn.Linear(16, 1), "normal": nn.Linear(16, 3)})
optimizer = torch.optim.SGD([*trunk.parameters(), *heads.parameters()], lr=0.05)
balancer = pt.torch.Balancer(pt.weighting.GradNorm(alpha=1.5), tasks=["depth", "normal"])

x = torch.randn(64, 4)
y = {"depth": 10 * x[:, :1], "normal": x[:, 1:]}
first = None
for _ in range(20):
    h = trunk(x)
    losses = {name: (head(h) - y[name]).square().mean() for name, head in heads.items()}
    first = first or {name: loss.item() for name, loss in losses.items()}
    optimizer.zero_grad()
    balancer.backward(losses)
    optimizer.step()
assert all(losses[name].item() < first[name] for name in losses)
assert set(balancer.weights) == {"depth", "normal"}
