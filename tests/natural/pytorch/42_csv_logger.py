"""A CSV logger as a plain function that is called after each epoch."""

import csv
import tempfile
from pathlib import Path

import numpy as np
import polytask as pt

x = np.random.default_rng(0).normal(size=(90, 4))
data = (x, x[:, 0], (x[:, 1] > 0).astype(int))
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "log.csv"

    def log(epoch, metrics):
        fresh = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=["epoch", *metrics])
            if fresh:
                writer.writeheader()
            writer.writerow({"epoch": epoch, **metrics})

    model = pt.MultiTaskModel(4, tasks=[pt.Task("a"), pt.Task("b", classes=2, metrics=["accuracy"])])
    pt.Trainer(model, callbacks=[log]).fit(data, validation=data, epochs=3, batch_size=30)
    rows = list(csv.DictReader(path.open()))
assert len(rows) == 3
assert float(rows[0]["loss"]) > 0
