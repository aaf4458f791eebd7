"""A data set in the manner of Hugging Face: columns by name, rows are dicts, set_format("torch")."""

import polytask as pt
import torch


class Table:
    """Has what I use of datasets.Dataset."""

    def __init__(self, columns):
        self.columns = columns
        self.column_names = list(columns)

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __getitem__(self, key):
        if isinstance(key, str):
            return self.columns[key]
        return {name: column[key] for name, column in self.columns.items()}


generator = torch.Generator().manual_seed(0)
x = torch.randn(100, 8, generator=generator)
table = Table({"x": x, "label": (x[:, 0] > 0).long(), "score": x[:, 1], "text": ["a"] * 100})
model = pt.MultiTaskModel(8, tasks=[pt.Task("label", classes=2), pt.Task("score")])
trainer = pt.Trainer(model, lr=1e-2)
history = trainer.fit(table, epochs=4, batch_size=20)
assert history["loss"][-1] < history["loss"][0]
assert model.predict(table)["label"].shape == (100, 2)
