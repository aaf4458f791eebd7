"""How much tasks depend on columns, by what they lose when a column is permuted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np

from ..plots import svg
from ..process import interrupts
from ..values import student
from .columns import none_of
from .table import Table, html, pandas, shown, text

#: Columns of a task in pictures, and in a sentence, at most.
_MOST, _NAMED = 20, 5


class Loss(NamedTuple):
    """What a task's metric loses when a column is permuted.

    Attributes:
        mean: over permutations; above 0 the column is of use, whether higher or lower values of the metric are better.
        error: its standard error over permutations, NaN of a single one.
        p: of a mean so far from 0 if the column were of no use, by Student's t over permutations, corrected for the
            number of columns (Holm 1979); NaN of a single permutation. Few permutations may cost the same by chance: an
            error below the median one of the columns counts as that (compare Tusher, Tibshirani and Chu, PNAS 2001).
    """

    mean: float
    error: float
    p: float

    @property
    def sure(self) -> bool:
        """Whether the column is of use with p below 0.05."""
        return self.mean > 0 and self.p < 0.05


class Importance(Table, Mapping[str, dict[str, Loss]]):
    """`importance["income"]["age"]`, a mean with its standard error and p; shown as a table, and in sentences that
    say which columns matter. Errors and p are those of permuting alone: other rows may say otherwise.

    Attributes:
        columns: their names.
        metrics: by which each task was judged.
        scores: each task's metric with the columns as they are.
        losses: what it lost in each permutation, `[columns, repeats]`, by task.
    """

    def __init__(
        self,
        columns: Sequence[str],
        metrics: Mapping[str, str],
        scores: Mapping[str, float],
        losses: Mapping[str, np.ndarray],
    ) -> None:
        self.columns = tuple(columns)
        self.metrics = dict(metrics)
        self.scores = dict(scores)
        self.losses = dict(losses)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks' names."""
        return tuple(self.metrics)

    def __getitem__(self, task: str) -> dict[str, Loss]:
        if task not in self.losses:
            raise KeyError(f"no task {none_of(task, self.losses, 'there are')}")
        losses = self.losses[task]
        errors = np.array([student.mean_and_error(lost)[1] for lost in losses])
        known = errors[~np.isnan(errors)]
        least = float(np.median(known)) if len(known) else 0.0
        each = [student.paired(lost, np.zeros_like(lost), least=least) for lost in losses]
        ps = student.corrected([one.p for one in each])
        return {name: Loss(*one[:2], p) for name, one, p in zip(self.columns, each, ps, strict=True)}

    def __iter__(self) -> Iterator[str]:
        return iter(self.losses)

    def __len__(self) -> int:
        return len(self.losses)

    def ranked(self, task: str) -> list[str]:
        """The columns, the most important ones for a task first; last those of which it is not known."""
        found = self[task]
        return sorted(found, key=lambda name: -np.inf if np.isnan(found[name].mean) else found[name].mean, reverse=True)

    @property
    def sentences(self) -> list[str]:
        """Which columns matter, task by task."""
        return [self._sentence(task) for task in self]

    def _sentence(self, task: str) -> str:
        found = self[task]
        sure = [name for name in self.ranked(task) if found[name].sure]
        judged = f"`{task}` ({self.metrics[task]} {shown(self.scores[task])})"
        if self.losses[task].shape[1] < 2:
            return f"{judged} was permuted once, which says nothing of chance."
        if not sure:
            return f"{judged} loses nothing by any column that can be told from chance."
        named = ", ".join(f"`{name}` ({shown(found[name].mean)})" for name in sure[:_NAMED])
        rest = len(sure) - _NAMED
        more = f" and {rest} more" if rest > 0 else ""
        others = len(self.columns) - len(sure)
        less = f"; what {others} of {len(self.columns)} columns cost it cannot be told from chance" if others else ""
        return f"{judged} depends on {named}{more}{less}."

    @interrupts.held()
    def to_frame(self) -> Any:
        """A pandas frame with a row a task and column: mean, standard error and p, most important ones first.

        Raises:
            ImportError: pandas is not installed.
        """
        rows = [
            [task, name, self.metrics[task], *each[name]]
            for task, each in self.items()
            for name in self.ranked(task)
        ]  # fmt: skip
        columns = ["task", "column", "metric", "mean", "error", "p"]
        return pandas("Importance.to_frame").DataFrame(rows, columns=columns)

    @interrupts.held()
    def plot(self) -> Any:
        """Draws the most important columns of each task as bars, with standard errors; gives the axes.

        Raises:
            ImportError: matplotlib is not installed.
        """
        from ..plots import pictures

        axes = pictures.grid(len(self), "Importance.plot")
        for axis, (task, found) in zip(axes, self.items(), strict=True):
            names = self.ranked(task)[:_MOST]
            means, errors = (np.array([getattr(found[name], of) for name in names]) for of in ("mean", "error"))
            pictures.bars(axis, names, means, errors, task, f"{self.metrics[task]} is worse by")
        return axes

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        found = {task: self[task] for task in self}
        # note: metrics of tasks have units of their own, and so columns stand as the data have them.
        rows = [[name, *(_entry(found[task][name]) for task in self)] for name in self.columns]
        return ["column", *(f"{task} ({metric})" for task, metric in self.metrics.items())], rows

    def __repr__(self) -> str:
        return "\n".join([text(*self._table()), *self.sentences])

    def _repr_html_(self) -> str:
        pictures = "".join(self._picture(task) for task in self)
        said = "<br>".join(map(escape, self.sentences))
        return f"{html(*self._table())}<p>{said}</p>{pictures}"

    def _picture(self, task: str) -> str:
        found = self[task]
        names = self.ranked(task)[:_MOST]
        means = np.array([found[name].mean for name in names])
        ends = np.array([student.interval(self.losses[task][self.columns.index(name)]) for name in names])
        return svg.intervals(f"{task}: what it loses by columns that are permuted", names, means, ends,
                             self.metrics[task])  # fmt: skip


def _entry(each: Loss) -> str:
    return shown(each.mean) if np.isnan(each.error) else f"{shown(each.mean)} ± {shown(each.error)}"
