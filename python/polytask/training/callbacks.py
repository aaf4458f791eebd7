"""What happens between steps and epochs: early stopping, checkpoints, anybody's own."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arguments.keywords import checked
from ..components.component import listed, plain
from ..data.task import whole
from . import checkpoints
from .monitor import Mode, Watched

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


class _Watching(Callback):
    """One that watches columns of the history; pickles name no class beside itself."""

    _watched: Watched | None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_watched": None if self._watched is None else self._watched.describe()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        watched = state["_watched"]
        vars(self).update({**state, "_watched": None if watched is None else Watched.restore(watched)})


class EarlyStopping(_Watching):
    """Stops when what it watches has not improved for `patience` epochs.

    Arguments:
        monitor: a column of the history, or several: then the run stops when none of them has improved. The validation
            column is taken if there is one.
        patience: epochs without improvement that are tolerated.
        min_delta: how much better counts as better.
        mode: "min", "max", or "auto": as the metric says itself. With several monitors one for each, as a list in
            their order or `{monitor: mode}`, where what is left out is "auto".
        restore_best: whether the model gets the parameters of the best epoch (of the first monitor) back at the end.

    A monitor that is NaN is no better than it was, and the log says so; while none was a number yet, the epochs do not
    count for `patience`, since nothing could be kept.
    """

    @checked
    def __init__(
        self,
        monitor: str | Sequence[str] = "loss",
        patience: int = 5,
        min_delta: float = 0.0,
        mode: Mode = "auto",
        restore_best: bool = True,
    ) -> None:
        self._watched: Watched = Watched(monitor, mode)
        self.patience = whole(patience, "`patience`", 0)
        self.min_delta = _delta(min_delta)
        self.restore_best = bool(restore_best)
        self.wait = 0
        self.best_epoch: int | None = None
        self._kept: dict[str, np.ndarray] = {}

    @property
    def monitors(self) -> list[str]:
        """What is watched."""
        return self._watched.names

    @property
    def best(self) -> list[float | None]:
        """The best value of each monitor, negative where lower is better; `None` while it was no number."""
        return self._watched.best

    def on_fit_start(self, trainer: Trainer) -> None:
        self._watched.begin(trainer)
        self._watched.best = [None] * len(self.monitors)
        self.wait, self.best_epoch, self._kept = 0, None, {}

    def on_epoch_end(self, trainer: Trainer, row: dict[str, Any]) -> None:
        improved = self._watched.look(trainer, row, self.min_delta)
        if improved[0]:
            self.best_epoch = row["epoch"]
            self._kept = trainer.model.state_dict() if self.restore_best else {}
        if any(each is not None for each in improved):
            self.wait = 0 if any(improved) else self.wait + 1
        if self.wait >= max(self.patience, 1):
            _log.info("stopped at epoch %s: %s did not improve for %s", row["epoch"], listed(self.monitors), self.wait)
            trainer.stop()

    def on_fit_end(self, trainer: Trainer) -> None:
        if self._kept:
            trainer.model.load_state_dict(self._kept)
        if self.best_epoch is None:
            _log.warning("%s: `%s` was no number in any epoch; the model stays as after the last one",
                         self, self.monitors[0])  # fmt: skip

    def state(self) -> dict[str, Any]:
        return {"wait": self.wait, "best": self.best, "best_epoch": self.best_epoch}

    def arrays(self) -> dict[str, np.ndarray]:
        return self._kept

    def restore(self, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        best = [None if each is None else float(each) for each in state["best"]]
        if len(best) != len(self.monitors):
            raise ValueError(f"it watched {len(best)} columns, not {len(self.monitors)}")
        epoch = state["best_epoch"]
        self.wait, self._watched.best, self.best_epoch = int(state["wait"]), best, None if epoch is None else int(epoch)
        self._kept = arrays
        if self.restore_best and epoch is not None and not arrays:
            _log.warning("%s: the checkpoint lacks the parameters of the best epoch, %s", self, epoch)

    def __repr__(self) -> str:
        return f"EarlyStopping({self.monitors!r}, patience={self.patience})"


class Checkpoint(_Watching):
    """Writes everything a run needs to go on with the same bits: `trainer.fit(..., resume=path)`.

    A file appears complete or not at all, and older ones go only afterwards: whenever the run dies, the last complete
    checkpoint can be read. While `fit` runs no other run can use the folder.

    Arguments:
        path: the folder.
        every: epochs from one to the next.
        every_steps: batches from one to the next within an epoch (of rows in memory), in addition.
        keep: how many of the last ones to keep.
        best: a column of the history; the model of its best epoch is kept beside as `best.safetensors`. Of several
            columns each has a file of its own: that of `income/auroc` is `best-income-auroc.safetensors`.
        mode: as for `pt.EarlyStopping`, of `best`. An epoch in which it is NaN is never the best one.
    """

    last = True

    @checked
    def __init__(
        self,
        path: str | PathLike[str],
        *,
        every: int = 1,
        every_steps: int | None = None,
        keep: int = 1,
        best: str | Sequence[str] | None = None,
        mode: Mode = "auto",
    ) -> None:
        self.path = checkpoints.folder(path)
        self.every = whole(every, "`every`")
        self.every_steps = None if every_steps is None else whole(every_steps, "`every_steps`")
        self.keep = whole(keep, "`keep`")
        self._watched = None if best is None else Watched(best, mode)
        self._files = [] if self._watched is None else _files(self._watched.names)

    def on_fit_start(self, trainer: Trainer) -> None:
        os.makedirs(self.path, exist_ok=True)
        if trainer._loop is not None:
            trainer._loop.hold(self.path)
        if self._watched is not None:
            self._watched.begin(trainer)

    def on_steps(self, trainer: Trainer) -> None:
        if trainer.resumable:
            self._save(trainer)

    def on_epoch_end(self, trainer: Trainer, row: dict[str, Any]) -> None:
        improved = [] if self._watched is None else self._watched.look(trainer, row)
        for file, better in zip(self._files, improved, strict=True):
            if better:
                trainer.model.save(os.path.join(self.path, file))
        if row["epoch"] % self.every == 0 or trainer.stopping:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        trainer.save(checkpoints.name(self.path, trainer.batches))
        checkpoints.clean(self.path, trainer.batches, self.keep)

    def on_fit_end(self, trainer: Trainer) -> None:
        best = [] if self._watched is None else self._watched.best
        for file, value in zip(self._files, best, strict=True):
            if value is None:
                _log.warning("%s: there is no %s, since what it watches was no number in any epoch", self, file)

    def state(self) -> dict[str, Any]:
        return {"best": None if self._watched is None else self._watched.best}

    def restore(self, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        if self._watched is not None and state["best"] is not None:
            # One number is what the first versions kept.
            best = state["best"] if isinstance(state["best"], list) else [state["best"]]
            if len(best) != len(self._watched.best):
                raise ValueError(f"it watched {len(best)} columns, not {len(self._watched.best)}")
            self._watched.best = [None if each is None else float(each) for each in best]

    def __repr__(self) -> str:
        return f"Checkpoint({fspath(self.path)!r})"


def _delta(value: Any) -> float:
    value = plain(value, "`min_delta`")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"`min_delta` should be a number of at least 0; got {value!r}")
    if value < 0:
        raise ValueError(f"`min_delta` should be a number of at least 0; got {value!r}")
    return float(value)


def _files(monitors: Sequence[str]) -> list[str]:
    """Where the best model of each is kept."""
    if len(monitors) == 1:
        return ["best.safetensors"]
    files = [f"best-{monitor.replace('/', '-')}.safetensors" for monitor in monitors]
    if len(set(files)) < len(files):
        raise ValueError(f"`best`: {listed(monitors)} would be kept in files of one name")
    return files
