"""The history of a training: a row an epoch, columns by name."""

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np

from ..process import interrupts
from .columns import none_of
from .table import Table, pandas


class History(Table, Sequence[dict[str, Any]]):
    """One dict an epoch, and `history["income/loss"]` for a whole column.

    Columns are `epoch`, `loss`, `<task>/loss` (the mean over the epoch's labels, by their weights), `<task>/<metric>`,
    `regularizer/<name>` (a second one of a name is `<name>_2`), `term/<name>` (what the network itself adds while
    training, such as the entropy of DSelect-k's gates), losses and metrics again under `validation/`, `lr`, and
    `seconds`. A number that is not known is NaN.

    `loss` is the sum of each `<task>/loss` times the task's `weight` and the constants of `pt.weighting.Static`, plus
    `regularizer/...` and `term/...`, which are means over the epoch's steps. `validation/loss` is the same sum with the
    parameters at hand, without terms. A weighting of losses that changes what they count minimises something else, by
    the formula in its documentation: its mean over the steps, with regularizers and terms, is the column `objective`.

    With `pt.Trainer(observe="weights")` there are also `<task>/weight`, with `observe="gradients"`
    `<task>/gradient_norm`, `cosine/<task>/<task>` and `conflict`, the share of pairs of tasks whose gradients have a
    negative product; all of them means over the steps of the epoch.

    Attributes:
        rows: the dicts.
        threads: `(first step, number of threads)` of each stretch of steps, counted from 0; see `pt.Trainer(threads=)`.
    """

    def __init__(self, rows: Sequence[dict[str, Any]] = (), threads: Sequence[tuple[int, int]] = ()) -> None:
        self.rows = list(rows)
        self.threads = list(threads)

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Pickles of earlier versions have no threads.
        vars(self).update({"threads": []} | state)

    @property
    def columns(self) -> list[str]:
        """The names of all columns."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    @overload
    def __getitem__(self, key: str) -> list[Any]: ...
    @overload
    def __getitem__(self, key: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, key: slice) -> "History": ...
    def __getitem__(self, key: str | int | slice) -> Any:
        if isinstance(key, slice):
            return type(self)(self.rows[key], self.threads)
        if not isinstance(key, str):
            return self.rows[key]
        if key not in self.columns:
            raise KeyError(f"no column {none_of(key, self.columns, 'there are')}")
        return [row.get(key, float("nan")) for row in self.rows]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def append(self, row: dict[str, Any]) -> None:
        """Adds an epoch."""
        self.rows.append(row)

    @interrupts.held()
    def to_frame(self) -> Any:
        """A pandas frame.

        Raises:
            ImportError: pandas is not installed.
        """
        return pandas("History.to_frame").DataFrame(self.rows, columns=self.columns)

    @interrupts.held()
    def plot(self, columns: Sequence[str] | str | None = None) -> Any:
        """Draws losses and metrics over the epochs, validation beside training; gives the axes, an array with the
        `figure`: `history.plot().figure.savefig("history.png")`.

        Arguments:
            columns: which; `"weights"` draws each task's weight, `"conflict"` the share of conflicting pairs of tasks
                over the epochs and the cosines of the last epoch, where a trainer was to `observe` them; those of a
                `polytask.torch.Balancer` are over its decisions.

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: an unknown column, or something that was not observed.
        """
        from . import curves

        values = {name: self[name] for name in self.columns}
        if isinstance(columns, str) and columns in curves.PICTURES:
            return curves.PICTURES[columns](values)
        return curves.losses_and_metrics(values, [columns] if isinstance(columns, str) else columns, self._bands())

    def _bands(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """The lower and upper ends of columns that are means."""
        return {}

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        return self.columns, [[row.get(name) for name in self.columns] for row in self.rows]

    def __repr__(self) -> str:
        return super().__repr__() if self.rows else "History()"
