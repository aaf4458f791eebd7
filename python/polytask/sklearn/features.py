"""Features as the core reads them: dense, in single precision, in a scale of their own; sparse ones batch by batch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.preprocessing import MaxAbsScaler, StandardScaler

#: Rows of each prediction of the core: always so many, so that the bits of a row do not depend on the rows beside it.
ROWS = 256


@dataclass(frozen=True)
class Scaling:
    """What is taken off each feature, and by what it is divided then; nothing where it is `None`."""

    center: np.ndarray | None = None
    scale: np.ndarray | None = None

    @classmethod
    def learn(cls, x: Any, weights: np.ndarray | None) -> "Scaling":
        """Mean and deviation, or for sparse features no mean and the largest size, so that zeros stay what they are."""
        if hasattr(x, "tocsr"):
            return cls(None, MaxAbsScaler().fit(x).scale_)
        learned = StandardScaler().fit(x, sample_weight=weights)
        return cls(learned.mean_, learned.scale_)

    def dense(self, x: Any) -> np.ndarray:
        """Rows, sparse or not, in this scale and in single precision."""
        x = x.toarray() if hasattr(x, "tocsr") else x
        x = x if self.center is None else x - self.center
        x = x if self.scale is None else x / self.scale
        return np.asarray(x, np.float32)

    def whole(self, x: np.ndarray) -> np.ndarray:
        """All rows of dense features, made in parts."""
        if self.scale is None and x.dtype == np.float32:
            return x
        made = np.empty(x.shape, np.float32)
        for start in range(0, len(x), 4096):
            made[start : start + 4096] = self.dense(x[start : start + 4096])
        return made

    def parts(self, x: Any) -> Iterator[np.ndarray]:
        """Parts of `ROWS` rows each, of which the last is filled up with zeros."""
        for start in range(0, x.shape[0], ROWS):
            part = self.dense(x[start : start + ROWS])
            yield part if len(part) == ROWS else np.pad(part, ((0, ROWS - len(part)), (0, 0)))


class Batches:
    """Rows of sparse features with their targets, in batches that are dense. The order of an epoch depends on the seed
    and on how often they were gone through; without a seed it is theirs.
    """

    def __init__(
        self,
        x: Any,
        targets: Mapping[str, np.ndarray],
        weights: np.ndarray | None,
        scaling: Scaling,
        size: int,
        seed: int | None,
    ) -> None:
        self._x = x
        self._targets = targets
        self._weights = weights
        self._scaling = scaling
        self._size = size
        self._seed = seed
        self._epoch = 0

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        rows = self._x.shape[0]
        order = np.arange(rows)
        if self._seed is not None:
            order = np.random.default_rng([self._seed, self._epoch]).permutation(rows)
        self._epoch += 1
        for start in range(0, rows, self._size):
            at = order[start : start + self._size]
            x = self._scaling.dense(self._x[at])
            targets = {name: y[at] for name, y in self._targets.items()}
            yield (x, targets) if self._weights is None else (x, targets, self._weights[at])

    def __len__(self) -> int:
        return int(-(-self._x.shape[0] // self._size))
