"""What happens between steps and epochs: early stopping, checkpoints, anybody's own."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

import numpy as np

from . import checkpoints
from .component import listed, plain
from .task import whole

if TYPE_CHECKING:
    from .trainer import Trainer

_log = logging.getLogger("polytask")


class Callback:
    """Override what you need; nothing happens in the rest.

    `every_steps` is a number of batches after which `on_steps` is called, with `accumulate` after the step that takes
    them in; without it there is no Python between the steps of an epoch. `state` and `restore` carry what the callback
    knows through a checkpoint: JSON, and arrays.
    """

    every_steps: int | None = None
    #: Whether it is called after all others, since it keeps what they did.
    last = False

    def on_fit_start(self, trainer: Trainer) -> None:
        """Before the first step; what is raised here leaves the model untouched."""

    def on_epoch_start(self, trainer: Trainer) -> None:
        """Before an epoch."""

    def on_steps(self, trainer: Trainer) -> None:
        """After each `every_steps` batches."""

    def on_epoch_end(self, trainer: Trainer, row: dict[str, Any]) -> None:
        """After an epoch, whose row the history has already; `trainer.stop()` makes it the last one."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """After the last epoch; not after an interruption."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, as JSON."""
        return {}

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays that a checkpoint keeps."""
        return {}

    def restore(self, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Goes on from what a checkpoint kept."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class EarlyStopping(Callback):
    """Stops when what it watches has not improved for `patience` epochs.

    Arguments:
        monitor: a column of the history, or several: then the run stops when none of them has improved. The validation
            column is taken if there is one.
        patience: epochs without improvement that are tolerated.
        min_delta: how much better counts as better.
        mode: "min", "max", or "auto": as the metric says itself.
        restore_best: whether the model gets the parameters of the best epoch (of the first monitor) back at the end.
    """

    def __init__(
        self,
        monitor: str | Sequence[str] = "loss",
        patience: int = 5,
        min_delta: float = 0.0,
        mode: str = "auto",
        restore_best: bool = True,
    ) -> None:
        self.monitors = _monitors(monitor)
        self.patience = whole(patience, "`patience`", 0)
        self.min_delta = _delta(min_delta)
        self.mode = _mode(mode)
        self.restore_best = bool(restore_best)
        self.wait = 0
        self.best: list[float | None] = [None] * len(self.monitors)
        self.best_epoch: int | None = None
        self._kept: dict[str, np.ndarray] = {}

    def on_fit_start(self, trainer: Trainer) -> None:
        for monitor in self.monitors:
            trainer.watch(monitor, self.mode)
        self.wait, self.best, self.best_epoch, self._kept = 0, [None] * len(self.monitors), None, {}

    def on_epoch_end(self, trainer: Trainer, row: dict[str, Any]) -> None:
        improved = [self._look(j, trainer, row) for j in range(len(self.monitors))]
        if improved[0]:
            self.best_epoch = row["epoch"]
            self._kept = trainer.model.state_dict() if self.restore_best else {}
        self.wait = 0 if any(improved) else self.wait + 1
        if self.wait >= max(self.patience, 1):
            _log.info("stopped at epoch %s: %s did not improve for %s", row["epoch"], listed(self.monitors), self.wait)
            trainer.stop()

    def _look(self, j: int, trainer: Trainer, row: dict[str, Any]) -> bool:
        column, sign = trainer.watch(self.monitors[j], self.mode)
        value, best = sign * row[column], self.best[j]
        better = value == value and (best is None or value > best + self.min_delta)
        if better:
            self.best[j] = value
        return better

    def on_fit_end(self, trainer: Trainer) -> None:
        if self._kept:
            trainer.model.load_state_dict(self._kept)

    def state(self) -> dict[str, Any]:
        return {"wait": self.wait, "best": self.best, "best_epoch": self.best_epoch}

    def arrays(self) -> dict[str, np.ndarray]:
        return self._kept

    def restore(self, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.wait, self.best, self.best_epoch = state["wait"], state["best"], state["best_epoch"]
        self._kept = arrays

    def __repr__(self) -> str:
        return f"EarlyStopping({self.monitors!r}, patience={self.patience})"


class Checkpoint(Callback):
    """Writes everything a run needs to go on with the same bits: `trainer.fit(..., resume=path)`.

    A file appears complete or not at all, and older ones go only afterwards: whenever the run dies, the last complete
    checkpoint can be read.

    Arguments:
        path: the folder.
        every: epochs from one to the next.
        every_steps: batches from one to the next within an epoch (of rows in memory), in addition.
        keep: how many of the last ones to keep.
        best: a column of the history; the model of its best epoch is kept beside as `best.safetensors`.
    """

    last = True

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        every: int = 1,
        every_steps: int | None = None,
        keep: int = 1,
        best: str | None = None,
    ) -> None:
        self.path = checkpoints.folder(path)
        self.every = whole(every, "`every`")
        self.every_steps = None if every_steps is None else whole(every_steps, "`every_steps`")
        self.keep = whole(keep, "`keep`")
        self.monitor = None if best is None else _monitors(best)[0]
        self._best: float | None = None

    def on_fit_start(self, trainer: Trainer) -> None:
        os.makedirs(self.path, exist_ok=True)
        if self.monitor is not None:
            trainer.watch(self.monitor, "auto")

    def on_steps(self, trainer: Trainer) -> None:
        if trainer.resumable:
            self._save(trainer)

    def on_epoch_end(self, trainer: Trainer, row: dict[str, Any]) -> None:
        if self.monitor is not None:
            column, sign = trainer.watch(self.monitor, "auto")
            value = sign * row[column]
            if value == value and (self._best is None or value > self._best):
                self._best = value
                trainer.model.save(os.path.join(self.path, "best.safetensors"))
        if row["epoch"] % self.every == 0 or trainer.stopping:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        trainer.save(checkpoints.name(self.path, trainer.batches))
        checkpoints.clean(self.path, trainer.batches, self.keep)

    def state(self) -> dict[str, Any]:
        return {"best": self._best}

    def restore(self, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self._best = state["best"]

    def __repr__(self) -> str:
        return f"Checkpoint({fspath(self.path)!r})"


def _monitors(monitor: Any) -> list[str]:
    monitors = [monitor] if isinstance(monitor, str) else monitor
    if not isinstance(monitors, Sequence) or not monitors or not all(isinstance(each, str) for each in monitors):
        raise TypeError(f"`monitor` should be the name of a column of the history, or several; got {monitor!r}")
    return list(monitors)


def _delta(value: Any) -> float:
    value = plain(value, "`min_delta`")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"`min_delta` should be a number of at least 0; got {value!r}")
    if value < 0:
        raise ValueError(f"`min_delta` should be a number of at least 0; got {value!r}")
    return float(value)


def _mode(mode: Any) -> str:
    if mode not in ("auto", "min", "max"):
        raise ValueError(f'`mode` should be "auto", "min" or "max"; got {mode!r}')
    return str(mode)
