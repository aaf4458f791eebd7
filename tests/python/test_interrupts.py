"""Ctrl-C while a run works: a flag that waits for a moment at which nothing is half done."""

import functools
import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time

import interrupts as scenes
import numpy as np
import polytask as pt
import pytest
import torch
from conftest import Data, make_model
from polytask.process import interrupts

FIT = {"batch_size": 32, "progress": False}


@pytest.fixture(autouse=True)
def listening():
    """Ctrl-C counts, also where the tests run in the background, in which shells ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press():
    os.kill(os.getpid(), signal.SIGINT)


class Press(pt.Callback):
    """Presses Ctrl-C so many times in the middle of its work."""

    def __init__(self, times=1, pause=0.0):
        self.times, self.pause, self.through = times, pause, False

    def on_epoch_end(self, trainer, row):
        with torch.no_grad():
            for _ in range(self.times):
                press()
                time.sleep(self.pause)
            self.through = True


class Later(pt.Callback):
    called = False

    def on_epoch_end(self, trainer, row):
        self.called = True


def test_a_callback_is_not_broken_off_and_the_next_is_not_called(data, caplog):
    press, later = Press(), Later()
    trainer = pt.Trainer(make_model(), callbacks=[press, later])
    history = trainer.fit(data.whole, epochs=3, **FIT)
    assert (len(history), press.through, later.called) == (1, True, False)
    assert "interrupted: the model is as after step 5" in caplog.text
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_epochs_too_short_for_the_core_to_look_end_at_their_end(data):
    class Presses(logging.Handler):
        def emit(self, record):
            if record.getMessage().startswith("epoch 3:"):
                press()

    log, presses = logging.getLogger("polytask"), Presses()
    level = log.level
    log.addHandler(presses)
    log.setLevel("INFO")
    try:
        history = pt.Trainer(make_model()).fit(data.whole, epochs=50, **FIT)
    finally:
        log.removeHandler(presses)
        log.setLevel(level)
    assert len(history) == 3


def test_a_second_one_within_a_second_raises_at_once(data):
    press = Press(times=2)
    assert len(pt.Trainer(make_model(), callbacks=[press]).fit(data.whole, epochs=3, **FIT)) == 1
    assert not press.through
    assert torch.is_grad_enabled()


def test_a_second_one_after_a_second_waits(data, monkeypatch):
    monkeypatch.setattr(interrupts, "_AGAIN", 0.01)
    press = Press(times=2, pause=0.05)
    assert len(pt.Trainer(make_model(), callbacks=[press]).fit(data.whole, epochs=3, **FIT)) == 1
    assert press.through


def test_metrics_losses_and_loaders_are_not_broken_off(data):
    through = []

    def metric(p, y):
        press()
        through.append("metric")
        return 0.0

    def loss(p, y):
        if not through:
            press()
        through.append("loss")
        return (p - y) ** 2

    def batches():
        for _ in range(3):
            press()
            through.append("loader")
            yield data.x, data.age

    model = pt.MultiTaskModel(8, tasks=[pt.Task("age", metrics=[metric, "mae"])])
    with pytest.raises(KeyboardInterrupt):
        pt.Trainer(model).evaluate((data.x, data.age))
    assert through == ["metric"]
    through.clear()
    trainer = pt.Trainer(pt.MultiTaskModel(8, tasks=[pt.Task("age", loss=loss, metrics=[])]))
    with pytest.raises(KeyboardInterrupt):
        trainer.step((data.x, data.age))
    assert through == ["loss"]
    assert trainer.steps == 1
    through.clear()
    plain = pt.MultiTaskModel(8, tasks=[pt.Task("age")])
    with pytest.raises(KeyboardInterrupt):
        plain.predict(batches())
    assert through == ["loader"]
    trainer = pt.Trainer(plain)
    assert len(trainer.fit(batches(), epochs=1, progress=False)) == 0
    assert (trainer.steps, through) == (1, ["loader"] * 2)


def test_an_error_that_ctrl_c_brought_is_an_interruption_too(data, caplog):
    """As from a loader whose processes it reached first."""

    def batches():
        yield data.whole
        press()
        raise RuntimeError("worker exited unexpectedly")

    trainer = pt.Trainer(make_model())
    assert len(trainer.fit(batches(), epochs=1, progress=False)) == 0
    assert "interrupted: the model is as after step 1 (and RuntimeError('worker exited unexpectedly'))" in caplog.text


def test_a_handler_of_ones_own_is_called_and_put_back(data):
    calls = []

    def own(number, frame):
        calls.append(number)

    signal.signal(signal.SIGINT, own)
    press = Press()
    history = pt.Trainer(make_model(), callbacks=[press]).fit(data.whole, epochs=2, **FIT)
    assert (len(history), calls) == (2, [signal.SIGINT] * 2)
    assert signal.getsignal(signal.SIGINT) is own


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_where_ctrl_c_is_not_pythons_nothing_is_held(data, handler):
    seen = []

    class Look(pt.Callback):
        def on_epoch_end(self, trainer, row):
            seen.append(signal.getsignal(signal.SIGINT))

    signal.signal(signal.SIGINT, handler)
    pt.Trainer(make_model(), callbacks=[Look()]).fit(data.whole, epochs=1, **FIT)
    assert seen == [handler]


def test_other_threads_are_left_alone():
    """A run in another thread neither holds Ctrl-C nor ends by it; the main thread gets it at once."""
    running, pressed = threading.Event(), threading.Event()

    class Wait(pt.Callback):
        def on_epoch_start(self, trainer):
            running.set()
            pressed.wait(10)

    def press_and_wait():
        press()
        time.sleep(5)

    trainer = pt.Trainer(make_model(), callbacks=[Wait()])
    thread = threading.Thread(target=lambda: trainer.fit(Data(2000).whole, epochs=2, **FIT))
    thread.start()
    assert running.wait(10)
    with pytest.raises(KeyboardInterrupt):
        press_and_wait()
    pressed.set()
    thread.join()
    assert len(trainer.history) == 2


def test_the_cores_loops_look(data):
    """One call of the core over many batches ends before it is through."""
    x = np.zeros((3_000_000, 8), np.float32)
    model = make_model()
    timer = threading.Timer(0.2, press)
    timer.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        model.predict(x, batch_size=1)
    timer.join()
    assert time.monotonic() - began < 3
    assert model.predict(data.x)["age"].shape == (160,)


IMPORTS = """
import os, signal, sys
import numpy as np, polytask as pt
signal.signal(signal.SIGINT, signal.default_int_handler)
class Press:
    def find_spec(self, name, path, target=None):
        if name == sys.argv[1]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Press())
