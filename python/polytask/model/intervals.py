"""Intervals around predicted numbers that hold as often as is said, by held-out rows."""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..arguments.keywords import checked
from ..data.task import Task
from ..process import interrupts
from ..results.columns import none_of
from ..results.table import Table, shown, text
from .labelled import Labelled

_log = logging.getLogger("polytask")


class Predictor(Protocol):
    """What predicts numbers, and reads labels beside its predictions."""

    @property
    def tasks(self) -> Sequence[Task]: ...
    def predict(self, x: Any, *, batch_size: int = 4096) -> Any: ...
    def _learns_logarithms(self, task: str) -> bool: ...
    def _labelled(self, data: Any, weights: Any, batch_size: int) -> dict[str, Labelled]: ...


class Band(NamedTuple):
    """What a task says of a row before it is widened: a number lies within it where `low - s u <= y <= high + s u`.

    Attributes:
        low, high: `[rows, outputs]`, the same where one number is predicted.
        unit: `[rows, outputs]`, by what a width is multiplied there.
        logs: whether all of it is of `log(1 + y)`.
    """

    low: np.ndarray
    high: np.ndarray
    unit: np.ndarray
    logs: bool = False

    def scores(self, known: np.ndarray) -> np.ndarray:
        """How many units the band must be widened by to hold the number, `[rows, outputs]`, NaN where it is missing;
        below 0 within the band.
        """
        y = np.where(known <= -1, -np.inf, _logarithm(known)) if self.logs else known
        return np.asarray(np.maximum(self.low - y, y - self.high) / self.unit)

    def widened(self, width: np.ndarray) -> np.ndarray:
        """`[rows, outputs, 2]`, for a width of each output, `[outputs]`; what ends before it begins is one point."""
        low, high = self.low - width * self.unit, self.high + width * self.unit
        crossed = low > high
        with np.errstate(invalid="ignore"):  # ends that are infinite have no middle, and do not cross
            middle = 0.5 * (low + high)
        ends = np.stack([np.where(crossed, middle, low), np.where(crossed, middle, high)], axis=-1)
        return np.where(np.isinf(ends), ends, np.expm1(ends)) if self.logs else ends


