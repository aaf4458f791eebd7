"""My trunk is compiled with torch.compile; the heads are not."""

import polytask as pt
import torch
from torch import nn

torch.manual_seed(0)
trunk = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU())
compiled = torch.compile(trunk, backend="aot_eager")
heads = nn.ModuleList([nn.Linear(16, 1) for _ in range(2)])
optimizer = torch.optim.Adam([*trunk.parameters(), *heads.parameters()], lr=1e-2)
weighting = pt.weighting.MGDA()
x = torch.randn(64, 8)

seen = []
for _ in range(20):
    h = compiled(x)
    losses = [(head(h)[:, 0] - x[:, k]).square().mean() for k, head in enumerate(heads)]
    optimizer.zero_grad(set_to_none=True)
    pt.torch.backward(losses, weighting=weighting)
    optimizer.step()
    seen.append(sum(loss.item() for loss in losses))
assert seen[-1] < seen[0]
