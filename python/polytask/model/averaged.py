"""What a mean of predictions is worth on some rows: the loss of an ensemble, in a form in which members are cheap to
compare.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..data import Rows, labels
from ..data.scale import Scale
from ..data.task import Task
from . import predictions

#: Probabilities below this count as this, being no more than a rounding of 1 less another.
_LEAST = 1e-7


class Averaged:
    """One task's labelled cells of some rows, by which means of predictions are judged.

    `points` makes of predictions the numbers whose mean over members is what the ensemble stands for: the probability
    of what came true, a value, a rate, or a mean with its second moment. `loss` is then the log loss of classes and
    binary labels, and the loss of the task for values, as it is in the scale in which they train; of a Python loss
    over values the mean squared error.

    Arguments:
        task: whose labels they are.
        kind: of labels.
        rows: that have the labels.
        place: where the task stands among theirs.
    """

    def __init__(self, task: Task, kind: str, rows: Rows, place: int) -> None:
        self._task = task
        self._kind = kind
        weights = rows.weights[place] if len(rows.weights) else None
        known = labels.unified(rows.targets[place], rows.masks[place] if len(rows.masks) else None, kind, weights)
        if known is None:
            known = np.zeros((0,), np.int64) if kind == "classes" else np.zeros((0, task.outputs))
        if task.scaling is not None:
            known = task.scaling.forward(known, rows.names[2 + place])
        self._at = np.nonzero(known >= 0 if kind == "classes" else ~np.isnan(known))
        cells = known[self._at]
        self._labels = cells if kind == "classes" else cells.astype(np.float32)
        every = np.ones(len(known)) if weights is None else np.asarray(weights, np.float64)
        self._weights = (every[self._at[0]] / max(every[self._at[0]].sum(), 1e-300)).astype(np.float32)
        self._cells = _cells(task, kind, self._labels)

    def __len__(self) -> int:
        """Cells that have a label."""
        return len(self._labels)

    def points(self, outputs: np.ndarray, scaling: Scale | None) -> np.ndarray:
        """Of what the core predicts, `[rows, width]`, the numbers that are averaged, `[cells, numbers]` in single
        precision; `scaling` is the scale of those, which may be another one than the task's if this is linear or none.
        """
        if self._kind == "classes":
            # note: a scale is of values alone, so that this is what people are given.
            found = predictions.linked(self._task, outputs)
            return np.ascontiguousarray(found[self._at[0], self._labels, None], np.float32)
        if self._kind == "binary":
            found = outputs[self._at]
            return np.where(self._labels > 0.5, found, 1 - found).astype(np.float32)[:, None]
        ours = self._task.scaling
        if scaling != ours:
            # In double precision: far from 0, where targets are, a value has no digits to lose.
            outputs = outputs.astype(np.float64)
            outputs = outputs if scaling is None else scaling.predicted(self._task.loss, outputs)
            outputs = outputs if ours is None else ours.scaled(self._task.loss, outputs)
        with np.errstate(over="ignore"):
            outputs = outputs.astype(np.float32)
        each = outputs.reshape(len(outputs), self._task.outputs, -1)[self._at]
        if _name(self._task) == "gaussian_nll":
            # Errors, not values: their second moment keeps its digits far from 0.
            error = each[:, 0] - self._labels
            each = np.stack([error, each[:, 1] + np.square(error)], axis=1)
        return np.ascontiguousarray(each, np.float32)

    def loss(self, mean: np.ndarray) -> float:
        """The loss of a mean of points; NaN where there are no labels."""
        with np.errstate(over="ignore", invalid="ignore"):
            return float(np.dot(self._cells(mean), self._weights)) if len(self) else float("nan")


def _name(task: Task) -> str:
    return "custom" if task.custom else str(getattr(task.loss, "name", ""))


def _cells(task: Task, kind: str, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The loss of each cell of a mean of points, `[cells, numbers]`."""
    if kind != "values":
        return lambda mean: -np.log(np.maximum(mean[:, 0], np.float32(_LEAST)))
    name = _name(task)
    if name == "mean_absolute":
        return lambda mean: np.abs(mean[:, 0] - y)
    if name == "huber":
        delta = np.float32(getattr(task.loss, "delta", 1.0))

        def huber(mean: np.ndarray) -> np.ndarray:
            error = np.abs(mean[:, 0] - y)
            return np.asarray(np.where(error < delta, 0.5 * error * error, delta * (error - 0.5 * delta)))

        return huber
    if name == "poisson":
        return lambda mean: mean[:, 0] - y * np.log(np.maximum(mean[:, 0], np.float32(_LEAST)))
    if name == "quantile":
        shares = np.asarray(getattr(task.loss, "quantiles", [0.5]), np.float32)

        def pinball(mean: np.ndarray) -> np.ndarray:
            error = y[:, None] - mean
            return np.asarray(np.mean((shares - (error < 0)) * error, axis=1))

        return pinball
    if name == "gaussian_nll":

        def gaussian(mean: np.ndarray) -> np.ndarray:
            error, second = mean.T
            variance = np.maximum(second - np.square(error), np.float32(_LEAST))
            return np.asarray(0.5 * (np.log(variance) + np.square(error) / variance))

        return gaussian
    return lambda mean: np.square(mean[:, 0] - y)
