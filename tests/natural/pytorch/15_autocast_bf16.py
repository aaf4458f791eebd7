"""My forward runs under autocast in bfloat16; the weighting follows outside of it."""

import polytask as pt
import torch
from torch import nn

torch.manual_seed(0)
trunk = nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 16))
heads = nn.ModuleList([nn.Linear(16, 1), nn.Linear(16, 1), nn.Linear(16, 1)])
optimizer = torch.optim.AdamW([*trunk.parameters(), *heads.parameters()], lr=1e-2)
weighting = pt.weighting.UPGrad()
x = torch.randn(128, 8)
y = x[:, :3]

history = []
for _ in range(25):
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = trunk(x)
        losses = torch.stack([(head(h).float()[:, 0] - y[:, k]).square().mean() for k, head in enumerate(heads)])
    pt.torch.backward(losses, weighting=weighting)
    optimizer.step()
    history.append(losses.sum().item())
assert trunk[0].weight.grad.dtype == torch.float32
assert history[-1] < history[0]
