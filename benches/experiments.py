"""What the experiments share: a training stopped by validation rows, the error of a model, intervals over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import polytask as pt

Rows = tuple[np.ndarray, dict[str, np.ndarray]]


def part(x: np.ndarray, labels: dict[str, np.ndarray], begin: int, end: int | None) -> Rows:
    """Rows `begin..end`, in single precision."""
    return x[begin:end].astype("float32"), {task: y[begin:end].astype("float32") for task, y in labels.items()}


def train(
    model: pt.MultiTaskModel,
    rows: Rows,
    held_out: Rows,
    *,
    lr: float,
    seed: int,
    patience: int = 5,
    regularizers: Sequence[Any] = (),
    **how: Any,
) -> float:
    """Adam until the loss on the rows held out has not fallen for `patience` epochs; keeps the best, gives its loss."""
    stop = pt.EarlyStopping("loss", patience=patience)
    trainer = pt.Trainer(model, lr=lr, regularizers=regularizers, callbacks=[stop], seed=seed)
    history = trainer.fit(rows, validation=held_out, progress=False, train_metrics=False, **how)
    best: float = min(history["validation/loss"])
    return best


def error(model: pt.MultiTaskModel, rows: Rows) -> float:
    """Squared error over the variance of the labels, the mean over tasks."""
    x, labels = rows
    predicted = model.predict(x)
    return statistics.mean(float(np.mean((predicted[task] - y) ** 2) / y.var()) for task, y in labels.items())


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half the width of its 95 % interval, by Student's t over seeds."""
    from scipy.stats import t

    count = len(values)
    if count < 2:
        return statistics.mean(values), math.nan
    return statistics.mean(values), float(t.ppf(0.975, count - 1)) * statistics.stdev(values) / math.sqrt(count)


def shown(values: Sequence[float], digits: int = 4) -> str:
    """`mean ± half the width` of the interval."""
    mean, half = interval(values)
    return f"{mean:.{digits}f} ± {half:.{digits}f}"
