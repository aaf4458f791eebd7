"""A loader of torchdata goes on where it was when a run is resumed."""

import copy

import polytask as pt
import pytest
import torch
from torch.utils.data import TensorDataset
from torchdata.stateful_dataloader import StatefulDataLoader


class Break(pt.Callback):
    def on_epoch_end(self, trainer, row):
        if row["epoch"] == 3:
            raise SystemExit


def test_a_resumed_run_has_the_same_bits(data, model, tmp_path):
    rows = TensorDataset(torch.from_numpy(data.x), *map(torch.from_numpy, data.whole[1].values()))

    def fit(folder, *more):
        torch.manual_seed(len(more))
        trainer = pt.Trainer(copy.deepcopy(model), callbacks=[*more, pt.Checkpoint(folder)])
        loader = StatefulDataLoader(rows, batch_size=16, shuffle=True)
        return trainer.fit(loader, epochs=5, progress=False, resume=folder)["loss"]

    with pytest.raises(SystemExit):
        fit(tmp_path / "a", Break())
    torch.manual_seed(1)
    whole = pt.Trainer(copy.deepcopy(model))
    loader = StatefulDataLoader(rows, batch_size=16, shuffle=True)
    assert fit(tmp_path / "a") == whole.fit(loader, epochs=5, progress=False)["loss"]
