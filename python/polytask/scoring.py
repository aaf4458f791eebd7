"""Losses and metrics of outputs that are at hand, and the evaluation of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import _core, interrupts, predictions
from .data import Mixed, Rows, Stream, labels
from .results import Results

if TYPE_CHECKING:
    from .metrics import Metric
    from .model import MultiTaskModel

Values = dict[str, dict[str, float]]


class Scores:
    """Collects raw outputs with their targets, and gives the metrics of all of them."""

    def __init__(self, model: MultiTaskModel) -> None:
        self._model = model
        self._outputs: list[list[np.ndarray]] = []
        self._known: list[list[np.ndarray | None]] = []

    def add(self, rows: Rows, raw: list[np.ndarray]) -> None:
        """Raw outputs `[rows, width]` of each task for these rows."""
        self._outputs.append(raw)
        each = zip(rows.targets, rows.masks, self._model.kinds, rows.weights or [None] * len(raw), strict=True)
        self._known.append([labels.known(*one) for one in each])

    def metrics(self) -> Values:
        """Each task's metrics."""
        return {task.name: self._task(j) for j, task in enumerate(self._model.tasks)}

    def _task(self, j: int) -> dict[str, float]:
        metrics = self._model.metrics[j]
        parts = [(raw[j], known[j]) for raw, known in zip(self._outputs, self._known, strict=True)]
        labelled = [(raw, known) for raw, known in parts if known is not None]
        if not labelled or not metrics:
            return {metric.name: float("nan") for metric in metrics}
        task, kind = self._model.tasks[j], self._model.kinds[j]
        raw = np.concatenate([raw for raw, _ in labelled])
        known = np.concatenate([known for _, known in labelled])
        linked = predictions.linked(task, self._model._core.link(j, raw))
        points = predictions.points(task, linked)
        return {metric.name: self._score(metric, kind, points, known) for metric in metrics}

    def _score(self, metric: Metric, kind: str, points: np.ndarray, known: np.ndarray) -> float:
        interrupts.look()
        return metric.score(kind, points, known)


def evaluate(model: MultiTaskModel, trainer: _core.Trainer, data: Rows | Stream | Mixed, batch_size: int) -> Results:
    """Losses and metrics of a trainer's model on data; the core's data is not needed again."""
    scores, sums = Scores(model), np.zeros((2, len(model.tasks)))
    batches = 0
    for rows in [data] if isinstance(data, Rows) else data:
        batches += 1
        losses, weights, raw = model._core.evaluate(rows.core(), batch_size)
        sums += [losses, weights]
        scores.add(rows, raw)
        interrupts.look()
    if batches == 0:
        raise ValueError("there is no batch to evaluate")
    return _results(model, trainer.evaluated(*sums.tolist()), sums, scores.metrics())


def _results(model: MultiTaskModel, loss: float, sums: np.ndarray, metrics: Values) -> Results:
    """A result from sums of weighted losses and of weights."""
    means = [float(loss / weight) if weight > 0 else float("nan") for loss, weight in sums.T]
    tasks = {task.name: {"loss": mean, **metrics[task.name]} for task, mean in zip(model.tasks, means, strict=True)}
    return Results(tasks, loss)
