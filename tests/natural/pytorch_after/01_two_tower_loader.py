"""A recommender of two towers over user and item ids and context, trained from a DataLoader whose batches are dicts."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import polytask as pt


class Towers(nn.Module):
    def __init__(self):
        super().__init__()
        self.users, self.items = nn.Embedding(40, 8), nn.Embedding(30, 8)
        self.mix = nn.Sequential(nn.Linear(8 + 8 + 8 + 2, 32), nn.ReLU())

    def forward(self, user, item, context):
        u, i = self.users(user), self.items(item)
        return self.mix(torch.cat([u, i, u * i, context], dim=1))


class Interactions(Dataset):
    def __init__(self, n=1500):
        g = torch.Generator().manual_seed(0)
        self.user, self.item = torch.randint(40, (n,), generator=g), torch.randint(30, (n,), generator=g)
        self.context = torch.randn(n, 2, generator=g)
        self.click = ((self.user % 2) == (self.item % 2)).long()
        self.rating = 3.0 + (self.item % 3) + 0.5 * self.context[:, 0]

    def __len__(self):
        return len(self.user)

    def __getitem__(self, k):
        x = {"user": self.user[k], "item": self.item[k], "context": self.context[k]}
        return x, {"click": self.click[k], "rating": self.rating[k]}


data = Interactions()
loader = DataLoader(data, batch_size=64, shuffle=True, drop_last=True)
tasks = [pt.Task("click", loss="binary_cross_entropy", metrics=["auroc"]), pt.Task("rating", scale="standardize")]
inputs = {"user": ((), "int64"), "item": ((), "int64"), "context": (2,)}
model = pt.MultiTaskModel(inputs, tasks=tasks, encoder=Towers(), seed=0)
history = pt.Trainer(model, optimizer=pt.optim.AdamW(lr=1e-2)).fit(loader, epochs=12, progress=False)
assert history["click/auroc"][-1] > 0.95
scores = model.predict({"user": data.user[:5], "item": data.item[:5], "context": data.context[:5]})
assert scores["click"].shape == (5,) and scores["rating"].mean() > 2
