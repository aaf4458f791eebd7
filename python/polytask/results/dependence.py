"""How predictions change with one column, on average over rows and row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..process import interrupts
from ..values import measures
from .columns import none_of
from .table import Table, pandas, shown

#: Thin lines of single rows in a picture, at most.
_MOST = 200
#: Days from 1970 up to which dates are drawn as such.
_DRAWN = 300_000


class Curve(NamedTuple):
    """One task's predictions over the values of the column.

    Attributes:
        outputs: what is predicted: classes, labels or outputs, by name; a single one has the task's.
        mean: over rows, `[values, outputs]`.
        rows: row by row, `[rows, values, outputs]`; None where they were not asked for.
    """

    outputs: tuple[str, ...]
    mean: np.ndarray
    rows: np.ndarray | None


class Dependence(Table, Mapping[str, Curve]):
    """`dependence["income"].mean`, what is predicted on average if all rows have one value of the column, for value
    after value, and `.rows` row by row where they were asked for; shown as a table with a line a value.

    Attributes:
        column: its name.
        grid: the values that it was given, in order.
        along: where each value lies, if they are numbers (dates and spans of time by days).
        count: how many rows the means are over.
    """

    def __init__(
        self,
        column: str,
        values: Sequence[Any],
        along: Sequence[float] | None,
        count: int,
        curves: Mapping[str, Curve],
    ) -> None:
        self.column = column
        self.grid = list(values)
        self.along = None if along is None else list(along)
        self.count = count
        self._curves = dict(curves)

    def __getitem__(self, task: str) -> Curve:
        if task not in self._curves:
            raise KeyError(f"no task {none_of(task, self._curves, 'there are')}")
        return self._curves[task]

    def __iter__(self) -> Iterator[str]:
        return iter(self._curves)

    def __len__(self) -> int:
        return len(self._curves)

    @interrupts.held()
    def to_frame(self) -> Any:
        """A pandas frame with a row a value, and a column a task and output.

        Raises:
            ImportError: pandas is not installed.
        """
        header, rows = self._table()
        return pandas("Dependence.to_frame").DataFrame(rows, columns=header)

    @interrupts.held()
    def plot(self) -> Any:
        """Draws each task's predictions over the values, with lines of single rows behind, where they were asked for
        and the task has a single output; gives the axes.

        Raises:
            ImportError: matplotlib is not installed.
        """
        from ..plots import pictures

        axes = pictures.grid(len(self), "Dependence.plot")
        names = [shown(value) for value in self.grid]
        for axis, (task, curve) in zip(axes, self.items(), strict=True):
            colors = pictures.colors(len(curve.outputs))
            lines = [
                pictures.Line(output, curve.mean[:, at].tolist(), color)
                for at, (output, color) in enumerate(zip(curve.outputs, colors, strict=True))
            ]
            single = curve.rows is not None and len(curve.outputs) == 1
            behind = curve.rows[:_MOST, :, 0] if single and curve.rows is not None else np.empty((0, len(names)))
            pictures.over_values(axis, self._places(), names, lines, behind, task)
            axis.set_xlabel(self.column)
        return axes

    def _places(self) -> Any:
        """Where each value lies in a picture: dates as such, other numbers as they are."""
        values = np.empty(len(self.grid), dtype=object)
        values[:] = self.grid
        if self.along is None or measures.unit(values) != measures.DATES:
            return self.along
        days = np.array(self.along)
        known = ~np.isnan(days)
        # note: pictures know the years 1 to 9999, and leave room on either side.
        if np.abs(days[known]).max(initial=0) >= _DRAWN:
            return self.along
        dates = np.full(len(days), np.datetime64("NaT", "us"))
        dates[known] = (days[known] * 86_400e6).astype(np.int64).astype("M8[us]")
        return dates

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        outputs = [
            (name if curve.outputs == (name,) else f"{name}: {output}", curve.mean[:, at].tolist())
            for name, curve in self.items()
            for at, output in enumerate(curve.outputs)
        ]
        rows = [[value, *(each[at] for _, each in outputs)] for at, value in enumerate(self.grid)]
        return [self.column, *(name for name, _ in outputs)], rows
