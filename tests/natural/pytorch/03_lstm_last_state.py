"""My encoder is an LSTM over windows of a time series; I take its last hidden state."""

import numpy as np
import polytask as pt
from torch import nn


class Recurrent(nn.Module):
    def __init__(self, features, hidden):
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, batch_first=True)

    def forward(self, x):
        _, (h, _) = self.lstm(x)
        return h[-1]


rng = np.random.default_rng(1)
windows = rng.normal(size=(200, 20, 5)).astype(np.float32)  # [rows, time, features]
mean = windows[:, :, 0].mean(axis=1)
up = (windows[:, -1, 1] > 0).astype(int)

model = pt.MultiTaskModel(
    input_size=(20, 5), tasks=[pt.Task("mean"), pt.Task("up", classes=2)], encoder=Recurrent(5, 24)
)
trainer = pt.Trainer(model, lr=1e-2)
trainer.fit((windows, mean, up), epochs=3, batch_size=50)
scores = trainer.evaluate((windows, mean, up))
assert np.isfinite(scores["loss"])
assert model.predict(windows)["up"].shape == (200, 2)
