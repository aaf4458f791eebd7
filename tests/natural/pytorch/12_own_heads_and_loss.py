"""Each task has a head of my own, and one a loss function of mine in torch."""

import polytask as pt
import torch
import torch.nn.functional as F
from torch import nn


def asymmetric(prediction, target):
    error = prediction - target
    return torch.where(error > 0, 2 * error**2, error**2).mean()


torch.manual_seed(0)
x = torch.randn(200, 6)
box = torch.stack([x[:, 0], x[:, 1], x[:, 0] + 1, x[:, 1] + 1], dim=1)
tasks = [
    pt.Task(
        "box", outputs=4, head=nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)), loss=F.smooth_l1_loss
    ),
    pt.Task("delay", head=nn.Linear(16, 1), loss=asymmetric),
    pt.Task("kind", classes=3, head=nn.Linear(16, 3)),
]
encoder = nn.Sequential(nn.Linear(6, 16), nn.Tanh())
model = pt.MultiTaskModel(6, tasks=tasks, encoder=encoder)
history = pt.Trainer(model, lr=1e-2).fit(
    (x, {"box": box, "delay": x[:, 2], "kind": torch.randint(0, 3, (200,))}), epochs=6, batch_size=40
)
assert history["box/loss"][-1] < history["box/loss"][0]
assert model.predict(x)["box"].shape == (200, 4)
