"""One thread, one small data set, one small model for all tests."""

import gc
import os
import random
import signal
import threading
import warnings
from collections.abc import Callable, Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")

import numpy as np
import polytask as pt
import pytest
import torch
from polytask import metrics
from polytask.process import interrupts

torch.set_num_threads(1)

# A shell's background jobs ignore Ctrl-C, which tests send and notebooks handle: here it is as in the foreground.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Libraries add to the warning filters and the environment when they are first imported, torch's optimizers when one
# first steps, which is no doing of the test that comes first.
metrics.load()
torch.optim.SGD([torch.zeros(1, requires_grad=True)]).step()


class Data:
    """Rows whose targets can be learned: income and topics from signs, age from a sum."""

    def __init__(self, rows: int = 160, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.x = rng.normal(size=(rows, 8)).astype(np.float32)
        self.income = (self.x[:, 0] + self.x[:, 1] > 0).astype(np.int64)
        self.age = (self.x[:, :3].sum(1) + 0.1 * rng.normal(size=rows)).astype(np.float32)
        self.topics = (self.x[:, 2:5] > 0).astype(np.float32)

    @property
    def targets(self) -> dict[str, np.ndarray]:
        return {"income": self.income, "age": self.age, "topics": self.topics}

    @property
    def whole(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        return self.x, self.targets


def make_tasks() -> list[pt.Task]:
    return [
        pt.Task("income", classes=2, metrics=["auroc", "accuracy"]),
        pt.Task("age", weight=0.5),
        pt.Task("topics", loss="binary_cross_entropy", outputs=3),
    ]


def make_model(seed: int = 0, **more: object) -> pt.MultiTaskModel:
    return pt.MultiTaskModel(8, tasks=make_tasks(), encoder=pt.encoder.MLP([16, 8], dropout=0.1), seed=seed, **more)


def same_bits(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(array, b[name]) for name, array in a.items())


def interrupted(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, at: int) -> Callable[[], None]:
    """Has a call of a method end in Ctrl-C, before it does anything; gives what makes it whole again."""
    whole = getattr(owner, name)
    calls: list[object] = []

    def some(self: object, *how: object) -> object:
        calls.append(self)
        if len(calls) > at:
            raise KeyboardInterrupt
        return whole(self, *how)

    monkeypatch.setattr(owner, name, some)
    return lambda: monkeypatch.setattr(owner, name, whole)


def without_seconds(history: pt.History) -> list[dict[str, object]]:
    """Rows of a history that can be compared: NaN as None, and no time."""
    return [{k: None if v != v else v for k, v in row.items() if k != "seconds"} for row in history]


@pytest.fixture
def data() -> Data:
    return Data()


@pytest.fixture
def model() -> pt.MultiTaskModel:
    return make_model()


#: Newcomers' scripts that do not work as typed yet (docs/habits.md has what comes), by group.
NOT_YET: dict[str, set[str]] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Strict: a script that begins to work fails until it is taken off `NOT_YET`."""
    for item in items:
        group, name = item.path.stem.removeprefix("test_habits_"), item.name.removeprefix("test_")
        if name in NOT_YET.get(group, ()):
            item.add_marker(pytest.mark.xfail(strict=True, reason="does not work as typed yet: see `NOT_YET`"))


def process() -> dict[str, object]:
    """What a call could leave changed in the process; arrays as bytes, so that it can be compared."""
    kind, keys, *rest = np.random.get_state()
    return {
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "default dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "torch's generator": torch.get_rng_state().numpy().tobytes(),
        "NumPy's generator": (kind, keys.tobytes(), *rest),
        "Python's generator": random.getstate(),
        "NumPy's errors": np.geterr(),
        "warning filters": list(warnings.filters),
        # torch watches the processes of loaders from the first one on.
        "signal handlers": {n: signal.getsignal(n) for n in signal.valid_signals() - {signal.SIGCHLD}},
        "os.environ": {key: value for key, value in os.environ.items() if key != "PYTEST_CURRENT_TEST"},
    }


def changed(before: dict[str, object]) -> list[str]:
    """Names of what is no longer as it was."""
    after = process()
    return [name for name, value in before.items() if after[name] != value]


@pytest.fixture(autouse=True)
def process_as_it_was() -> Iterator[None]:
    """Every test leaves the process as it found it."""
    before = process()
    yield
    assert changed(before) == []


@pytest.fixture
def press_ctrl_c() -> Iterator[Callable[[float], None]]:
    """Presses Ctrl-C once, so many seconds after a run has begun to look for it, however slow the machine is.

    Before that an exception may be lost in a callback of the garbage collector, as Hypothesis has one.
    """
    callbacks, gc.callbacks[:] = gc.callbacks[:], []
    over = threading.Event()
    threads = []

    def wait(delay: float) -> None:
        while not isinstance(signal.getsignal(signal.SIGINT), interrupts._Waiting):
            if over.wait(0.005):
                return
        if not over.wait(delay):
            os.kill(os.getpid(), signal.SIGINT)

    def press(delay: float) -> None:
        threads.append(threading.Thread(target=wait, args=(delay,)))
        threads[-1].start()

    yield press
    over.set()
    for thread in threads:
        thread.join()
    gc.callbacks[:] = callbacks


@pytest.fixture
def own_seed() -> Iterator[None]:
    """For tests that seed torch's global generator themselves: it is put back."""
    with torch.random.fork_rng(devices=[]):
        yield
