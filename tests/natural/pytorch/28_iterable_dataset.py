"""My data stream is an IterableDataset without a length; an epoch is what it yields."""

import polytask as pt
import torch
from torch.utils.data import DataLoader, IterableDataset


class Stream(IterableDataset):
    def __iter__(self):
        generator = torch.Generator().manual_seed(3)
        for _ in range(150):
            x = torch.randn(5, generator=generator)
            yield x, {"a": x.sum(), "b": (x[0] > x[1]).long()}


model = pt.MultiTaskModel(5, tasks=[pt.Task("a"), pt.Task("b", classes=2)], seed=0)
trainer = pt.Trainer(model, optimizer="adamw", lr=1e-2)
history = trainer.fit(DataLoader(Stream(), batch_size=16), epochs=5, validation=DataLoader(Stream(), batch_size=50))
frame = history.to_frame()
assert len(frame) == 5
assert frame["loss"].iloc[-1] < frame["loss"].iloc[0]
