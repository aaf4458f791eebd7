"""What a training learned of how its tasks are related."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..process import interrupts
from .table import Table, pandas


class Relation(Table):
    """A covariance of the tasks, `relation.matrix`, and its correlations; shown as a table of the correlations."""

    def __init__(self, tasks: Sequence[str], matrix: np.ndarray) -> None:
        #: The tasks' names.
        self.tasks = tuple(tasks)
        #: `[tasks, tasks]`, symmetric, of trace 1: Omega of `pt.regularizer.TaskRelation`.
        self.matrix = matrix

    @property
    def correlation(self) -> np.ndarray:
        """The same with a unit diagonal: 1 for tasks that go together, -1 for tasks that go against each other."""
        deviation = np.sqrt(self.matrix.diagonal())
        known = np.where(deviation > 0, deviation, 1)
        correlation = np.clip(self.matrix / known[:, None] / known, -1, 1)
        np.fill_diagonal(correlation, 1)
        return correlation

    @interrupts.held()
    def to_frame(self) -> Any:
        """The correlations as a pandas frame.

        Raises:
            ImportError: pandas is not installed.
        """
        names = list(self.tasks)
        return pandas("Relation.to_frame").DataFrame(self.correlation, index=names, columns=names)

    @interrupts.held()
    def plot(self) -> Any:
        """Draws the correlations as a heat map; gives the axes.

        Raises:
            ImportError: matplotlib is not installed.
        """
        from ..plots import pictures

        axes = pictures.panels(1, "Relation.plot")
        pictures.heat_map(axes[0], self.correlation, self.tasks, self.tasks, "learned correlation of tasks")
        return axes

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        rows = zip(self.tasks, self.correlation.tolist(), strict=True)
        return ["task", *self.tasks], [[task, *row] for task, row in rows]
