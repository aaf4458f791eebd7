"""My GRU takes padded sequences and their lengths as keyword arguments; my data are dicts with these names."""

import polytask as pt
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence


class PackedGRU(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(4, 16, batch_first=True)

    def forward(self, sequence, lengths):
        packed = pack_padded_sequence(sequence, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return self.gru(packed)[1][-1]


torch.manual_seed(0)
sequence = torch.randn(120, 10, 4)
lengths = torch.randint(1, 11, (120,))
targets = {"long": (lengths > 5).float(), "size": lengths.float()}

tasks = [pt.Task("long", loss="binary_cross_entropy"), pt.Task("size", scale="standardize")]
model = pt.MultiTaskModel(encoder=PackedGRU(), tasks=tasks)
history = pt.Trainer(model, lr=1e-2).fit(({"sequence": sequence, "lengths": lengths}, targets), epochs=5, batch_size=30)
assert history["loss"][-1] < history["loss"][0]
