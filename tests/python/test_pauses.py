"""A training that pauses between epochs and goes on: the bits of one without a pause."""

import numpy as np
import polytask as pt
import pytest
from polytask.training.hooks import read
from polytask.training.loop import Fit, Loop


def rows(n=400, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 6)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(np.int64), x[:, 1] + 0.5 * rng.normal(size=n)


class Heard(pt.Callback):
    def __init__(self):
        self.calls = []

    def on_fit_start(self, trainer):
        self.calls.append("start")

    def on_fit_end(self, trainer):
        self.calls.append("end")

    def on_fit_exit(self, trainer):
        self.calls.append("exit")


def trainer(weighting="uncertainty"):
    tasks = [pt.Task("sign", classes=2), pt.Task("value")]
    model = pt.MultiTaskModel(6, tasks=tasks, encoder=pt.encoder.MLP([16], dropout=0.2))
    schedule = pt.schedule.Cosine(warmup=5)
    return pt.Trainer(model, lr=2e-2, schedule=schedule, weighting=weighting, regularizers=["l2"], threads=1)


def loop(trainer, callbacks, epochs=12):
    how = {"weights": None, "batch_size": 32, "shuffle": True, "seed": 0}
    train, held_out = trainer._read(rows(), rows(200, 1), how)
    return Loop(trainer, trainer._core, Fit(train, held_out, epochs, 32, True, True, callbacks), trainer._end_epoch)


@pytest.mark.parametrize("weighting", ["uncertainty", "upgrad", "auto_lambda"])
def test_pauses_change_no_bit(weighting):
    whole = trainer(weighting)
    history = whole.fit(
        rows(), validation=rows(200, 1), epochs=12, progress=False, callbacks=[pt.EarlyStopping(patience=20)]
    )
    paused, heard = trainer(weighting), Heard()
    going = loop(paused, [pt.EarlyStopping(patience=20), heard])
    for until in (1, 4, 4, 9):
        paused._go(going, False, None, until)
        assert going.paused
        assert len(paused.history) == until
    assert heard.calls == ["start"]
    paused._go(going, False, None)
    assert heard.calls == ["start", "end", "exit"]
    assert not going.paused
    for row, other in zip(history, paused.history, strict=True):
        assert {**row, "seconds": 0} == {**other, "seconds": 0}
    ours = paused.model.state_dict()
    assert all(np.array_equal(value, ours[name]) for name, value in whole.model.state_dict().items())


def test_what_was_paused_can_be_ended_there():
    run, heard, best = trainer(), Heard(), pt.EarlyStopping("value/mae", patience=20)
    going = loop(run, [best, heard])
    run._go(going, False, None, 5)
    run.stop()
    run._go(going, False, None)
    assert (len(run.history), going.paused) == (5, False)
    assert heard.calls == ["start", "end", "exit"]
    values = run.history["validation/value/mae"]
    assert best.best_epoch == 1 + int(np.argmin(values))


def test_one_that_stops_for_itself_is_not_paused():
    run = trainer()
    going = loop(run, read(lambda trainer, row: trainer.stop()))
    run._go(going, False, None, 3)
    assert (len(run.history), going.paused) == (1, False)


def test_a_pause_after_the_last_epoch_is_the_end():
    run, heard = trainer(), Heard()
    going = loop(run, [heard], epochs=2)
    run._go(going, False, None, 7)
    assert (len(run.history), heard.calls) == (2, ["start", "end", "exit"])
