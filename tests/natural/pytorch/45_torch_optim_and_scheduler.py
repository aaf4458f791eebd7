"""I want torch.optim.SGD and a torch.optim.lr_scheduler in the Trainer."""

from functools import partial

import polytask as pt
import torch

torch.manual_seed(0)
x = torch.randn(200, 6)
model = pt.MultiTaskModel(6, tasks=[pt.Task("a"), pt.Task("b")], encoder=pt.encoder.MLP([16]), seed=0)
trainer = pt.Trainer(
    model,
    optimizer=partial(torch.optim.SGD, lr=0.05, momentum=0.9, nesterov=True),
    schedule=partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.05, total_steps=100),
)
history = trainer.fit((x, x[:, 0], x[:, 1]), epochs=10, batch_size=20)
assert history["loss"][-1] < history["loss"][0]
