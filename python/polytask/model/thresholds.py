"""Thresholds of decisions between two sides, by a metric of labelled rows."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch

from ..arguments.messages import none_of

#: A metric of decisions and labels, 0 or 1, `[rows]` each: the higher, the better.
Own: TypeAlias = Callable[[torch.Tensor, torch.Tensor], Any]
#: Thresholds that a metric of the caller's own is tried with, at most.
_TRIED = 257


class Counts(NamedTuple):
    """Weights of decisions at each of several thresholds, `[thresholds]`: right and wrong ones of both sides."""

    true_positive: np.ndarray
    false_positive: np.ndarray
    false_negative: np.ndarray
    true_negative: np.ndarray


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(part, whole, out=np.zeros_like(part), where=whole > 0))


def _f1(at: Counts) -> np.ndarray:
    right = 2 * at.true_positive
    return _share(right, right + at.false_positive + at.false_negative)


def _accuracy(at: Counts) -> np.ndarray:
    return _share(at.true_positive + at.true_negative, sum(at, np.zeros_like(at.true_positive)))


def _youden(at: Counts) -> np.ndarray:
    recall = _share(at.true_positive, at.true_positive + at.false_negative)
    return np.asarray(recall + _share(at.true_negative, at.true_negative + at.false_positive) - 1)


#: By name, of labels that have both sides.
METRICS: Mapping[str, Callable[[Counts], np.ndarray]] = {
    "f1": _f1,
    "accuracy": _accuracy,
    "balanced_accuracy": lambda at: 0.5 * (_youden(at) + 1),
    "youden": _youden,
}


class Found(NamedTuple):
    """The threshold of one column of labels.

    Attributes:
        threshold: the probability from which the decision is 1.
        score: the metric with it, and with 0.5; NaN where the labels do not have both sides.
        labels: how many there were.
    """

    threshold: float
    score: tuple[float, float]
    labels: int


def check(metric: Any) -> str | Own:
    """A metric's name, or the caller's own.

    Raises:
        TypeError, ValueError: neither.
    """
    if isinstance(metric, str):
        if metric not in METRICS:
            raise ValueError(f"`metric`: unknown metric {none_of(metric, METRICS, 'there are')}")
        return metric
    if not callable(metric):
        raise TypeError(f"`metric` should be a name or a callable; got {metric!r}")
    return metric  # type: ignore[no-any-return]


def best(metric: str | Own, p: np.ndarray, known: np.ndarray, weights: np.ndarray) -> Found:
    """The threshold with the highest metric, of several the one nearest to 0.5. They lie in the middle between
    neighbouring probabilities; labels that are all on one side say nothing of one, which is then 0.5.

    Arguments:
        metric: one of `METRICS`, or the caller's own, which sees no weights.
        p: probabilities `[rows]`, as they are compared with thresholds.
        known: 0 or 1, with NaN where missing, `[rows]`; what lies between counts as the nearer one.
        weights: `[rows]`; rows of weight 0 are left out.
    """
    there = ~np.isnan(known) & (weights > 0)
    p, known, weights = p[there], known[there] >= 0.5, weights[there]
    if known.all() or not known.any():
        return Found(0.5, (np.nan, np.nan), len(known))
    tried = _candidates(p)
    if isinstance(metric, str):
        scores = METRICS[metric](_counts(p, known, weights, tried))
    else:
        if len(tried) > _TRIED:
            tried = tried[np.unique(np.append(np.linspace(0, len(tried) - 1, _TRIED).astype(int), _half(tried)))]
        labels = torch.from_numpy(known.astype(np.int64))
        scores = np.array([_own(metric, p >= threshold, labels) for threshold in tried])
    if np.isnan(scores).all():
        return Found(0.5, (np.nan, np.nan), len(known))
    top = np.flatnonzero(scores >= np.nanmax(scores) - 1e-12)
    at = top[np.argmin(np.abs(tried[top] - 0.5))]
    return Found(float(tried[at]), (float(scores[at]), float(scores[_half(tried)])), len(known))


def _candidates(p: np.ndarray) -> np.ndarray:
    """Thresholds of all decisions that there are, and 0.5, in the precision of the probabilities."""
    values = np.unique(p)
    ends = np.append(values, np.ones(1, p.dtype))
    middle = (ends[:-1] + (ends[1:] - ends[:-1]) / 2).astype(p.dtype)
    # note: between neighbours of a precision there is nothing, and the upper one is the threshold.
    above = np.where(middle > values, middle, ends[1:])
    above = above[above > values]
    return np.unique(np.concatenate([np.zeros(1, p.dtype), above, np.full(1, 0.5, p.dtype)]))


def _half(tried: np.ndarray) -> int:
    return int(np.flatnonzero(tried == 0.5)[0])


def _counts(p: np.ndarray, known: np.ndarray, weights: np.ndarray, tried: np.ndarray) -> Counts:
    order = np.argsort(p, kind="stable")
    below = np.searchsorted(p[order], tried, side="left")
    sides = (np.append(0.0, np.cumsum(np.where(side, weights, 0.0)[order])) for side in (known, ~known))
    (ones_below, ones), (zeros_below, zeros) = ((sums[below], sums[-1]) for sums in sides)
    return Counts(ones - ones_below, zeros - zeros_below, ones_below, zeros_below)


def _own(metric: Own, decided: np.ndarray, labels: torch.Tensor) -> float:
    value = metric(torch.from_numpy(decided.astype(np.int64)), labels)
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"`metric` should give one number; got {value!r}") from None
