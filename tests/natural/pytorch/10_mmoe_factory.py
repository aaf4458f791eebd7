"""MMoE with experts of my own: I hand over a function that makes one expert."""

import numpy as np
import polytask as pt
from torch import nn


def expert():
    return nn.Sequential(nn.Linear(10, 16), nn.LayerNorm(16), nn.SiLU(), nn.Linear(16, 8))


rng = np.random.default_rng(0)
x = rng.normal(size=(300, 10)).astype("float32")
data = (x, {"buy": (x[:, 0] + x[:, 1] > 0).astype(int), "amount": np.abs(x[:, 2])})

model = pt.MultiTaskModel(
    10,
    tasks=[pt.Task("buy", loss="binary_cross_entropy"), pt.Task("amount")],
    encoder=expert,
    sharing=pt.sharing.MMoE(experts=3),
    seed=0,
)
history = pt.Trainer(model, lr=1e-2).fit(data, epochs=5, batch_size=30)
assert history["loss"][-1] < history["loss"][0]
gates = model.inspect(x).gates["buy"]
assert gates.shape == (300, 3)
assert np.allclose(np.asarray(gates).sum(axis=1), 1, atol=1e-4)
