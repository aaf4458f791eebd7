"""Padded token ids and lengths through a GRU, streamed by an IterableDataset with workers and a collate function."""

import random

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader, IterableDataset

import polytask as pt


class Reviews(IterableDataset):
    def __iter__(self):
        info = torch.utils.data.get_worker_info()
        rng = random.Random(info.id if info else 0)
        for _ in range(300):
            words = [rng.randrange(1, 20) for _ in range(rng.randrange(3, 12))]
            yield words, int(7 in words), float(len(words))


def collate(rows):
    words, toxic, length = zip(*rows)
    lengths = torch.tensor([len(w) for w in words])
    padded = pad_sequence([torch.tensor(w) for w in words], batch_first=True)
    padded = nn.functional.pad(padded, (0, 12 - padded.shape[1]))
    return (padded, lengths), (torch.tensor(toxic), torch.tensor(length))


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 16, padding_idx=0)
        self.gru = nn.GRU(16, 32, batch_first=True)

    def forward(self, ids, lengths):
        packed = pack_padded_sequence(self.embed(ids), lengths, batch_first=True, enforce_sorted=False)
        return self.gru(packed)[1][-1]


loader = DataLoader(Reviews(), batch_size=50, num_workers=2, collate_fn=collate)
tasks = [pt.Task("toxic", loss="binary_cross_entropy", metrics=["auroc"]), pt.Task("length")]
model = pt.MultiTaskModel([((12,), "int64"), ((), "int64")], tasks=tasks, encoder=Reader(), seed=0)
trainer = pt.Trainer(model, lr=1e-2, clip_norm=1.0, weighting="uncertainty")
history = trainer.fit(loader, epochs=12, progress=False)
assert history["length/loss"][-1] < history["length/loss"][0] / 4
assert trainer.evaluate(DataLoader(Reviews(), batch_size=50, collate_fn=collate))["toxic"]["auroc"] > 0.8
