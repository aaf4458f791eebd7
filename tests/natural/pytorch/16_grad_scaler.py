"""I scale losses with a GradScaler, then unscale and clip as always."""

import polytask as pt
import torch
from torch import nn

torch.manual_seed(0)
trunk, head_a, head_b = nn.Linear(6, 12), nn.Linear(12, 1), nn.Linear(12, 1)
parameters = [p for module in (trunk, head_a, head_b) for p in module.parameters()]
optimizer = torch.optim.SGD(parameters, lr=0.05)
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
weighting = pt.weighting.CAGrad(c=0.4)
x = torch.randn(64, 6)

values = []
for _ in range(20):
    optimizer.zero_grad()
    h = torch.relu(trunk(x))
    losses = [(head_a(h)[:, 0] - x[:, 0]).square().mean(), (head_b(h)[:, 0] - x[:, 1]).square().mean()]
    pt.torch.backward([scaler.scale(loss) for loss in losses], weighting=weighting)
    scaler.unscale_(optimizer)
    norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    assert norm < 100
    scaler.step(optimizer)
    scaler.update()
    values.append(sum(loss.item() for loss in losses))
assert values[-1] < values[0]
