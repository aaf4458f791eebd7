"""Features as the core reads them: dense, in single precision, in a scale of their own; sparse ones batch by batch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from sklearn.preprocessing import MaxAbsScaler, StandardScaler
from sklearn.utils.sparsefuncs import mean_variance_axis

#: Rows of each prediction of the core: always so many, so that the bits of a row do not depend on the rows beside it.
ROWS = 256


@dataclass(frozen=True)
class Scaling:
    """What is taken off each feature, and by what it is divided then, nothing where it is `None`; what stands for a
    missing one before that; and the features behind which another says where they are missing.
    """

    center: np.ndarray | None = None
    scale: np.ndarray | None = None
    fill: np.ndarray | None = None
    told: tuple[int, ...] = ()
    #: A table's, of which there is none here.
    inputs: ClassVar[None] = None

    @classmethod
    def learn(cls, x: Any, weights: np.ndarray | None, standardize: bool) -> "Scaling":
        """Mean and deviation, or for sparse features no mean and the largest size, so that zeros stay what they are.
        Missing features become their mean. A feature that is level becomes 0, whatever comes later: weights of it are
        as they were drawn.
        """
        missing = np.isnan(x.data if hasattr(x, "tocsr") else x)
        told = _columns(x, missing)
        if hasattr(x, "tocsr"):
            fill = _known(mean_variance_axis(x, 0)[0] if len(told) else np.zeros(x.shape[1]), 0.0)
            learned = MaxAbsScaler().fit(x)
            scale = np.where(learned.max_abs_ > 0, learned.scale_, np.inf)
            return cls(None, scale if standardize else None, fill, told)
        if not standardize:
            sums = np.where(missing, 0, x).sum(axis=0, dtype=np.float64)
            return cls(None, None, sums / np.maximum((~missing).sum(axis=0), 1), told)
        with np.errstate(invalid="ignore"):  # features without a number
            learned = StandardScaler().fit(x, sample_weight=weights)
        center = _known(learned.mean_, 0.0)
        scale = _known(learned.scale_, np.inf)
        scale[np.nanmin(x, axis=0, initial=np.inf) >= np.nanmax(x, axis=0, initial=-np.inf)] = np.inf
        return cls(center, scale, center, told)

    @property
    def more(self) -> int:
        """How many features there are beside those that were given."""
        return len(self.told)

    def dense(self, x: Any) -> np.ndarray:
        """Rows, sparse or not, in this scale and in single precision."""
        x = x.toarray() if hasattr(x, "tocsr") else x
        missing = np.isnan(x)
        x = np.where(missing, self.fill, x) if self.fill is not None and missing.any() else x
        x = x if self.center is None else x - self.center
        x = x if self.scale is None else x / self.scale
        x = np.asarray(x, np.float32)
        return np.hstack([x, missing[:, list(self.told)].astype(np.float32)]) if self.told else x

    def whole(self, x: np.ndarray) -> np.ndarray:
        """All rows of dense features, made in parts."""
        if self.scale is None and not self.told and x.dtype == np.float32 and not np.isnan(x).any():
            return x
        made = np.empty((x.shape[0], x.shape[1] + self.more), np.float32)
        for start in range(0, len(x), 4096):
            made[start : start + 4096] = self.dense(x[start : start + 4096])
        return made

    def parts(self, x: Any) -> Iterator[np.ndarray]:
        """Parts of `ROWS` rows each, of which the last is filled up with zeros."""
        for start in range(0, x.shape[0], ROWS):
            yield filled(self.dense(x[start : start + ROWS]))


def filled(part: np.ndarray) -> np.ndarray:
    """Rows with as many of zeros behind them as a part lacks."""
    return part if len(part) == ROWS else np.pad(part, ((0, ROWS - len(part)), (0, 0)))


def _columns(x: Any, missing: np.ndarray) -> tuple[int, ...]:
    """The features of which some are missing, and some are not."""
    if not missing.any():
        return ()
    counts = np.bincount(x.indices[missing], minlength=x.shape[1]) if hasattr(x, "tocsr") else missing.sum(axis=0)
    return tuple(np.flatnonzero((counts > 0) & (counts < x.shape[0])).tolist())


def _known(learned: np.ndarray, otherwise: float) -> np.ndarray:
    """What was learned, and of features without a number something that leaves them as they are."""
    return np.where(np.isnan(learned), otherwise, learned)


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
