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

    def on_fit_exit(self, trainer):
        self.calls.append("exit")


def test_when_callbacks_are_called(data):
    plain, watched = make_model(), make_model()
    pt.Trainer(plain).fit(data.whole, epochs=2, **FIT)
    recorder = Recorder(every_steps=2)
    pt.Trainer(watched, callbacks=[recorder]).fit(data.whole, epochs=2, **FIT)
    assert recorder.calls == ["fit", "epoch", 2, 4, 100, "epoch", 6, 8, 10, 200, "end", "exit"]
    assert same_bits(plain.state_dict(), watched.state_dict())
    recorder = Recorder()
    pt.Trainer(make_model()).fit([data.whole], epochs=1, progress=False, callbacks=[recorder])
    assert recorder.calls == ["fit", "epoch", 100, "end", "exit"]


def test_a_callback_can_stop_and_may_raise(data):
    class Stop(pt.Callback):
        def on_epoch_end(self, trainer, row):
            trainer.stop()

    class Fail(pt.Callback):
        def on_epoch_end(self, trainer, row):
            raise LookupError("mine")

    assert len(pt.Trainer(make_model(), callbacks=[Stop()]).fit(data.whole, epochs=9, **FIT)) == 1
    recorder = Recorder()
    trainer = pt.Trainer(make_model(), callbacks=[Fail(), recorder])
    with pytest.raises(LookupError, match="mine"):
        trainer.fit(data.whole, epochs=9, **FIT)
    assert recorder.calls == ["fit", "epoch", "exit"]
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


def test_early_stopping_without_validation_is_said(data, caplog):
    for validation, said in ((None, 1), (data.whole, 0)):
        caplog.clear()
        callbacks = [pt.EarlyStopping("income/auroc")]
        pt.Trainer(make_model(), callbacks=callbacks).fit(data.whole, validation=validation, epochs=2, **FIT)
        expected = "there are no validation data, so that `income/auroc` of the training rows is watched"
        assert caplog.text.count(expected) == said


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


def brier(p, y):
    return ((p - y) ** 2).mean()


def judged(data):
    """A model with a metric whose direction is known and one whose direction is not."""
    task = pt.Task("income", loss="binary_cross_entropy", metrics=["auroc", brier])
    return pt.MultiTaskModel(8, tasks=[task]), (data.x, data.income)


@pytest.mark.parametrize("mode", [{"income/brier": "min"}, ["max", "min"], ["auto", "min"]])
def test_several_monitors_have_a_direction_each(data, mode, tmp_path):
    model, rows = judged(data)
    one = Scripted("income/auroc", [0.5, 0.9, 0.8, 0.7, 0.6, 0.6, 0.6])
    two = Scripted("income/brier", [0.9, 0.8, 0.7, 0.6, 0.7, 0.8, 0.9])
    monitors = ["income/auroc", "income/brier"]
    stopping = pt.EarlyStopping(monitors, patience=2, mode=mode)
    keeping = pt.Checkpoint(tmp_path, best=monitors, mode=mode)
    history = pt.Trainer(model, callbacks=[one, two, stopping, keeping]).fit(rows, epochs=7, **FIT)
    assert (len(history), stopping.best_epoch, stopping.best) == (6, 2, [0.9, -0.6])
    kept = {name: pt.MultiTaskModel.load(tmp_path / f"best-income-{name}.safetensors") for name in ("auroc", "brier")}
    assert same_bits(kept["auroc"].state_dict(), two.states[1])
    assert same_bits(kept["brier"].state_dict(), two.states[3])
    assert same_bits(model.state_dict(), two.states[1])


def test_directions_that_do_not_say_it_all_are_refused(data):
    model, rows = judged(data)
    both = ["income/auroc", "income/brier"]
    for callback in (pt.EarlyStopping(both), pt.Checkpoint("unused", best=both), pt.EarlyStopping(both, mode={})):
        with pytest.raises(
            ValueError, match=r"a higher 'income/brier' is better is not known; .*mode=\{'income/brier'"
        ):
            pt.Trainer(model, callbacks=[callback]).fit(rows, epochs=1, **FIT)
    if os.path.isdir("unused"):
        os.rmdir("unused")
    for mode in ("min", ["min"], ["min", "min", "max"]):
        with pytest.raises(ValueError, match="`mode` should be a direction for each of `income/auroc`, `income/brier`"):
            pt.EarlyStopping(both, mode=mode)
    with pytest.raises(ValueError, match="`mode`: 'income/f1' is not watched; there are `income/auroc`"):
        pt.EarlyStopping(both, mode={"income/f1": "max"})
    with pytest.raises(ValueError, match='`mode` should be "auto", "min" or "max"; got \'up\''):
        pt.Checkpoint("unused", best="loss", mode="up")


