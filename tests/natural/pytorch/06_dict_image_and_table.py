"""My module takes one dict with an image and a row of a table and fuses both."""

import polytask as pt
import torch
from torch import nn


class Fusion(nn.Module):
    def __init__(self):
        super().__init__()
        self.image = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 16))
        self.table = nn.Linear(5, 16)

    def forward(self, batch):
        return torch.relu(self.image(batch["image"]) + self.table(batch["table"]))


torch.manual_seed(0)
inputs = {"image": torch.rand(100, 1, 8, 8), "table": torch.randn(100, 5)}
sick = (inputs["table"][:, 0] > 0).long()
age = inputs["table"][:, 1] * 10 + 40

model = pt.MultiTaskModel(
    {"image": (1, 8, 8), "table": 5},
    tasks=[pt.Task("sick", classes=2, metrics=["accuracy"]), pt.Task("age", scale="standardize")],
    encoder=Fusion(),
)
trainer = pt.Trainer(model, lr=1e-2)
trainer.fit((inputs, {"sick": sick, "age": age}), epochs=10, batch_size=20)
assert trainer.evaluate((inputs, {"sick": sick, "age": age}))["sick/accuracy"] > 0.6
