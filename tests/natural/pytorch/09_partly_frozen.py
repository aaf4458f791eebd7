"""I froze the first layer of my backbone with requires_grad_(False); only the rest may learn."""

import polytask as pt
import torch
from torch import nn

torch.manual_seed(0)
backbone = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU())
backbone[0].requires_grad_(False)
first, second = backbone[0].weight.clone(), backbone[2].weight.clone()

x = torch.randn(200, 8)
tasks = [pt.Task("sum"), pt.Task("sign", loss="binary_cross_entropy")]
model = pt.MultiTaskModel(8, tasks=tasks, encoder=backbone)
pt.Trainer(model, lr=1e-2).fit((x, x.sum(1), (x[:, 0] > 0).float()), epochs=3, batch_size=50)

assert torch.equal(backbone[0].weight, first)
assert not torch.equal(backbone[2].weight, second)
