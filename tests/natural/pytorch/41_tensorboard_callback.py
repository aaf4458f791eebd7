"""A callback writes each epoch's losses to TensorBoard."""

import tempfile
from pathlib import Path

import numpy as np
import polytask as pt
from torch.utils.tensorboard import SummaryWriter


class TensorBoard(pt.Callback):
    def __init__(self, folder):
        self.writer = SummaryWriter(folder)

    def on_epoch_end(self, trainer, epoch, logs):
        for name, value in logs.items():
            self.writer.add_scalar(name, value, epoch)

    def on_fit_end(self, trainer):
        self.writer.close()


x = np.random.default_rng(0).normal(size=(100, 4))
with tempfile.TemporaryDirectory() as folder:
    model = pt.MultiTaskModel(4, tasks=[pt.Task("a"), pt.Task("b")])
    trainer = pt.Trainer(model, callbacks=[TensorBoard(folder)])
    trainer.fit((x, x[:, 0], x[:, 1]), epochs=3, batch_size=20)
    assert list(Path(folder).glob("events.out.tfevents.*"))
