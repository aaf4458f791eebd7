"""PLE with my own residual block as each expert; the class itself is the factory."""

import polytask as pt
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.inner = nn.Linear(size, size)
        self.norm = nn.BatchNorm1d(size)

    def forward(self, x):
        return x + torch.relu(self.norm(self.inner(x)))


torch.manual_seed(0)
x = torch.randn(256, 12)
tasks = [pt.Task("ctr", loss="binary_cross_entropy", metrics=["auroc"]), pt.Task("watch")]
model = pt.MultiTaskModel(
    12, tasks=tasks, encoder=lambda: Block(12), sharing=pt.sharing.PLE(shared_experts=2, task_experts=1, levels=2)
)
trainer = pt.Trainer(model, lr=5e-3, weighting="uncertainty")
trainer.fit((x, (x[:, 0] > 0).float(), x[:, 1] ** 2), epochs=5, batch_size=64)
assert trainer.evaluate((x, (x[:, 0] > 0).float(), x[:, 1] ** 2))["ctr/auroc"] > 0.6
