"""How tasks are related, pair by pair, and which to train together for that."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np

from .. import _core
from ..arguments.keywords import checked
from ..arguments.numbers import whole
from ..process import interrupts
from .table import Table, pandas, text


class Groups(Table, Sequence[list[str]]):
    """Groups of tasks, each a list of names: `pt.sharing.Branched(groups)`, or a model for each.

    Attributes:
        gain: the sum over tasks of what they gain, each the mean of its gains beside the others of its group.
        bound: what no groups exceed; the gain itself where the groups are the best there are.
        gains: of each task.
        unit: what the gain of a task is, in words.
    """

    #: In pickles of earlier versions there is none.
    unit = "what it has of the others in its group"

    def __init__(
        self,
        groups: Sequence[Sequence[str]],
        gain: float,
        bound: float,
        gains: Mapping[str, float],
        unit: str | None = None,
    ) -> None:
        self._groups = [list(group) for group in groups]
        self.gain = gain
        self.bound = bound
        self.gains = dict(gains)
        if unit is not None:
            self.unit = unit

    @property
    def best(self) -> bool:
        """Whether no other groups have a larger gain."""
        return self.bound <= self.gain

    @overload
    def __getitem__(self, at: int) -> list[str]: ...
    @overload
    def __getitem__(self, at: slice) -> list[list[str]]: ...
    def __getitem__(self, at: int | slice) -> list[str] | list[list[str]]:
        return self._groups[at]

    def __len__(self) -> int:
        return len(self._groups)

    def __iter__(self) -> Iterator[list[str]]:
        return iter(self._groups)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Groups):
            return vars(self) == vars(other)
        return self._groups == other

    __hash__ = None  # type: ignore[assignment]

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        rows = [[at, ", ".join(group), sum(self.gains[name] for name in group)] for at, group in enumerate(self, 1)]
        return ["group", "tasks", "gain"], rows

    def __repr__(self) -> str:
        kind = "the best there are" if self.best else f"no groups have more than {self.bound:.4g}"
        return f"{super().__repr__()}\nsummed gain {self.gain:.4g}; {kind}\ngain of a task: {self.unit}"


class Relatedness(Table):
    """How tasks are related: `[tasks, tasks]`, shown as a table.

    Attributes:
        method: how it was measured.
        about: what a number says, and when not to trust it.
        tasks: names of the tasks, in the order of rows and columns.
        matrix: entry `[i, j]` says what task `i` has of task `j`; NaN where it is not known.
        errors: standard errors of the entries, NaN where they are not known.
        directed: whether `[i, j]` and `[j, i]` differ in meaning.
        floor: from which value on a pair belongs together, a number or `[tasks, tasks]`.
        parts: other matrices that were found on the way, by name.
    """

    def __init__(
        self,
        method: str,
        about: str,
        tasks: Sequence[str],
        matrix: np.ndarray,
        errors: np.ndarray | None = None,
        *,
        directed: bool = False,
        floor: float | np.ndarray = 0.0,
        parts: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.method = method
        self.about = about
        self.tasks = tuple(tasks)
        self.matrix = matrix
        self.errors = np.full_like(matrix, np.nan) if errors is None else errors
        self.directed = directed
        self.floor = floor
        self.parts = dict(parts or {})

    @property
    def gains(self) -> np.ndarray:
        """What groups are made by, `[tasks, tasks]`: entries less the floor, their amount where signs do not matter for
        sharing; 0 on the diagonal and where nothing is known.
        """
        strength = np.abs(self.matrix) if self.method in UNSIGNED else self.matrix
        gains = np.where(np.isnan(strength), 0.0, strength - self.floor)
        np.fill_diagonal(gains, 0.0)
        return gains

    @checked
    def groups(self, k: int | None = None, max_size: int | None = None) -> Groups:
        """The assignment of the tasks to at most `k` networks, of at most `max_size` tasks each, with the largest
        summed gain, where a task gains in a group the mean of what it gains beside each of the others, and alone
        nothing (Standley et al., Which Tasks Should Be Learned Together, ICML 2020; Fifty et al., Efficiently
        Identifying Task Groupings, NeurIPS 2021). The best there is for up to 20 tasks; beyond that the best of many
        local searches, with a bound. That mean is an assumption: how a group of three does is not known from its pairs
        for sure.

        Arguments:
            k: how many networks; as many as there are tasks, if none is given.
            max_size: how many tasks a network has at most.

        Raises:
            ValueError: the tasks do not go into so many networks.
        """
        count = len(self.tasks)
        most = count if k is None else whole(k, "`k`")
        largest = count if max_size is None else whole(max_size, "`max_size`")
        if most * largest < count:
            raise ValueError(f"`k` times `max_size` should be at least the number of tasks, {count}; got {most} times "
                             f"{largest}")  # fmt: skip
        gains = self.gains
        numbers, gain, bound = _core.partition(gains.tolist(), most, largest, 0)
        found = [[j for j in range(count) if numbers[j] == group] for group in range(max(numbers) + 1)]
        each = {
            self.tasks[j]: float(np.mean([gains[j, other] for other in group if other != j])) if len(group) > 1 else 0.0
            for group in found
            for j in group
        }
        unit = UNITS.get(self.method)
        unit = unit if unit is None or not np.any(self.floor) else f"{unit}, less `floor`"
        return Groups([[self.tasks[j] for j in group] for group in found], gain, bound, each, unit)

    @interrupts.held()
    def to_frame(self) -> Any:
        """A pandas frame of the matrix.

        Raises:
            ImportError: pandas is not installed.
        """
        names = list(self.tasks)
        return pandas("Relatedness.to_frame").DataFrame(self.matrix, index=names, columns=names)

    @interrupts.held()
    def plot(self) -> Any:
        """Draws a heat map, tasks in the order of a clustering by average linkage, with its tree above; gives the axes.

        Raises:
            ImportError: matplotlib is not installed.
        """
        from ..plots import clusters, pictures

        gains = self.gains
        each = clusters.merges(-0.5 * (gains + gains.T))
        order = clusters.order(each, len(self.tasks))
        names = [self.tasks[j] for j in order]
        matrix = self.matrix[np.ix_(order, order)].copy()
        above, below = axes = pictures.stacked("Relatedness.plot")
        clusters.tree(above, each, len(self.tasks))
        what = "what the row's task has of the column's" if self.directed else "pairs of tasks"
        if not self.directed:
            np.fill_diagonal(matrix, np.nan)
        pictures.matrix(below, matrix, names, names, f"{self.method}: {what}")
        return axes

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        digits = _digits(self.matrix)
        rows = zip(self.tasks, self.matrix, self.errors, strict=True)
        return ["task", *self.tasks], [
            [task, *(_entry(*each, digits) for each in zip(row, errors, strict=True))] for task, row, errors in rows
        ]

    def __repr__(self) -> str:
        directed = " (a row's task has it of a column's)" if self.directed else ""
        return f"Relatedness by {self.method}{directed}\n{text(*self._table())}\n{self.about}"


#: Measures of which the amount says whether tasks belong together: a task and its opposite share all features.
UNSIGNED = ("labels", "relation")

#: What a task gains in a group, by the measure.
UNITS = {
    "transfer": "the share by which its validation loss falls against alone, beside each of the others on average",
    "affinity": "the share by which its loss falls by a step for each of the others on average",
    "gradients": "the mean cosine of its gradient with those of the others",
    "representation": "the mean likeness (CKA) of its representation to those of the others",
    "relation": "the mean amount of the correlations of its predictions with those of the others",
    "labels": "the mean amount of the correlations of its labels with those of the others",
}


def _digits(matrix: np.ndarray) -> int:
    """Digits behind the point by which the largest entry has three that count; at least three, at most nine."""
    entries = np.abs(matrix[~np.eye(len(matrix), dtype=bool) & np.isfinite(matrix)])
    largest = entries.max(initial=0.0)
    return 3 if largest <= 0 else min(max(3, 2 - math.floor(math.log10(largest))), 9)


def _entry(value: float, error: float, digits: int) -> str:
    if np.isnan(value):
        return "-"
    return f"{value:.{digits}f}" if np.isnan(error) else f"{value:.{digits}f} ± {error:.{digits}f}"
