"""I have an MLP as nn.Module and want it to be the shared encoder of two tasks."""

import numpy as np
import polytask as pt
from torch import nn


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU())

    def forward(self, x):
        return self.layers(x)


rng = np.random.default_rng(0)
x = rng.normal(size=(400, 12)).astype(np.float32)
click = (x[:, 0] > 0).astype(int)
price = x[:, 1] * 2

tasks = [pt.Task("click", loss="binary_cross_entropy"), pt.Task("price")]
model = pt.MultiTaskModel(12, tasks=tasks, encoder=Backbone())
history = pt.Trainer(model, lr=1e-2).fit((x, click, price), epochs=8, batch_size=32)
loss = history["loss"]
assert loss[-1] < loss[0]
assert model.predict(x)["click"].shape == (400,)
