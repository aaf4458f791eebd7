"""Some rows in memory: features, targets, masks and row weights, borrowed from whoever owns them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .. import _core

Optional = np.ndarray | None


@dataclass
class Rows:
    """Arrays of equally many rows; the lists have one entry a task."""

    rows: int
    numeric: Optional = None
    categorical: Optional = None
    targets: Sequence[Optional] = ()
    masks: Sequence[Optional] = ()
    weights: Sequence[Optional] = ()
    names: Sequence[str] = field(default=())
    _made: _core.Data | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return self.rows

    def core(self) -> _core.Data:
        """What the core takes; the arrays are borrowed, not copied."""
        if self._made is None:
            self._made = _core.Data(
                self.rows,
                numeric=self.numeric,
                categorical=self.categorical,
                targets=self.targets,
                masks=self.masks,
                weights=self.weights,
                names=self.names,
            )
        return self._made

    def take(self, index: np.ndarray) -> "Rows":
        """A copy of some rows."""

        def part(array: Optional) -> Optional:
            return None if array is None else array[index]

        return Rows(
            len(index),
            part(self.numeric),
            part(self.categorical),
            [part(array) for array in self.targets],
            [part(array) for array in self.masks],
            [part(array) for array in self.weights],
            self.names,
        )

    def split(self, fraction: float, seed: int) -> tuple["Rows", "Rows"]:
        """Two parts at random, the second with the given fraction of the rows; the same seed gives the same parts.

        Raises:
            ValueError: one part would be empty.
        """
        held_out = round(self.rows * fraction)
        if not 0 < held_out < self.rows:
            raise ValueError(f"`validation` of {fraction} leaves {held_out} of {self.rows} rows for validation")
        order = np.random.default_rng(seed).permutation(self.rows)
        return self.take(np.sort(order[held_out:])), self.take(np.sort(order[:held_out]))
