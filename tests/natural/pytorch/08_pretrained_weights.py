"""The encoder starts from the weights of a checkpoint, and training at lr 0 leaves them as they are."""

import copy
import tempfile
from pathlib import Path

import polytask as pt
import torch
from torch import nn


def make():
    return nn.Sequential(nn.Linear(6, 20), nn.GELU(), nn.Linear(20, 10))


pretrained = make()
with tempfile.TemporaryDirectory() as folder:
    torch.save(pretrained.state_dict(), Path(folder) / "backbone.pt")
    backbone = make()
    backbone.load_state_dict(torch.load(Path(folder) / "backbone.pt"))
before = copy.deepcopy(backbone.state_dict())

model = pt.MultiTaskModel(6, tasks=[pt.Task("a"), pt.Task("b")], encoder=backbone)
for name, tensor in backbone.state_dict().items():
    assert torch.equal(tensor, before[name]), name
x = torch.randn(50, 6)
optimizer = pt.optim.Adam(lr={"encoder": 0.0, "heads": 1e-2})
pt.Trainer(model, optimizer=optimizer).fit((x, x[:, 0], x[:, 1]), epochs=2, batch_size=10)
assert torch.equal(backbone[0].weight, pretrained[0].weight)
