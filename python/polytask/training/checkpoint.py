"""A callback that keeps checkpoints of a run, and the models of its best epochs."""

import logging
import os
from collections.abc import Sequence
from os import PathLike, fspath
from typing import Any

import numpy as np

from ..arguments.keywords import checked
from ..arguments.messages import listed
from ..arguments.numbers import whole
from ..arguments.paths import folder_path
from . import checkpoints
from .monitor import Mode, Watched, Watching
from .run import Run

_log = logging.getLogger("polytask")


class Checkpoint(Watching):
    """Writes everything a run needs to go on with the same bits: `trainer.fit(..., resume=path)`.

    A file appears complete or not at all, and older ones go only afterwards: whenever the run dies, the last complete
    checkpoint can be read. While `fit` runs no other run can use the folder.

    Arguments:
        path: the folder.
        every: epochs from one to the next.
        every_steps: batches from one to the next within an epoch, in addition: of rows in memory, of a `Dataset`, of a
            loader with `state_dict` and `load_state_dict`. Others resume between epochs, which is logged.
        keep: how many of the last ones to keep.
        best: a column of the history; the model of its best epoch is kept beside as `best.safetensors`. Of several
            columns each has a file of its own: that of `income/auroc` is `best-income-auroc.safetensors`.
        mode: as for `pt.EarlyStopping`, of `best`. An epoch in which it is NaN is never the best one.
    """

    last = True
    of_one_run = True
    _passed = False

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
        self.path = folder_path(path)
        self.every = whole(every, "`every`")
        self.every_steps = None if every_steps is None else whole(every_steps, "`every_steps`")
        self.saves = every_steps is not None
        self.keep = whole(keep, "`keep`")
        self._watched = None if best is None else Watched(best, mode)
        self._files = [] if self._watched is None else _files(self._watched.names)

    def on_fit_start(self, trainer: Run) -> None:
        os.makedirs(self.path, exist_ok=True)
        trainer.hold(self.path)
        if self._watched is not None:
            self._watched.begin(trainer)

    def on_steps(self, trainer: Run) -> None:
        if trainer.resumable:
            self._save(trainer)
        elif not self._passed:
            self._passed = True
            _log.warning("%s: checkpoints are written between epochs alone, since `data` does not say where it is "
                         "within one (`state_dict` and `load_state_dict`)", self)  # fmt: skip

    def on_epoch_end(self, trainer: Run, row: dict[str, Any]) -> None:
        improved = [] if self._watched is None else self._watched.look(trainer, row)
        for file, better in zip(self._files, improved, strict=True):
            if better:
                trainer.model.save(os.path.join(self.path, file))
        if row["epoch"] % self.every == 0 or trainer.stopping:
            self._save(trainer)

    def _save(self, trainer: Run) -> None:
        trainer.save(checkpoints.name(self.path, trainer.batches))
        checkpoints.clean(self.path, trainer.batches, self.keep)

    def on_fit_end(self, trainer: Run) -> None:
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


def _files(monitors: Sequence[str]) -> list[str]:
    """Where the best model of each is kept."""
    if len(monitors) == 1:
        return ["best.safetensors"]
    files = [f"best-{monitor.replace('/', '-')}.safetensors" for monitor in monitors]
    if len(set(files)) < len(files):
        raise ValueError(f"`best`: {listed(monitors)} would be kept in files of one name")
    return files
