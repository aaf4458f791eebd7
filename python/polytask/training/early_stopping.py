"""A callback that stops a run which gets no better."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arguments.keywords import checked
from ..arguments.messages import listed
from ..arguments.numbers import whole
from ..components.component import plain
from .monitor import Mode, Watched, Watching
from .run import Run

_log = logging.getLogger("polytask")


class EarlyStopping(Watching):
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

    beside_others = True

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

    def on_fit_start(self, trainer: Run) -> None:
        columns = self._watched.begin(trainer)
        if not any(column.startswith("validation/") for column in columns):
            _log.warning("%s: there are no validation data, so that `%s` of the training rows is watched", self,
                         columns[0])  # fmt: skip
        self._watched.best = [None] * len(self.monitors)
        self.wait = 0
        self.best_epoch = None
        self._kept = {}

    def on_epoch_end(self, trainer: Run, row: dict[str, Any]) -> None:
        improved = self._watched.look(trainer, row, self.min_delta)
        if improved[0]:
            self.best_epoch = row["epoch"]
            self._kept = dict(trainer.model.state_dict()) if self.restore_best else {}
        if any(each is not None for each in improved):
            self.wait = 0 if any(improved) else self.wait + 1
        if self.wait >= max(self.patience, 1):
            _log.info("stopped at epoch %s: %s did not improve for %s", row["epoch"], listed(self.monitors), self.wait)
            trainer.stop()

    def on_fit_end(self, trainer: Run) -> None:
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
        best_epoch = None if epoch is None else int(epoch)
        # What may be refused was read: from here on all of it changes.
        self.wait = int(state["wait"])
        self.best_epoch = best_epoch
        self._watched.best = best
        self._kept = arrays
        if self.restore_best and epoch is not None and not arrays:
            _log.warning("%s: the checkpoint lacks the parameters of the best epoch, %s", self, epoch)

    def __repr__(self) -> str:
        return f"EarlyStopping({self.monitors!r}, patience={self.patience})"


def _delta(value: Any) -> float:
    value = plain(value, "`min_delta`")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"`min_delta` should be a number of at least 0; got {value!r}")
    if value < 0:
        raise ValueError(f"`min_delta` should be a number of at least 0; got {value!r}")
    return float(value)
