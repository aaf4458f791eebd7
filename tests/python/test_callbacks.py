"""Callbacks: when they are called, early stopping, checkpoints on disk, Ctrl-C."""

import os
import signal
import threading

import numpy as np
import polytask as pt
import pytest
from conftest import Data, make_model, same_bits

FIT = {"batch_size": 32, "progress": False}


class Recorder(pt.Callback):
    def __init__(self, every_steps=None):
        self.calls = []
        self.every_steps = every_steps

    def on_fit_start(self, trainer):
        self.calls.append("fit")

    def on_epoch_start(self, trainer):
        self.calls.append("epoch")

    def on_steps(self, trainer):
        self.calls.append(trainer.steps)

    def on_epoch_end(self, trainer, row):
        self.calls.append(row["epoch"] * 100)

    def on_fit_end(self, trainer):
        self.calls.append("end")


def test_when_callbacks_are_called(data):
    plain, watched = make_model(), make_model()
    pt.Trainer(plain).fit(data.whole, epochs=2, **FIT)
    recorder = Recorder(every_steps=2)
    pt.Trainer(watched, callbacks=[recorder]).fit(data.whole, epochs=2, **FIT)
    assert recorder.calls == ["fit", "epoch", 2, 4, 100, "epoch", 6, 8, 10, 200, "end"]
    assert same_bits(plain.state_dict(), watched.state_dict())
    recorder = Recorder()
    pt.Trainer(make_model()).fit([data.whole], epochs=1, progress=False, callbacks=[recorder])
    assert recorder.calls == ["fit", "epoch", 100, "end"]


def test_a_callback_can_stop_and_may_raise(data):
    class Stop(pt.Callback):
        def on_epoch_end(self, trainer, row):
            trainer.stop()

    class Fail(pt.Callback):
        def on_epoch_end(self, trainer, row):
            raise LookupError("mine")

    assert len(pt.Trainer(make_model(), callbacks=[Stop()]).fit(data.whole, epochs=9, **FIT)) == 1
    trainer = pt.Trainer(make_model(), callbacks=[Fail()])
    with pytest.raises(LookupError, match="mine"):
        trainer.fit(data.whole, epochs=9, **FIT)
    assert len(trainer.history) == 1
    assert trainer.model.predict(data.x)["age"].shape == (160,)


class Scripted(pt.Callback):
    """Writes its own numbers into a column, before others look."""

    def __init__(self, column, values):
        self.column, self.values = column, values
        self.states = []

    def on_epoch_end(self, trainer, row):
        row[self.column] = self.values[row["epoch"] - 1]
        self.states.append(trainer.model.state_dict())


@pytest.mark.parametrize(
    ("monitor", "values", "patience", "epochs", "best"),
    [
        ("income/auroc", [0.5, 0.7, 0.6, 0.7, 0.9, 0.9], 2, 4, 2),
        ("income/auroc", [0.5, 0.7, 0.6, 0.8, 0.7, 0.6], 2, 6, 4),
        ("age/mae", [0.5, 0.4, 0.6, 0.3, 0.7, 0.6], 1, 3, 2),
        ("age/loss", [0.5, float("nan"), float("nan"), 0.1, 0.1, 0.1], 2, 3, 1),
        ("validation/loss", [3.0, 2.0, 1.0, 1.0, 1.0, 1.0], 3, 6, 3),
        ("loss", [3.0, 2.0, 2.5, 2.5, 2.5, 2.5], 0, 3, 2),
    ],
)
def test_early_stopping(data, monitor, values, patience, epochs, best):
    column = monitor if monitor.startswith("validation/") else f"validation/{monitor}"
    script = Scripted(column, values)
    stopping = pt.EarlyStopping(monitor, patience=patience)
    trainer = pt.Trainer(make_model(), callbacks=[script, stopping])
    history = trainer.fit(data.whole, validation=data.whole, epochs=6, **FIT)
    assert len(history) == epochs
    assert stopping.best_epoch == best
    assert same_bits(trainer.model.state_dict(), script.states[best - 1])


def test_early_stopping_on_several_metrics_stops_when_none_improves(data):
    one = Scripted("income/auroc", [0.5, 0.4, 0.4, 0.4, 0.4, 0.4])
    two = Scripted("age/r2", [0.1, 0.2, 0.3, 0.2, 0.2, 0.9])
    stopping = pt.EarlyStopping(["income/auroc", "age/r2"], patience=2, restore_best=False)
    trainer = pt.Trainer(make_model(), callbacks=[one, two, stopping])
    assert len(trainer.fit(data.whole, epochs=6, **FIT)) == 5
    assert same_bits(trainer.model.state_dict(), two.states[-1])


