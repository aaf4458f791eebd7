"""Before training I want a learning rate range test, and the model as it was afterwards."""

import numpy as np
import polytask as pt

x = np.random.default_rng(0).normal(size=(256, 6))
data = (x, x[:, 0] * 2, (x[:, 1] > 0).astype(int))
model = pt.MultiTaskModel(6, tasks=[pt.Task("a"), pt.Task("b", classes=2)], encoder=pt.encoder.MLP([32]), seed=0)
before = {name: np.array(value) for name, value in model.state_dict().items()}
trainer = pt.Trainer(model)
found = trainer.find_lr(data, batch_size=32, min_lr=1e-5, max_lr=1.0, steps=50)
assert 1e-5 < found.suggestion < 1.0
assert len(found.lrs) == len(found.losses)
for name, value in model.state_dict().items():
    assert np.array_equal(np.array(value), before[name])
history = pt.Trainer(model, lr=found.suggestion).fit(data, epochs=3, batch_size=32)
assert history["loss"][-1] < history["loss"][0]
