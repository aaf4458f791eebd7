"""My Dataset gives flat dicts; "features" is the input and the other keys are the tasks."""

import polytask as pt
import torch
from torch.utils.data import DataLoader, Dataset


class Patients(Dataset):
    def __init__(self, rows):
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(rows, 7, generator=generator)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        row = self.x[i]
        return {"features": row, "mortality": (row[0] > 1).float(), "stay": row[1].exp()}


model = pt.MultiTaskModel(7, tasks=[pt.Task("mortality", loss="binary_cross_entropy"), pt.Task("stay")])
trainer = pt.Trainer(model, lr=1e-2)
history = trainer.fit(DataLoader(Patients(200), batch_size=20, shuffle=True), epochs=5)
assert history["mortality/loss"][-1] < history["mortality/loss"][0]
assert set(model.predict(Patients(10).x)) == {"mortality", "stay"}
