"""What an evaluation gives: task -> metric -> value."""

from collections.abc import Iterator, Mapping
from typing import Any

from .columns import none_of
from .table import Table


class Results(Table, Mapping[str, dict[str, float]]):
    """`results["income"]["auroc"]`, or `results["income/auroc"]` as in a history; shown as a table with a line a task.

    `loss`, and `results["loss"]`, is that of `pt.History`: the losses of all tasks that have labels, times the tasks'
    weights and the constants of `pt.weighting.Static`, plus the trainer's regularizers.
    """

    def __init__(self, tasks: dict[str, dict[str, float]], loss: float) -> None:
        self._tasks = tasks
        self.loss = loss

    def __getitem__(self, key: str) -> Any:
        if key in self._tasks:
            return self._tasks[key]
        columns = self.columns()
        if key not in columns:
            names = [*self._tasks, *columns]
            raise KeyError(f"no task or column {none_of(key, names, 'there are')}")
        return columns[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def columns(self, prefix: str = "") -> dict[str, float]:
        """As columns of a history: `loss`, `income/loss`, `income/auroc`, ..."""
        flat = {f"{task}/{metric}": value for task, values in self.items() for metric, value in values.items()}
        return {f"{prefix}{name}": value for name, value in {"loss": self.loss, **flat}.items()}

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        metrics = list(dict.fromkeys(metric for values in self.values() for metric in values))
        rows = [[task, *(values.get(metric) for metric in metrics)] for task, values in self.items()]
        return ["task", *metrics], rows