def band(task: Task, outputs: np.ndarray, logs: bool = False) -> Band:
    """Of predictions `[rows, width]` in the units of the targets; `logs`: whether it is one of logarithms."""
    parts = outputs.astype(np.float64).reshape(len(outputs), task.outputs, outputs.shape[1] // task.outputs)
    way = _way(task)
    if way == "quantiles":
        order = np.argsort(_quantiles(task))
        ends = parts[..., order[0]], parts[..., order[-1]]
        low, high = np.minimum(*ends), np.maximum(*ends)
        return Band(*((_logarithm(low), _logarithm(high)) if logs else (low, high)), np.ones(low.shape), logs)
    center = parts[..., 0] if way == "deviation" else parts[..., (parts.shape[2] - 1) // 2]
    unit = np.sqrt(parts[..., 1]) if way == "deviation" else np.ones_like(center)
    center = _logarithm(center) if logs else center
    # note: a variance that is 0 in single precision has an interval of no width, as it says.
    return Band(center, center, np.maximum(unit, np.finfo(np.float64).tiny), logs)


def _logarithm(values: np.ndarray) -> np.ndarray:
    """`log(1 + y)`, where there is none that of the smallest number that has one; NaN where it is missing."""
    return np.asarray(np.log1p(np.maximum(values, np.nextafter(-1.0, 0.0))))


def _quantiles(task: Task) -> list[float]:
    return list(getattr(task.loss, "quantiles", ()) or ())


def _way(task: Task) -> str:
    name = getattr(task.loss, "name", None)
    if name == "gaussian_nll":
        return "deviation"
    return "quantiles" if name == "quantile" and len(set(_quantiles(task))) > 1 else "residual"


#: What is said of each way.
_WAYS = {
    "deviation": "residuals by the predicted deviation",
    "quantiles": "predicted quantiles, widened",
    "residual": "residuals",
}


class PredictionIntervals(Table):
    """Intervals for new rows around what a model predicts, from rows that it was not trained on; see
    `pt.MultiTaskModel.intervals`. Shown as a table with a line an output.

    `intervals.predict(x, 0.9)` gives for each task its lower and upper ends. They belong to the model as it was: after
    more training they are to be made anew. A copy or a pickle has a copy of the model.

    Attributes:
        tasks: names of the tasks.
    """

    #: Tasks whose intervals are of logarithms; none in pickles of before.
    _logs: frozenset[str] = frozenset()

    def __init__(
        self, predictor: Predictor, scores: Mapping[str, Sequence[np.ndarray]], logs: Iterable[str] = ()
    ) -> None:
        self._predictor = predictor
        self._logs = frozenset(logs)
        self._scores = {name: [np.sort(each) for each in of] for name, of in scores.items()}
        self.tasks = tuple(self._scores)

    @classmethod
    def of(cls, predictor: Predictor, names: Sequence[str], found: Mapping[str, Labelled]) -> "PredictionIntervals":
        """From labels beside predictions; rows of weight 0 are left out.

        Raises:
            ValueError: a task without a label.
        """
        tasks = {task.name: task for task in predictor.tasks}
        logs = [name for name in names if predictor._learns_logarithms(name)]
        scores = {}
        for name in names:
            if name not in found:
                raise ValueError(f"`data` have no targets of task `{name}`")
            outputs, known, weights = found[name]
            there = band(tasks[name], outputs, name in logs).scores(known)[weights > 0]
            scores[name] = [column[~np.isnan(column)] for column in there.T]
            if any(not len(column) for column in scores[name]):
                raise ValueError(f"`data` have no label for task `{name}`, or for one of its outputs")
        return cls(predictor, scores, logs)

    @property
    def rows(self) -> dict[str, list[int]]:
        """How many labels each task's intervals rest on, an output each."""
        return {name: [len(each) for each in of] for name, of in self._scores.items()}

    def widths(self, level: float = 0.9) -> dict[str, np.ndarray]:
        """By how much bands are widened on either side, `[outputs]`: in the units of the targets, of `log(1 + y)` where
        that is what a task learns (`scale="log1p"`), or in predicted deviations; infinite where there are too few rows
        for the level.

        Raises:
            TypeError, ValueError: no level between 0 and 1.
        """
        share = _level(level)
        return {name: np.array([_quantile(each, share) for each in of]) for name, of in self._scores.items()}

    @checked
    def predict(self, x: Any, level: float = 0.9, *, batch_size: int = 4096) -> dict[str, np.ndarray]:
        """The intervals of rows, features in any form: `{task: [rows, 2]}`, or `[rows, outputs, 2]` of several outputs,
        in the units of the targets and in double precision.

        A level `c` needs `c / (1 - c)` rows, 9 for 0.9 and 19 for 0.95: with fewer of them no finite interval holds as
        often as that, and ends are infinite, which is logged.

        Raises:
            TypeError, ValueError: no level between 0 and 1, or features that do not fit the model's inputs.
        """
        widths = self.widths(level)
        for name, width in widths.items():
            if np.isinf(width).any():
                rows = min(self.rows[name])
                needed = math.ceil(_level(level) / (1 - _level(level)))
                _log.warning("task `%s`: a level of %g needs %d rows, and the intervals rest on %d: they are infinite",
                             name, level, needed, rows)  # fmt: skip
        predicted = self._predictor.predict(x, batch_size=batch_size)
        found = {}
        for task in self._predictor.tasks:
            if task.name in widths:
                outputs = predicted[task.name].reshape(len(predicted[task.name]), -1)
                ends = band(task, outputs, task.name in self._logs).widened(widths[task.name])
                found[task.name] = ends if task.outputs > 1 else ends[:, 0]
        return found

    @checked
    def coverage(
        self, data: Any, level: float = 0.9, *, weights: Any = None, batch_size: int = 4096
    ) -> dict[str, dict[str, float]]:
        """What intervals of this level are worth on other rows: `{task: {"coverage", "width", "rows"}}`, the share of
        labels that they hold, their mean width, and how many labels there were; rows of weight 0 are left out.

        Raises:
            TypeError, ValueError: no level between 0 and 1, or data that do not fit the model.
        """
        widths = self.widths(level)
        with interrupts.held():
            there = self._predictor._labelled(data, weights, batch_size)
        found = {}
        for task in self._predictor.tasks:
            if task.name in widths and task.name in there:
                outputs, known, weight = there[task.name]
                ends = band(task, outputs, task.name in self._logs).widened(widths[task.name])
                cells = ~np.isnan(known) & (weight > 0)[:, None]
                held = (ends[..., 0] <= known) & (known <= ends[..., 1])
                # note: of no label there is no mean.
                count = max(int(cells.sum()), 1)
                width = float((ends[..., 1] - ends[..., 0])[cells].sum()) / count
                found[task.name] = {
                    "coverage": float(held[cells].sum()) / count if cells.any() else math.nan,
                    "width": width if cells.any() else math.nan,
                    "rows": int(cells.sum()),
                }
        return found

    def __getitem__(self, task: str) -> list[np.ndarray]:
        """The sorted scores of a task, `[labels]` an output: how far numbers lay outside of bands."""
        if task not in self._scores:
            raise KeyError(f"no task {none_of(task, self._scores, 'there are')}")
        return self._scores[task]

    def __iter__(self) -> Iterator[str]:
        return iter(self._scores)

    def __len__(self) -> int:
        return len(self._scores)

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        ways = {task.name: _WAYS[_way(task)] + (" of log(1 + y)" if task.name in self._logs else "")
                for task in self._predictor.tasks}  # fmt: skip
        rows = []
        for name, of in self._scores.items():
            for at, each in enumerate(of):
                rows.append([name, at, ways[name], *(_quantile(each, _level(level)) for level in _SHOWN), len(each)])
        return ["task", "output", "by", *(f"{level:g}" for level in _SHOWN), "rows"], rows

    def __repr__(self) -> str:
        return f"Intervals, and by how much they are widened for a level\n{text(*self._table())}"


#: Levels of which a table says by how much bands are widened.
_SHOWN = (0.5, 0.8, 0.9, 0.95)


def _level(level: Any) -> Fraction:
    """A level as it was written, so that 0.55 of 100 rows are 55."""
    if isinstance(level, bool) or not isinstance(level, int | float | np.number):
        raise TypeError(f"`level` should be a number between 0 and 1; got {level!r}")
    if not 0 < level < 1:
        raise ValueError(f"`level` should be a number between 0 and 1; got {shown(float(level))}")
    return Fraction(repr(float(level)))


def _quantile(ordered: np.ndarray, level: Fraction) -> float:
    """The `ceil((n + 1) level)`-th smallest of `n` scores, infinite beyond the last: a further one from the same law is
    at most that with at least this probability.
    """
    at = math.ceil((len(ordered) + 1) * level)
    return float(ordered[at - 1]) if at <= len(ordered) else math.inf
