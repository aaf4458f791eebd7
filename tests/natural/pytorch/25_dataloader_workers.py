"""A DataLoader over a TensorDataset with two workers and pinned memory goes straight into fit."""

import polytask as pt
import torch
from torch.utils.data import DataLoader, TensorDataset

if __name__ == "__main__":
    torch.manual_seed(0)
    x = torch.randn(256, 10)
    dataset = TensorDataset(x, (x[:, 0] > 0).long(), x[:, 1:4].sum(1))
    loader = DataLoader(
        dataset, batch_size=32, shuffle=True, num_workers=2, pin_memory=True, persistent_workers=True, drop_last=True
    )
    model = pt.MultiTaskModel(10, tasks=[pt.Task("sign", classes=2), pt.Task("sum")], encoder=pt.encoder.MLP([32]))
    history = pt.Trainer(model, lr=1e-2).fit(loader, validation=DataLoader(dataset, batch_size=64), epochs=4)
    assert len(history["loss"]) == 4
    assert history["loss"][-1] < history["loss"][0]
    assert history["validation/loss"][-1] < history["validation/loss"][0]
