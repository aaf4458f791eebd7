"""My collate function gives nested batches: inputs in one dict, targets in another, with ids that training ignores."""

import polytask as pt
import torch
from torch.utils.data import DataLoader

torch.manual_seed(0)
rows = [{"id": f"row-{i}", "x": torch.randn(6)} for i in range(120)]


def collate(items):
    x = torch.stack([item["x"] for item in items])
    return {
        "id": [item["id"] for item in items],
        "inputs": {"x": x},
        "targets": {"left": (x[:, 0] < 0).long(), "size": x.norm(dim=1)},
    }


loader = DataLoader(rows, batch_size=24, collate_fn=collate, shuffle=True)
model = pt.MultiTaskModel(6, tasks=[pt.Task("left", classes=2, metrics=["accuracy"]), pt.Task("size")])
trainer = pt.Trainer(model, lr=1e-2)
trainer.fit(loader, epochs=10)
assert trainer.evaluate(loader)["left/accuracy"] > 0.6
