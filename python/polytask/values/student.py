"""Student's t distribution (1908): means of a few numbers, their errors and intervals, and paired differences."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Paired(NamedTuple):
    """A mean of paired differences: its standard error, and the probability of one so far from 0 if there were none."""

    mean: float
    error: float
    p: float


def within(t: float, freedom: int) -> float:
    """The probability of at most `t` on either side of 0, by the finite series for whole degrees of freedom
    (Abramowitz & Stegun, Handbook of Mathematical Functions, 1964, 26.7.3 and 26.7.4).
    """
    angle = math.atan2(abs(t), math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    term = cosine if freedom % 2 else 1.0
    total = 0.0
    for at in range(3 if freedom % 2 else 2, freedom + 1, 2):
        total += term
        term *= cosine * cosine * (at - 1) / at
    return sine * total if freedom % 2 == 0 else 2 / math.pi * (angle + sine * total)


def quantile(confidence: float, freedom: int) -> float:
    """The `t` that so much of the distribution is within, between 0 and 1."""
    low, high = 0.0, 1.0
    while within(high, freedom) < confidence:
        low, high = high, 2 * high
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        low, high = (middle, high) if within(middle, freedom) < confidence else (low, middle)
    return 0.5 * (low + high)


def mean_and_error(values: Any) -> tuple[float, float]:
    """The mean of the numbers that are known, and its standard error; NaN of too few."""
    known = _known(values)
    if len(known) == 0:
        return math.nan, math.nan
    error = known.std(ddof=1) / math.sqrt(len(known)) if len(known) > 1 else math.nan
    return float(known.mean()), float(error)


def interval(values: Any, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of the mean of the numbers that are known; NaN of fewer than two."""
    mean, error = mean_and_error(values)
    known = len(_known(values))
    half = quantile(confidence, known - 1) * error if known > 1 else math.nan
    return mean - half, mean + half


def paired(first: Any, second: Any, *, least: float = 0.0) -> Paired:
    """First less second, pair by pair, where both are known. The error by which p goes is the `least` one at least.
    Differences that are all the same have no error: p is then that of so many of one sign (Fisher 1935).
    """
    differences = _known(np.asarray(first, np.float64) - np.asarray(second, np.float64))
    mean, error = mean_and_error(differences)
    if math.isnan(error):
        return Paired(mean, error, math.nan)
    taken = max(error, least)
    if taken == 0.0:
        return Paired(mean, error, 1.0 if mean == 0.0 else 2.0 ** (1 - len(differences)))
    return Paired(mean, error, 1.0 - within(mean / taken, len(differences) - 1))


def corrected(ps: Sequence[float]) -> list[float]:
    """Probabilities corrected for how many comparisons there are (Holm, A simple sequentially rejective multiple test
    procedure, Scandinavian Journal of Statistics, 1979); what is not known counts for none.
    """
    found = [math.nan] * len(ps)
    order = sorted((j for j, p in enumerate(ps) if not math.isnan(p)), key=lambda j: ps[j])
    most = 0.0
    for at, j in enumerate(order):
        most = max(most, min(1.0, (len(order) - at) * ps[j]))
        found[j] = most
    return found


def _known(values: Any) -> np.ndarray:
    array = np.asarray(values, np.float64).ravel()
    return array[~np.isnan(array)]
