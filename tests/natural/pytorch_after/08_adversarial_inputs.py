"""Gradients with regard to the inputs of a trained model: an attack on one task, and saliency of the other."""

import numpy as np
import torch
from torch.nn import functional as F

import polytask as pt

rng = np.random.default_rng(0)
x = rng.normal(size=(800, 12)).astype("float32")
y = {"class": np.digitize(x[:, 0] + x[:, 1], [-0.6, 0.6]), "value": 3 * x[:, 5] + 1}
model = pt.MultiTaskModel(12, tasks=[pt.Task("class", classes=3), pt.Task("value")], encoder=pt.encoder.MLP([32, 16]), seed=0)
trainer = pt.Trainer(model, lr=5e-3)
trainer.fit((x, y), epochs=20, progress=False)
clean = trainer.evaluate((x, y))["class"]["accuracy"]
model.freeze()

inputs = torch.tensor(x, requires_grad=True)
out = model(inputs)
F.cross_entropy(out["class"], torch.from_numpy(y["class"])).backward()
attacked = (inputs + 0.4 * inputs.grad.sign()).detach()
hit = trainer.evaluate((attacked, y))["class"]["accuracy"]
assert clean > 0.9 and hit < clean - 0.2, (clean, hit)

inputs.grad = None
model(inputs)["value"].sum().backward()
saliency = inputs.grad.abs().mean(0)
assert saliency.argmax() == 5
assert all(not p.requires_grad for p in model.to_torch(share=True).parameters())
per_row = torch.func.vmap(torch.func.jacrev(lambda row: model.to_torch()(row[None])["value"][0]))(torch.from_numpy(x[:3]))
assert per_row.shape == (3, 12)
