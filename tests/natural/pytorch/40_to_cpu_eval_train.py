"""The usual model.to("cpu").eval() chain: dropout is off in eval and on in train."""

import polytask as pt
import torch

model = pt.MultiTaskModel(8, tasks=[pt.Task("a"), pt.Task("b")], encoder=pt.encoder.MLP([64], dropout=0.5), seed=0)
model = model.to("cpu").eval()
assert not model.training
x = torch.randn(10, 8)
assert torch.equal(model(x)["a"], model(x)["a"])
model.train()
assert model.training
assert not torch.equal(model(x)["a"], model(x)["a"])
assert all(p.device == torch.device("cpu") for p in model.parameters())
assert sum(p.numel() for p in model.parameters()) == 8 * 64 + 64 + 2 * (64 + 1)