x = np.random.default_rng(0).normal(size=(64, 4)).astype("f4")
tasks = [pt.Task("two", classes=2, metrics=["f1"]), pt.Task("three", classes=3)]
trainer = pt.Trainer(pt.MultiTaskModel(4, tasks=tasks))
data = (x, x[:, 0] > 0, (x[:, :2] > 0).sum(1))
trainer.fit(data, epochs=2, progress=False)
print(trainer.epochs, trainer.steps, len(trainer.history))
class Look(pt.Callback):
    def on_fit_start(self, trainer):
        self.modules = set(sys.modules)
    def on_fit_end(self, trainer):
        print(sorted(name for name in set(sys.modules) - self.modules))
trainer.fit(data, validation=data, epochs=2, progress=False, callbacks=[Look()])
print(trainer.epochs)
"""


@pytest.mark.parametrize("module", ["torchmetrics.functional", "scipy.special", "matplotlib.collections"])
def test_imports_are_whole_and_come_before_the_first_step(module):
    done = subprocess.run([sys.executable, "-c", IMPORTS, module], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["0 0 0", "[]", "2"], done.stdout + done.stderr


def test_random_moments_leave_the_process_alone_and_a_model_that_goes_on(caplog, request):
    # Ctrl-C within a callback of the garbage collector is lost; Hypothesis has one once it was used.
    for each in list(gc.callbacks):
        gc.callbacks.remove(each)
        request.addfinalizer(functools.partial(gc.callbacks.append, each))
    assert scenes.interrupt(36, seed=1) == {}
