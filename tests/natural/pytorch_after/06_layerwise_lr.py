"""Parameter groups by name with their own rates, a cosine schedule of torch, and a WeightedRandomSampler for rare rows."""

from functools import partial

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

import polytask as pt


def make_optimizer(named_parameters):
    decay, rest = [], []
    for name, parameter in named_parameters:
        (rest if name.endswith("bias") else decay).append(parameter)
    groups = [{"params": decay, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0, "lr": 2e-2}]
    return torch.optim.RAdam(groups, lr=1e-2, decoupled_weight_decay=True)


torch.manual_seed(0)
x = torch.randn(1000, 8)
fraud = (x[:, 0] > 1.3).long()
amount = (x[:, 1] * 100 + 500).float()
sampler = WeightedRandomSampler(torch.where(fraud == 1, 10.0, 1.0), num_samples=1000)
loader = DataLoader(TensorDataset(x, fraud, amount), batch_size=50, sampler=sampler)
plain = DataLoader(TensorDataset(x, fraud, amount), batch_size=250)
model = pt.MultiTaskModel(
    8,
    tasks=[pt.Task("fraud", classes=2, metrics=["auroc", "recall"]), pt.Task("amount", scale="standardize", metrics=["mae"])],
    encoder=pt.encoder.MLP([32, 32], dropout=0.1),
    sharing="cross_stitch",
    seed=0,
)
trainer = pt.Trainer(model, optimizer=make_optimizer, schedule=partial(CosineAnnealingLR, T_max=200), seed=0)
history = trainer.fit(loader, validation=plain, epochs=10, progress=False)
assert history["lr"][-1] < 1e-3
assert history["validation/fraud/auroc"][-1] > 0.95
assert history["validation/amount/mae"][-1] < 40
