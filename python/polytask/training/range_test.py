"""A learning-rate range test: steps whose learning rate rises, on a copy of a model."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import _core
from ..components.component import plain
from ..data import Mixed, Rows, Stream
from ..process import interrupts, randomness
from .settings import at_rates

#: A loss that is so many times its best, above it, ends the test.
_TOO_MUCH = 3.0


def settings(given: dict[str, Any], lrs: np.ndarray) -> dict[str, Any]:
    """A trainer's settings with these learning rates, one an epoch; groups, and other parameters under Muon,
    keep their ratios to the highest."""
    lr = given["optimizer"]["lr"]
    highest = max(lr.values()) if isinstance(lr, dict) else lr
    scale = lrs[0] / highest if highest > 0 else 0.0
    optimizer = at_rates(given["optimizer"], scale)
    if not isinstance(lr, dict):
        optimizer["lr"] = float(lrs[0])
    # note: each step of the test is an epoch to the core, whose schedules by epochs know no upper bound.
    schedule = {"name": "exponential", "gamma": float(lrs[1] / lrs[0])}
    return {**given, "optimizer": optimizer, "schedule": schedule, "observe": []}


def rates(low: Any, high: Any, steps: int) -> np.ndarray:
    """So many learning rates, each the same number of times the one before.

    Raises:
        TypeError, ValueError: ends that are no such numbers.
    """
    for value, argument in ((low, "`min_lr`"), (high, "`max_lr`")):
        number = plain(value, argument)
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise TypeError(f"{argument} should be a number above 0; got {value!r}")
        if not 0 < number < float("inf"):
            raise ValueError(f"{argument} should be a number above 0; got {value!r}")
    if low >= high:
        raise ValueError(f"`max_lr` should be above `min_lr`, {low!r}; got {high!r}")
    return np.geomspace(float(low), float(high), steps)


def losses(
    core: _core.Trainer, model: _core.Model, data: Rows | Stream | Mixed, steps: int, batch_size: int, seed: int
) -> list[float]:
    """The losses of so many steps, fewer where they grow without bounds."""
    found: list[float] = []
    batches = _batches(data, batch_size, seed)
    while len(found) < steps:
        loss = _step(core, model, batches)
        if loss is None or not np.isfinite(loss):
            break
        found.append(loss)
        core.end_epoch()
        interrupts.look()
        best, latest = min(found), float(np.mean(found[-3:]))
        if latest - best > _TOO_MUCH * max(abs(best), abs(found[0])):
            break
    return found


def _step(core: _core.Trainer, model: _core.Model, batches: Iterator[Rows]) -> float | None:
    """The loss of one step, be it of several batches; `None` where numbers are no longer finite."""
    before = core.steps
    loss = float("nan")
    while core.steps == before:
        rows = next(batches).core()
        try:
            loss = core.step(rows)[0]
        except ValueError:
            model.check(rows, False)  # for what is wrong with the batch
            if before == 0:
                raise
            return None
    return loss


def _batches(data: Rows | Stream | Mixed, batch_size: int, seed: int) -> Iterator[Rows]:
    """Batches without end, in the order of an epoch each."""
    epoch = 0
    while True:
        count = 0
        if isinstance(data, Rows):
            order = np.random.default_rng([seed, epoch]).permutation(len(data))
            for start in range(0, len(data), batch_size):
                count += 1
                yield data.take(order[start : start + batch_size])
        else:
            for rows in data.epoch(epoch):
                count += 1
                yield rows
        if count == 0:
            raise ValueError("`data` has no batch (any more)")
        epoch += 1


@contextmanager
def undrawn(data: Rows | Stream | Mixed) -> Iterator[None]:
    """Leaves random generators as they were, those of loaders included."""
    parts = data.parts if isinstance(data, Mixed) else [data]
    loaders = [part.generator for part in parts if isinstance(part, Stream)]
    own = [(each, each.get_state()) for each in loaders if each is not None]
    before = randomness.capture(None)
    try:
        yield
    finally:
        randomness.restore(before, None)
        for generator, state in own:
            generator.set_state(state)
