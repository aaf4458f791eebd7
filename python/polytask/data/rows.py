"""Some rows in memory: features, targets, masks and row weights, borrowed from whoever owns them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

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

    def spread(self, at: Sequence[int], tasks: int) -> "Rows":
        """The same rows with targets for so many tasks, these ones standing there."""

        def each(parts: Sequence[Any], missing: Any) -> list[Any]:
            spread = [missing] * tasks
            for j, part in zip(at, parts, strict=False):
                spread[j] = part
            return spread

        known = len(at)
        names = [*self.names[:2], *each(self.names[2 : 2 + known], ""), *each(self.names[2 + known :], "")]
        targets, masks, weights = (each(part, None) for part in (self.targets, self.masks, self.weights))
        return Rows(self.rows, self.numeric, self.categorical, targets, masks, weights, names)

    def labels(self, index: np.ndarray) -> "Rows":
        """Targets of some rows, without their features."""
        return Rows(0, None, None, self.targets, self.masks).take(index)
