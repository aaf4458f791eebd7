"""Thresholds of decisions, as held-out rows say them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..process import interrupts
from .columns import none_of
from .table import Table, pandas


class Thresholds(Table, Mapping[str, "float | list[float]"]):
    """`thresholds["income"]`, the probability from which a decision is 1 (or the second class), one number a task or a
    list with one a label: `model.classes(predicted, threshold=thresholds)`. Shown as a table with a line a label.

    Attributes:
        metric: what they are best for.
        scores: of each task, a pair a label: the metric with the threshold, and with 0.5, on the rows that thresholds
            were chosen by; NaN where all labels are on one side.
        labels: of each task, how many labels each was chosen by.
    """

    def __init__(
        self,
        metric: str,
        values: Mapping[str, float | list[float]],
        scores: Mapping[str, list[tuple[float, float]]],
        labels: Mapping[str, list[int]],
    ) -> None:
        self.metric = metric
        self._values = dict(values)
        self.scores = dict(scores)
        self.labels = dict(labels)

    def __getitem__(self, task: str) -> float | list[float]:
        if task not in self._values:
            raise KeyError(f"no task {none_of(task, self._values, 'there are')}")
        return self._values[task]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    @interrupts.held()
    def to_frame(self) -> Any:
        """A pandas frame with a row a label.

        Raises:
            ImportError: pandas is not installed.
        """
        header, rows = self._table()
        return pandas("Thresholds.to_frame").DataFrame(rows, columns=header)

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        rows = []
        for name, value in self.items():
            each = value if isinstance(value, list) else [value]
            triples = zip(each, self.scores[name], self.labels[name], strict=True)
            rows += [[name, at, threshold, *scores, count] for at, (threshold, scores, count) in enumerate(triples)]
        return ["task", "label", "threshold", self.metric, "with 0.5", "labels"], rows
