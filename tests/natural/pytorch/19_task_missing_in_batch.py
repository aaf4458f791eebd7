"""Some batches have no labels of a task; I then leave that task out of the dict of losses."""

import polytask as pt
import torch
from torch import nn

torch.manual_seed(0)
trunk = nn.Sequential(nn.Linear(6, 16), nn.ReLU())
heads = nn.ModuleDict({"toxic": nn.Linear(16, 1), "soluble": nn.Linear(16, 1)})
optimizer = torch.optim.Adam([*trunk.parameters(), *heads.parameters()], lr=1e-2)
balancer = pt.torch.Balancer("dwa", tasks=["toxic", "soluble"])

x = torch.randn(96, 6)
labels = {"toxic": (x[:, 0] > 0).float(), "soluble": (x[:, 1] > 0).float()}
for _epoch in range(3):
    for step, rows in enumerate(torch.randperm(96).chunk(6)):
        optimizer.zero_grad()
        present = ["toxic"] if step % 3 == 0 else ["toxic", "soluble"]
        h = trunk(x[rows])
        losses = {
            name: nn.functional.binary_cross_entropy_with_logits(heads[name](h)[:, 0], labels[name][rows])
            for name in present
        }
        balancer.backward(losses)
        optimizer.step()
        assert all(torch.isfinite(p.grad).all() for p in trunk.parameters())
        if step % 3 == 0:
            assert heads["soluble"].weight.grad is None
