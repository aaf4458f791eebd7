"""Weights & Biases, offline: each epoch's row is logged, and runs end with the training that began them."""

import copy

import polytask as pt
import pytest
import wandb


def test_runs_begin_and_end_with_trainings(data, model, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    seen = []

    class Look(pt.Callback):
        def on_epoch_end(self, trainer, row):
            seen.append((wandb.run.id, dict(wandb.run.summary)))
            if row["epoch"] == 2 and self.breaks:
                raise LookupError("mine")

    def fit(breaks):
        look = Look()
        look.breaks = breaks
        callbacks = [pt.callbacks.WandB(project="census", dir=str(tmp_path)), look]
        return pt.Trainer(copy.deepcopy(model), callbacks=callbacks).fit(data.whole, epochs=2, progress=False)

    with pytest.raises(LookupError):
        fit(True)
    assert wandb.run is None
    history = fit(False)
    assert wandb.run is None
    assert seen[0][0] == seen[1][0] != seen[2][0] == seen[3][0]
    assert seen[3][1]["income/auroc"] == history["income/auroc"][-1]
    assert seen[3][1]["epoch"] == 2


def test_a_run_of_ones_own_stays_open(data, model, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    mine = wandb.init(project="mine", dir=str(tmp_path))
    history = pt.Trainer(model, callbacks=[pt.callbacks.WandB()]).fit(data.whole, epochs=2, progress=False)
    assert wandb.run is mine
    assert mine.summary["loss"] == history["loss"][-1]
    mine.finish()
