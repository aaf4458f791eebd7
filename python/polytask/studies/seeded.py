"""Means and standard errors over seeds, of arrays whose first axis they are."""

import numpy as np


def mean(values: np.ndarray) -> np.ndarray:
    """The mean of the numbers that are known."""
    known = ~np.isnan(values)
    count = known.sum(0)
    total = np.where(known, values, 0.0).sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def errors(values: np.ndarray) -> np.ndarray:
    """The standard error of that mean; NaN of fewer than two numbers."""
    known = ~np.isnan(values)
    count = known.sum(0)
    squares = np.where(known, values - mean(values), 0.0) ** 2
    return np.where(count > 1, np.sqrt(squares.sum(0) / np.maximum(count - 1, 1) / np.maximum(count, 1)), np.nan)
