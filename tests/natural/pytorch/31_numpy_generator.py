"""A function yields NumPy batches, a fresh generator each epoch."""

import numpy as np
import polytask as pt


def batches():
    rng = np.random.default_rng(7)
    for _ in range(20):
        x = rng.standard_normal((32, 6), dtype=np.float32)
        yield x, x @ np.arange(6, dtype=np.float32), (x[:, 0] > 0).astype(np.int64)


model = pt.MultiTaskModel(6, tasks=[pt.Task("linear"), pt.Task("positive", classes=2)])
trainer = pt.Trainer(model, lr=1e-2)
history = trainer.fit(batches, epochs=4)
assert len(history["loss"]) == 4
assert history["loss"][-1] < history["loss"][0]
first = history["loss"][-1]
trainer.fit(batches(), epochs=1)
assert np.isfinite(trainer.evaluate(batches())["loss"])
