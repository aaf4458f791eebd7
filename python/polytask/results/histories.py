"""Histories of one training from several seeds: means, with intervals."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..process import interrupts
from ..values import student
from .columns import none_of
from .history import History
from .table import Table, pandas

#: Of the intervals that are shown.
_CONFIDENCE = 0.95


class Interval(Table):
    """A mean over seeds for each column: `mean`, `low` and `high` of its interval by Student's t, and `seeds`, how many
    have a number there; shown as a table, and `interval["income/auroc"]` is a row of it as a dict.
    """

    def __init__(self, columns: dict[str, Sequence[float]], confidence: float) -> None:
        self.confidence = confidence
        self._rows: dict[str, dict[str, float]] = {}
        for name, values in columns.items():
            low, high = student.interval(values, confidence)
            known = int(np.count_nonzero(~np.isnan(np.asarray(values, np.float64))))
            self._rows[name] = {
                "mean": student.mean_and_error(values)[0],
                "low": low,
                "high": high,
                "seeds": known,
            }

    def __getitem__(self, column: str) -> dict[str, float]:
        if column not in self._rows:
            raise KeyError(f"no column {none_of(column, self._rows, 'there are')}")
        return self._rows[column]

    def __iter__(self) -> Any:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    @interrupts.held()
    def to_frame(self) -> Any:
        """A pandas frame with a row a column of the history.

        Raises:
            ImportError: pandas is not installed.
        """
        return pandas("Interval.to_frame").DataFrame.from_dict(self._rows, orient="index")

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        keys = ["mean", "low", "high", "seeds"]
        return ["column", *keys], [[name, *(row[key] for key in keys)] for name, row in self._rows.items()]


class Histories(History):
    """The history of a training from several seeds: each number is the mean over the runs that were still going on.

    Attributes:
        runs: the `pt.History` of each.
        seeds: what each began with.
    """

    def __init__(self, runs: Sequence[History], seeds: Sequence[int]) -> None:
        self.runs = list(runs)
        self.seeds = list(seeds)
        super().__init__(_means(self.runs), [])

    def interval(self, column: str, confidence: float = _CONFIDENCE) -> tuple[np.ndarray, np.ndarray]:
        """The lower and the upper end of the interval of a column's mean by Student's t, an entry an epoch; NaN where
        fewer than two runs have a number.

        Raises:
            KeyError: no column of that name.
        """
        if column not in self.columns:
            raise KeyError(f"no column {none_of(column, self.columns, 'there are')}")
        ends = [student.interval(values, confidence) for values in _each(self.runs, column)]
        low, high = np.array(ends, np.float64).reshape(-1, 2).T
        return low, high

    def last(self, best: str | None = None, confidence: float = _CONFIDENCE) -> Interval:
        """Each column's mean and interval over the runs, at the last epoch of each; or at the one where it has its
        highest value of the column `best` ("-loss" is the lowest loss).

        Raises:
            KeyError: no column of that name.
        """
        sign, name = (-1.0, best[1:]) if best is not None and best.startswith("-") else (1.0, best)
        rows = [_row(run, name, sign) for run in self.runs if len(run)]
        columns = [column for column in self.columns if column not in ("epoch", "seconds", "lr")]
        return Interval({column: [_number(row.get(column)) for row in rows] for column in columns}, confidence)

    @interrupts.held()
    def to_frame(self) -> Any:
        """A pandas frame with a row an epoch of each run, whose seed is the first column.

        Raises:
            ImportError: pandas is not installed.
        """
        rows = [{"seed": seed, **row} for seed, run in zip(self.seeds, self.runs, strict=True) for row in run]
        return pandas("Histories.to_frame").DataFrame(rows, columns=["seed", *self.columns])

    def _bands(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        return {name: self.interval(name) for name in self.columns if name != "epoch"}

    def __repr__(self) -> str:
        return f"Histories of {len(self.runs)} seeds, means over them:\n{super().__repr__()}"


def _row(run: History, best: str | None, sign: float) -> dict[str, Any]:
    if best is None:
        return run[-1]
    values = sign * np.array([_number(value) for value in run[best]])
    return run[-1] if np.isnan(values).all() else run[int(np.nanargmax(values))]


def _each(runs: Sequence[History], column: str) -> list[list[float]]:
    """The column's numbers in each epoch, of the runs that had it."""
    epochs = max(map(len, runs), default=0)
    return [[_number(run[at].get(column)) for run in runs if at < len(run)] for at in range(epochs)]


def _means(runs: Sequence[History]) -> list[dict[str, Any]]:
    columns = list(dict.fromkeys(name for run in runs for name in run.columns))
    means = {name: [student.mean_and_error(values)[0] for values in _each(runs, name)] for name in columns}
    epochs = max(map(len, runs), default=0)
    return [{name: at + 1 if name == "epoch" else means[name][at] for name in columns} for at in range(epochs)]


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
