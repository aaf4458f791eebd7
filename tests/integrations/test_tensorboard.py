"""TensorBoard has each column as a curve, with each epoch once after a resume."""

import copy

import polytask as pt
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


class Break(pt.Callback):
    def on_epoch_end(self, trainer, row):
        if row["epoch"] == 3:
            raise SystemExit


def test_curves_go_on_after_a_resume(data, model, tmp_path):
    def fit(*more):
        callbacks = [pt.callbacks.TensorBoard(tmp_path / "tb"), *more, pt.Checkpoint(tmp_path / "run", every=2)]
        trainer = pt.Trainer(copy.deepcopy(model), callbacks=callbacks)
        return trainer.fit(data.whole, validation=0.25, epochs=4, progress=False, resume=tmp_path / "run")

    with pytest.raises(SystemExit):
        fit(Break())
    history = fit()
    events = EventAccumulator(str(tmp_path / "tb"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == set(history.columns) - {"epoch"}
    for name in ("loss", "validation/income/auroc"):
        curve = events.Scalars(name)
        assert [each.step for each in curve] == [1, 2, 3, 4]
        assert [each.value for each in curve] == pytest.approx(history[name], rel=1e-6)