def test_a_monitor_that_is_never_a_number_neither_ends_training_nor_is_silent(data, tmp_path, caplog):
    model, rows = judged(data)
    one_class = (data.x[data.income == 0], data.income[data.income == 0])
    stopping = pt.EarlyStopping("income/auroc", patience=2)
    trainer = pt.Trainer(model, callbacks=[stopping, pt.Checkpoint(tmp_path, best="income/auroc")])
    history = trainer.fit(rows, validation=one_class, epochs=5, **FIT)
    assert (len(history), stopping.best_epoch) == (5, None)
    assert caplog.text.count("`validation/income/auroc` is NaN at epoch 1") == 2
    assert "EarlyStopping(['income/auroc'], patience=2): `income/auroc` was no number in any epoch" in caplog.text
    assert "there is no best.safetensors" in caplog.text


def test_a_monitor_that_becomes_nan_is_no_better_and_said_once_a_fit(data, caplog):
    model, rows = judged(data)
    script = Scripted("income/auroc", [float("nan"), 0.5, float("nan"), float("nan"), 0.4, 0.9])
    stopping = pt.EarlyStopping("income/auroc", patience=3)
    trainer = pt.Trainer(model, callbacks=[script, stopping])
    assert len(trainer.fit(rows, epochs=6, **FIT)) == 5
    assert caplog.text.count("is NaN") == 1
    assert same_bits(model.state_dict(), script.states[1])


def test_what_checkpoints_of_one_monitor_kept_before_is_taken_over(tmp_path):
    checkpoint = pt.Checkpoint(tmp_path, best="loss")
    checkpoint.restore({"best": -0.5}, {})
    assert checkpoint.state() == {"best": [-0.5]}


def test_checkpoints_on_disk(data, tmp_path):
    folder = tmp_path / "runs" / "a"
    trainer = pt.Trainer(make_model(), callbacks=[pt.Checkpoint(folder, every=2, keep=2)])
    trainer.fit(data.whole, epochs=7, **FIT)
    assert sorted(os.listdir(folder)) == ["checkpoint-000000000020.safetensors", "checkpoint-000000000030.safetensors"]
    trainer = pt.Trainer(make_model(), callbacks=[pt.Checkpoint(folder, every_steps=3)])
    trainer.fit(data.whole, epochs=1, **FIT)
    assert os.listdir(folder) == ["checkpoint-000000000005.safetensors"]


def test_a_run_that_stops_early_leaves_a_checkpoint_of_where_it_stopped(data, tmp_path):
    class Stop(pt.Callback):
        def on_epoch_end(self, trainer, row):
            if row["epoch"] == 3:
                trainer.stop()

    trainer = pt.Trainer(make_model(), callbacks=[Stop(), pt.Checkpoint(tmp_path, every=2)])
    trainer.fit(data.whole, epochs=7, **FIT)
    assert trainer.epochs == 3
    assert "checkpoint-000000000015.safetensors" in os.listdir(tmp_path)


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


class PressLater(pt.Callback):
    """Ctrl-C a moment after the first epoch began, however long the way there is."""

    def on_epoch_start(self, trainer):
        if len(trainer.history) == 0:
            self.timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
            self.timer.start()


@pytest.mark.parametrize("form", [lambda data: data.whole, lambda data: [data.whole] * 50])
def test_ctrl_c_leaves_a_usable_model_and_the_history_so_far(form, caplog, listening):
    model = make_model()
    trainer, later = pt.Trainer(model), PressLater()
    with caplog.at_level("WARNING", "polytask"):
        history = trainer.fit(form(Data(20_000)), epochs=500, batch_size=8, progress=False, callbacks=later)
    later.timer.join()
    assert len(history) < 500
    assert "interrupted: the model is as after step" in caplog.text
    assert all(np.isfinite(array).all() for array in model.state_dict().values())
    before = len(history)
    assert len(trainer.fit(Data().whole, epochs=2, **FIT)) == before + 2
    assert history["epoch"] == list(range(1, before + 3))


def test_a_monitor_of_validation_rows_that_there_are_not_says_so(data):
    trainer = pt.Trainer(make_model(), callbacks=[pt.EarlyStopping("validation/age/mae")])
    with pytest.raises(
        ValueError, match="no column 'validation/age/mae'; there is no `validation` to measure it on, which"
    ):
        trainer.fit(data.whole, epochs=1, progress=False)