def test_early_stopping_begins_anew_with_each_fit(data):
    script = Scripted("income/auroc", [0.9, 0.8, 0.5, 0.6, 0.7])
    stopping = pt.EarlyStopping("income/auroc", patience=1)
    trainer = pt.Trainer(make_model(), callbacks=[script, stopping])
    assert len(trainer.fit(data.whole, epochs=9, **FIT)) == 2
    assert len(trainer.fit(data.whole, epochs=3, **FIT)) == 5
    assert stopping.best_epoch == 5


def test_min_delta_and_mode(data):
    script = Scripted("income/auroc", [0.50, 0.505, 0.51, 0.515])
    stopping = pt.EarlyStopping("income/auroc", patience=2, min_delta=0.1)
    assert len(pt.Trainer(make_model(), callbacks=[script, stopping]).fit(data.whole, epochs=4, **FIT)) == 3
    stopping = pt.EarlyStopping("income/auroc", patience=1, mode="min")
    assert len(pt.Trainer(make_model(), callbacks=[script, stopping]).fit(data.whole, epochs=4, **FIT)) == 2


def test_an_unknown_monitor_is_refused_before_the_first_step(data):
    for callback in (pt.EarlyStopping("income/f1"), pt.Checkpoint("unused", best="auroc")):
        trainer = pt.Trainer(make_model(), callbacks=[callback])
        before = trainer.model.state_dict()
        with pytest.raises(ValueError, match=r"`monitor`: the history will have no column .*it will have `loss`"):
            trainer.fit(data.whole, epochs=2, **FIT)
        assert same_bits(trainer.model.state_dict(), before)
        if os.path.isdir("unused"):
            os.rmdir("unused")


def test_the_direction_of_ones_own_metric_must_be_said(data):
    task = pt.Task("age", metrics=[lambda p, y: (p - y).abs().max()])
    name = task.metrics[0].name
    model = pt.MultiTaskModel(8, tasks=[task])
    with pytest.raises(ValueError, match='say mode="max" or "min"'):
        pt.Trainer(model, callbacks=[pt.EarlyStopping(f"age/{name}")]).fit((data.x, data.age), epochs=1, **FIT)
    stopping = pt.EarlyStopping(f"age/{name}", mode="min")
    pt.Trainer(model, callbacks=[stopping]).fit((data.x, data.age), epochs=1, **FIT)


def test_checkpoints_on_disk(data, tmp_path):
    folder = tmp_path / "runs" / "a"
    trainer = pt.Trainer(make_model(), callbacks=[pt.Checkpoint(folder, every=2, keep=2)])
    trainer.fit(data.whole, epochs=7, **FIT)
    assert sorted(os.listdir(folder)) == ["checkpoint-000000000020.safetensors", "checkpoint-000000000030.safetensors"]
    trainer = pt.Trainer(make_model(), callbacks=[pt.Checkpoint(folder, every_steps=3)])
    trainer.fit(data.whole, epochs=1, **FIT)
    assert os.listdir(folder) == ["checkpoint-000000000005.safetensors"]


def test_the_best_model_is_kept_beside(data, tmp_path):
    script = Scripted("validation/income/auroc", [0.5, 0.9, 0.7])
    checkpoint = pt.Checkpoint(tmp_path, best="income/auroc")
    trainer = pt.Trainer(make_model(), callbacks=[checkpoint, script])
    trainer.fit(data.whole, validation=data.whole, epochs=3, **FIT)
    assert same_bits(pt.MultiTaskModel.load(tmp_path / "best.safetensors").state_dict(), script.states[1])


@pytest.fixture
def listening():
    """Ctrl-C counts, also where the tests run in the background, in which shells ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("form", [lambda data: data.whole, lambda data: [data.whole] * 50])
def test_ctrl_c_leaves_a_usable_model_and_the_history_so_far(form, caplog, listening):
    big = Data(20_000)
    model = make_model()
    trainer = pt.Trainer(model)
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with caplog.at_level("WARNING", "polytask"):
        history = trainer.fit(form(big), epochs=100_000, batch_size=8, progress=False)
    timer.join()
    assert "interrupted: the model is as after step" in caplog.text
    assert all(np.isfinite(array).all() for array in model.state_dict().values())
    before = len(history)
    assert len(trainer.fit(Data().whole, epochs=2, **FIT)) == before + 2
    assert history["epoch"] == list(range(1, before + 3))
