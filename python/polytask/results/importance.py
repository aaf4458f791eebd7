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
    """

    mean: float
    error: float

    @property
    def sure(self) -> bool:
        """Whether the mean is more than two standard errors above 0; never of a single permutation."""
        return self.mean > 2 * self.error if self.error > 0 else self.error == 0 and self.mean > 0


class Importance(Table, Mapping[str, dict[str, Loss]]):
    """`importance["income"]["age"]`, a mean and its standard error; shown as a table, and in sentences that say which
    columns matter. Standard errors are those of permuting alone: other rows may say otherwise.

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
        return {
            name: Loss(*student.mean_and_error(each))
            for name, each in zip(self.columns, self.losses[task], strict=True)
        }

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
            return f"{judged} loses nothing for sure by any column."
        named = ", ".join(f"`{name}` ({shown(found[name].mean)})" for name in sure[:_NAMED])
        rest = len(sure) - _NAMED
        more = f" and {rest} more" if rest > 0 else ""
        others = len(self.columns) - len(sure)
        less = f"; {others} of {len(self.columns)} columns cost it nothing for sure" if others else ""
        return f"{judged} depends on {named}{more}{less}."

    @interrupts.held()
    def to_frame(self) -> Any:
        """A pandas frame with a row a task and column: mean and standard error, most important ones first.

        Raises:
            ImportError: pandas is not installed.
        """
        rows = [
            [task, name, self.metrics[task], *each[name]]
            for task, each in self.items()
            for name in self.ranked(task)
        ]  # fmt: skip
        columns = ["task", "column", "metric", "mean", "error"]
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
            means, errors = (np.array(each) for each in zip(*(found[name] for name in names), strict=True))
            pictures.bars(axis, names, means, errors, task, f"loss of {self.metrics[task]}")
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
        means, errors = (np.array(each) for each in zip(*(found[name] for name in names), strict=True))
        ends = np.stack([means - 2 * errors, means + 2 * errors], axis=1)
        return svg.intervals(f"{task}: what it loses by columns that are permuted", names, means, ends,
                             self.metrics[task])  # fmt: skip


def _entry(each: Loss) -> str:
    return shown(each.mean) if np.isnan(each.error) else f"{shown(each.mean)} ± {shown(each.error)}"
