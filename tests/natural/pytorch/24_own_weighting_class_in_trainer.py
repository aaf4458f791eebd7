"""My weighting is a class with a running mean; I use it in the Trainer and look at the weights it gave."""

import numpy as np
import polytask as pt
import torch


class RunningMean:
    def __init__(self, decay=0.9):
        self.decay, self.mean, self.calls = decay, None, 0

    def weigh(self, losses, gramian):
        losses = torch.as_tensor(losses)
        self.mean = losses.clone() if self.mean is None else self.decay * self.mean + (1 - self.decay) * losses
        self.calls += 1
        weights = 1 / self.mean
        return weights / weights.sum() * len(weights)


rng = np.random.default_rng(0)
x = rng.normal(size=(200, 6))
mine = RunningMean()
model = pt.MultiTaskModel(6, tasks=[pt.Task("big"), pt.Task("small")])
trainer = pt.Trainer(model, lr=1e-2, weighting=mine, observe="weights")
history = trainer.fit((x, 100 * x[:, 0], x[:, 1]), epochs=3, batch_size=50)
assert mine.calls == 12
last = history.to_frame().iloc[-1]
assert last["small/weight"] > last["big/weight"]
