"""Token ids go through the nn.Embedding of my own module; 0 is padding."""

import polytask as pt
import torch
from torch import nn


class TextEncoder(nn.Module):
    def __init__(self, vocabulary=200, width=24):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=0)
        self.project = nn.Linear(width, width)

    def forward(self, ids):
        mask = (ids != 0).unsqueeze(-1)
        mean = (self.embedding(ids) * mask).sum(1) / mask.sum(1).clamp(min=1)
        return torch.tanh(self.project(mean))


torch.manual_seed(0)
ids = torch.randint(0, 200, (150, 12))  # int64
sentiment = (ids.float().mean(1) > 100).long()
stars = torch.randint(0, 5, (150,))

model = pt.MultiTaskModel(
    12, tasks=[pt.Task("sentiment", classes=2), pt.Task("stars", classes=5)], encoder=TextEncoder(), seed=1
)
history = pt.Trainer(model, optimizer=pt.optim.AdamW(lr=1e-2)).fit((ids, sentiment, stars), epochs=5, batch_size=25)
assert history["loss"][-1] < history["loss"][0]
