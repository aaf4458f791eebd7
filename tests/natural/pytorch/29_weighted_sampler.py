"""My rare class is drawn more often by a WeightedRandomSampler; fit must keep the loader's own draws."""

import polytask as pt
import torch
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

torch.manual_seed(0)
x = torch.randn(400, 4)
rare = (x[:, 0] > 1.5).long()
value = x[:, 1]
weights = torch.where(rare == 1, 10.0, 1.0)
sampler = WeightedRandomSampler(weights, num_samples=200, replacement=True)
loader = DataLoader(TensorDataset(x, rare, value), batch_size=20, sampler=sampler)

model = pt.MultiTaskModel(4, tasks=[pt.Task("rare", classes=2, metrics=["recall"]), pt.Task("value")])
trainer = pt.Trainer(model, lr=1e-2)
history = trainer.fit(loader, epochs=10)
scores = trainer.evaluate((x, rare, value))
assert scores["rare/recall"] > 0.5
assert len(history["loss"]) == 10
