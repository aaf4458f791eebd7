"""An exponential moving average of the weights is kept during training and used to evaluate."""

import numpy as np
import polytask as pt

x = np.random.default_rng(0).normal(size=(300, 6))
data = (x, x[:, 0], x[:, 1])
model = pt.MultiTaskModel(6, tasks=[pt.Task("a"), pt.Task("b")], encoder=pt.encoder.MLP([32]), seed=0)
ema = pt.EMA(decay=0.99)
trainer = pt.Trainer(model, lr=1e-2, callbacks=[ema])
trainer.fit(data, epochs=5, batch_size=30)
raw = trainer.evaluate(data)["loss"]
averaged = ema.model
smooth = pt.Trainer(averaged).evaluate(data)["loss"]
assert np.isfinite(smooth)
assert smooth != raw
