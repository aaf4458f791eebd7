"""Means of predictions over models, and what each model counts in them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..arguments.messages import listed, none_of
from ..data.task import Task
from .model import MultiTaskModel


class Mean:
    """A weighted mean of predictions as they come, and how far they are apart."""

    def __init__(self, mixture: bool = False, keeps: bool = False) -> None:
        """`mixture`: whether means and variances stand side by side; `keeps`: whether quantiles are wanted."""
        self._mixture = mixture
        self._mean = np.zeros(())
        self._squares = np.zeros(())
        self._kind = np.dtype(np.float32)
        self._total = 0.0
        self._total_squared = 0.0
        self._kept: list[tuple[np.ndarray, float]] | None = [] if keeps else None

    def add(self, values: np.ndarray, weight: float) -> None:
        """One more."""
        before = self._mean
        # Double, if that is what some come in: see `Scale.predicted`.
        self._kind = np.promote_types(self._kind, values.dtype)
        self._total += weight
        self._total_squared += weight * weight
        apart = values.astype(np.float64) - before
        self._mean = before + apart * (weight / self._total)
        self._squares = self._squares + weight * apart * (values - self._mean)
        if self._kept is not None:
            self._kept.append((values, weight))

    @property
    def mean(self) -> np.ndarray:
        """Of what was added; the variance of a mixture has that of its means."""
        mean = np.array(self._mean)
        if self._mixture:
            mean[..., 1::2] += self._squares[..., ::2] / self._total
        return mean.astype(self._kind)

    @property
    def spread(self) -> np.ndarray:
        """The standard deviation, as of a sample; 0 of one."""
        rest = self._total - self._total_squared / self._total
        squares = np.maximum(self._squares, 0.0)
        return np.sqrt(squares / rest if rest > 1e-12 * self._total else 0 * squares).astype(np.float32)

    def quantiles(self, shares: np.ndarray) -> np.ndarray:
        """The smallest prediction that so large a share of the weights is not above, on a last axis."""
        assert self._kept is not None
        values = np.stack([values for values, _ in self._kept])
        weights = np.array([weight for _, weight in self._kept]) / self._total
        order = np.argsort(values, axis=0, kind="stable")
        up_to = np.cumsum(weights[order], axis=0)
        values = np.take_along_axis(values, order, axis=0)
        places = [np.minimum((up_to < share - 1e-9).sum(axis=0), len(values) - 1) for share in shares]
        found = [np.take_along_axis(values, place[None], axis=0)[0] for place in places]
        return np.stack(found, axis=-1)


def is_mixture(task: Task) -> bool:
    return getattr(task.loss, "name", None) == "gaussian_nll"


def read_shares(quantiles: Any) -> np.ndarray:
    try:
        shares = np.asarray(quantiles, np.float64)
    except (TypeError, ValueError):
        shares = np.zeros(0)
    if shares.ndim != 1 or not len(shares) or not ((shares > 0) & (shares < 1)).all():
        raise ValueError(f"`quantiles` should be a list of numbers between 0 and 1; got {quantiles!r}")
    return shares


def read_weights(given: Any, models: Sequence[MultiTaskModel], tasks: Sequence[str]) -> list[dict[str, float]]:
    """Each model's weights by task, which add up to 1 over models."""
    has = [{task.name for task in model.tasks} for model in models]
    weights = {name: np.array([float(name in there) for there in has]) for name in tasks}
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"`weights` should be a dict of tasks, {{{tasks[0]!r}: [...]}}; got {given!r}")
    for name, values in (given or {}).items():
        if name not in weights:
            raise ValueError(f"`weights`: unknown task {none_of(name, tasks, 'there are')}")
        try:
            found = np.asarray(values, np.float64)
        except (TypeError, ValueError):
            raise TypeError(f"`weights[{name!r}]` should be a number for each model; got {values!r}") from None
        if found.shape != (len(models),):
            raise ValueError(f"`weights[{name!r}]` should be a number for each of {len(models)} models; got {values!r}")
        if not (np.isfinite(found) & (found >= 0)).all() or not found.any():
            raise ValueError(f"`weights[{name!r}]` should be numbers of at least 0, not all of them 0; got {values!r}")
        if without := [at for at in np.flatnonzero(found) if name not in has[at]]:
            raise ValueError(
                f"`weights[{name!r}]`: model {without[0]} has no such task; it has {listed(has[without[0]])}"
            )
        weights[name] = found
    shares = {name: values / values.sum() for name, values in weights.items()}
    return [{name: float(shares[name][at]) for name in tasks if name in has[at]} for at in range(len(models))]
