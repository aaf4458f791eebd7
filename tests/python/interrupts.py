"""Ctrl-C at random moments of fits, evaluations, predictions and loaders: `python tests/python/interrupts.py 500`."""

import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import polytask as pt
import torch
from conftest import changed, process

ROWS = 600


class Sensitive:
    """A metric like many people's own: it changes torch's state for a moment, and puts it back."""

    __name__ = "sensitive"
    higher_is_better = True

    def __call__(self, p: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        value = torch.zeros(())
        for _ in range(40):
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                value = value + (p > torch.rand(())).float().mean()
        return value


class Loader:
    """Batches made by code that changes torch's state for a moment too."""

    def __init__(self, x: np.ndarray, y: dict[str, np.ndarray]) -> None:
        self.x, self.y = x, y

    def __iter__(self) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        for first in range(0, ROWS, 60):
            part = slice(first, first + 60)
            with torch.no_grad():
                yield self.x[part], {name: values[part] for name, values in self.y.items()}


def scenes() -> dict[str, Callable[[], object]]:
    """What is interrupted: each goes on for long, or is one call that takes a while."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 6)).astype(np.float32)
    y = {"a": (x[:, 0] > 0).astype(np.int64), "b": x[:, 1].copy(), "c": x[:, 2].copy()}
    tasks = [
        pt.Task("a", loss="binary_cross_entropy", metrics=["auroc", Sensitive()]),
        pt.Task("b", metrics=["mae", Sensitive()]),
        pt.Task("c", loss=lambda p, y: (p - y).abs()),
    ]
    model = pt.MultiTaskModel(6, tasks=tasks, encoder=pt.encoder.MLP([8]), seed=0)
    trainer = pt.Trainer(model, lr=1e-3)
    forever = {"epochs": 10**6, "batch_size": 100, "progress": False}
    many = list(Loader(x, y)) * 40
    return {
        "fit": lambda: trainer.fit((x, y), validation=(x, y), **forever),
        "fit on a loader": lambda: trainer.fit(Loader(x, y), **forever),
        "evaluate": lambda: [trainer.evaluate((x, y), batch_size=10) for _ in range(1000)],
        "evaluate a loader": lambda: trainer.evaluate(many * 10),
        "predict": lambda: [model.predict(x, batch_size=7) for _ in range(10000)],
        "predict for a loader": lambda: model.predict(many * 50),
        "goes on": lambda: goes_on(trainer, (x, y)),
    }


def goes_on(trainer: pt.Trainer, data: object) -> None:
    """The model is whole, and learns."""
    assert all(np.isfinite(values).all() for values in trainer.model.state_dict().values())
    rows = len(trainer.history)
    trainer.fit(data, epochs=1, progress=False)
    assert len(trainer.history) == rows + 1
    assert np.isfinite(trainer.history["loss"][-1])


def interrupt(count: int, seed: int) -> dict[str, int]:
    """So many interrupts; gives what was no longer as it was after how many of them."""
    draw, all_of_it, wrong = random.Random(seed), scenes(), dict[str, int]()
    after = all_of_it.pop("goes on")
    after()
    before_all = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for k in range(count):
            call = list(all_of_it.values())[k % len(all_of_it)]
            before = process()
            timer = threading.Timer(draw.uniform(0.0, 0.08), os.kill, (os.getpid(), signal.SIGINT))
            try:
                timer.start()
                call()
                timer.join()
                time.sleep(0.001)
            except KeyboardInterrupt:
                pass
            timer.join()
            for name in changed(before):
                wrong[name] = wrong.get(name, 0) + 1
            torch.set_grad_enabled(True)
            after()
    finally:
        signal.signal(signal.SIGINT, before_all)
    return wrong


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    found = interrupt(count, 0)
    print(f"{count} interrupts; left changed: {found or 'nothing'}")
    sys.exit(bool(found))
