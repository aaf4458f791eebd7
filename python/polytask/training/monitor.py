"""What a monitor means: a column of the history, the direction in which it is better, and how good it was at best."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from ..arguments.messages import listed, meant
from ..model.model import MultiTaskModel
from ..results import observation
from ..results.columns import asked
from .callback import Callback
from .run import Run

#: One direction for one monitor, one for each of several in their order or by name, or as the metrics say themselves.
Mode: TypeAlias = str | Sequence[str] | Mapping[str, str]

_log = logging.getLogger("polytask")

#: Sums of losses over the tasks.
_SUMS = ("loss", "objective")


def find(
    monitor: str, mode: str, columns: Sequence[str], model: MultiTaskModel, argument: str = "`monitor`"
) -> tuple[str, int]:
    """The column for a monitor, that of the validation if there is one, and 1 if higher is better, else -1.

    `mode` is "min", "max", or "auto": as the metric says itself.

    Raises:
        ValueError: there is no such column, or it is not known which direction is better.
    """
    column = next((name for name in (f"validation/{monitor}", monitor) if name in columns), None)
    if column is None:
        short = [name.removeprefix("validation/") for name in columns]
        advice = f"{asked(monitor, [*columns, *short])}it will have {listed(columns)}"
        if monitor.startswith("validation/") and not any(name.startswith("validation/") for name in columns):
            advice = f"there is no `validation` to measure it on, which `fit` takes: {advice}"
        raise ValueError(f"{argument}: the history will have no column {monitor!r}; {advice}")
    higher = higher_is_better(column, model) if mode == "auto" else mode == "max"
    if higher is None:
        raise ValueError(f'{argument}: whether a higher {monitor!r} is better is not known; say mode="max" or "min" '
                         f'(for one of several mode={{{monitor!r}: "max"}})')  # fmt: skip
    return column, 1 if higher else -1


def higher_is_better(column: str, model: MultiTaskModel) -> bool | None:
    """Whether more of a column is better; `None` if nobody says so."""
    task, _, metric = column.removeprefix("validation/").rpartition("/")
    for known, metrics in zip(model.tasks, model.metrics, strict=True):
        for each in metrics:
            if (known.name, each.name) == (task, metric):
                return each.higher_is_better
    return False if metric in _SUMS or column == observation.CONFLICT else None


class Watched:
    """One or more monitors, a direction each, and the best value of each so far.

    Arguments:
        monitors: columns of the history; that of the validation is taken if there is one.
        mode: "auto", a direction for a single monitor, or directions in the order of the monitors or by name, where
            what is not named is "auto".
    """

    def __init__(self, monitors: Any, mode: Any) -> None:
        self.names = _names(monitors)
        self.modes = _modes(mode, self.names)
        #: The best value of each, negative where lower is better; `None` while it was no number.
        self.best: list[float | None] = [None] * len(self.names)
        self._warned: set[str] = set()

    def describe(self) -> dict[str, Any]:
        """All of it, as a pickle keeps it."""
        return {"monitors": self.names, "mode": self.modes, "best": self.best}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Watched:
        """What `describe` gave."""
        watched = cls(state["monitors"], state["mode"])
        watched.best = list(state["best"])
        return watched

    def begin(self, run: Run) -> list[str]:
        """Refuses, before the first step, what the history will not have or nobody knows the direction of; gives the
        columns that are watched.
        """
        self._warned.clear()
        return [run.watch(name, mode)[0] for name, mode in zip(self.names, self.modes, strict=True)]

    def look(self, run: Run, row: dict[str, Any], least: float = 0.0) -> list[bool | None]:
        """Whether each is better than its best by more than `least`; `None` for one that never was a number."""
        return [self._look(j, run, row, least) for j in range(len(self.names))]

    def _look(self, j: int, run: Run, row: dict[str, Any], least: float) -> bool | None:
        column, sign = run.watch(self.names[j], self.modes[j])
        value = sign * row[column]
        best = self.best[j]
        if value != value:
            self._warn(column, row["epoch"], best)
            return None if best is None else False
        better = best is None or value > best + least
        if better:
            self.best[j] = value
        return better

    def _warn(self, column: str, epoch: int, best: float | None) -> None:
        """Says once a fit that a monitor cannot be judged by."""
        if column not in self._warned:
            self._warned.add(column)
            so = (
                "an epoch without it is taken as no better"
                if best is not None
                else "no epoch can be judged by it so far"
            )
            _log.warning("`%s` is NaN at epoch %s, as where labels are missing or all alike: %s", column, epoch, so)


class Watching(Callback):
    """One that watches columns of the history; pickles name no class beside itself."""

    _watched: Watched | None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_watched": None if self._watched is None else self._watched.describe()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        watched = state["_watched"]
        vars(self).update({**state, "_watched": None if watched is None else Watched.restore(watched)})


def _names(monitors: Any) -> list[str]:
    names = [monitors] if isinstance(monitors, str) else monitors
    if not isinstance(names, Sequence) or not names or not all(isinstance(each, str) for each in names):
        raise TypeError(f"`monitor` should be the name of a column of the history, or several; got {monitors!r}")
    return list(names)


def _modes(mode: Any, names: Sequence[str]) -> list[str]:
    if mode == "auto":
        return ["auto"] * len(names)
    if isinstance(mode, Mapping):
        unknown = next((name for name in mode if name not in names), None)
        if unknown is not None:
            raise ValueError(f"`mode`: {unknown!r} is not watched; {meant(unknown, names)}there are {listed(names)}")
        modes = [mode.get(name, "auto") for name in names]
    else:
        modes = [mode] if isinstance(mode, str) or not isinstance(mode, Sequence) else list(mode)
    wrong = next((each for each in modes if each not in ("auto", "min", "max")), None)
    if wrong is not None:
        raise ValueError(f'`mode` should be "auto", "min" or "max"; got {wrong!r}')
    if len(modes) != len(names):
        raise ValueError(f"`mode` should be a direction for each of {listed(names)}, a list or by name; got {mode!r}")
    return modes
