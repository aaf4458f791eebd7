"""Losses and metrics of outputs that are at hand, and the evaluation of a model."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from .. import _core, metrics
from ..data import Mixed, Rows, Stream, in_memory, labels
from ..data.task import Task
from ..metrics import Metric
from ..process import interrupts
from ..results.observation import number
from ..results.results import Results
from . import predictions
from .pair_scores import PairScores
from .rank_scores import RankScores
from .span_scores import SpanScores

_log = logging.getLogger("polytask")
Values = dict[str, dict[str, float]]

#: Rows that a metric which adds up is given at a time, at least, but for the last.
CHUNK = 4096
#: About how many pairs of positions have outputs at a time.
PAIRS = 1 << 19


class Judged(Protocol):
    """What is looked at of a model."""

    tasks: Sequence[Task]
    kinds: Sequence[str]
    metrics: list[list[Metric]]

    @property
    def temperatures(self) -> Mapping[str, float]: ...
    @property
    def _core(self) -> _core.Model: ...
    def _linked(self, j: int, raw: np.ndarray) -> np.ndarray: ...


class Scores:
    """The metrics of a model's tasks: what the core counts, and the others, for which raw outputs are kept.

    With `remembers`, what was added stays until the metrics are asked for, so that a checkpoint can have it. Those of
    positions that the core does not count, and of spans and lists, are there if rows are `held_out` alone, whose
    outputs come with them.
    """

    def __init__(self, model: Judged, counts: bool = True, remembers: bool = False, held_out: bool = False) -> None:
        self._model = model
        self.remembers = remembers
        self._metrics = model.metrics if held_out else of_training_rows(model)
        single = [without_spans(each) for each in self._metrics]
        self._spans = {
            j: _of_rows(task, each, j)
            for j, (task, each) in enumerate(zip(model.tasks, self._metrics, strict=True))
            if len(single[j]) < len(each)
        }
        triples = zip(model.tasks, model.kinds, single, strict=True)
        self._counted = [
            _counted(*triple) if counts and triple[0].name not in model.temperatures else [] for triple in triples
        ]
        self._others = [
            _Others(model, j, [metric for metric in each if metric.name not in counted], remembers)
            for j, (each, counted) in enumerate(zip(single, self._counted, strict=True))
        ]

    @property
    def others(self) -> bool:
        """Whether there are metrics that the core does not count."""
        return any(others.metrics for others in self._others)

    @property
    def keeps(self) -> bool:
        """Whether raw outputs are wanted at all."""
        return bool(self._spans) or self.others

    @property
    def wanted(self) -> list[dict[str, Any]]:
        """What the core is to count and to keep."""
        keep = [bool(others.metrics) or j in self._spans for j, others in enumerate(self._others)]
        each = zip(self._model.tasks, self._counted, keep, strict=True)
        return [
            {"metrics": names, "keep": keeps, "scale": task.scaling and task.scaling.affine}
            for task, names, keeps in each
        ]

    def add(self, rows: Rows, raw: Sequence[np.ndarray]) -> None:
        """Raw outputs `[rows, width]` of each task for these rows, where they were kept."""
        for others, outputs in zip(self._others, raw, strict=True):
            others.add(rows, outputs)
        for j, spans in self._spans.items():
            spans.add(rows, self._model._linked(j, raw[j]))

    def state(self) -> list[Any]:
        """What was added, for a checkpoint."""
        return [others.state() for others in self._others]

    def restore(self, state: Any) -> None:
        """Adds what a checkpoint had, in the same parts.

        Raises:
            ValueError: it is of other tasks, or damaged.
        """
        for others, each in zip(self._others, state, strict=True):
            others.restore(each)

    def lose(self) -> None:
        """Makes what is not counted NaN, since a part of it is not there."""
        for others in self._others:
            others.lost = True

    @property
    def lost(self) -> bool:
        """Whether there is something that a part is missing of."""
        return any(others.lost and others.metrics for others in self._others)

    def metrics(self, counted: Sequence[Sequence[float | None]]) -> Values:
        """Each task's metrics, with those that the core counted; what was added is forgotten."""
        return {task.name: self._task(j, counted[j]) for j, task in enumerate(self._model.tasks)}

    def _task(self, j: int, counted: Sequence[float | None]) -> dict[str, float]:
        found = {name: number(value) for name, value in zip(self._counted[j], counted, strict=True)}
        if self._others[j].metrics:
            found |= self._others[j].values()
        if j in self._spans:
            found |= self._spans[j].values()
        return {metric.name: found[metric.name] for metric in self._metrics[j]}


def held_out(model: Judged) -> Scores:
    """All metrics, of rows that are held out."""
    return Scores(model, held_out=True)


def of_training_rows(model: Judged) -> list[list[Metric]]:
    """Each task's metrics of training rows: all of rows, and those of positions that the core counts."""
    each = zip(model.tasks, model.kinds, map(without_spans, model.metrics), strict=True)
    return [
        single if task.per is None else [one for one in single if one.named and one.name in _known(task, kind)]
        for task, kind, single in each
    ]


def without_spans(each: Sequence[Metric]) -> list[Metric]:
    """Metrics of single positions, or of rows."""
    return [metric for metric in each if not metrics.of_rows(metric.name)]


def _of_rows(task: Task, each: Sequence[Metric], index: int) -> SpanScores | PairScores | RankScores:
    """What counts a task's metrics of whole rows."""
    if task.spans is not None:
        return SpanScores(task.spans, index)
    if task.pairs is None:
        return RankScores([one.name for one in each], index)
    assert task.per is not None
    return PairScores(task.pairs, index, task.per)


def _counted(task: Task, kind: str, each: Sequence[Metric]) -> list[str]:
    """The metrics of a task that the core counts on raw outputs."""
    if task.scaling is not None and task.scaling.curves:
        # note: beyond its ends a curve is level, and the core does not see what targets are in units of their own.
        return []
    return [metric.name for metric in each if metric.named and metric.name in _known(task, kind)]


def _known(task: Task, kind: str) -> Sequence[str]:
    """The names of metrics that the core counts for a task."""
    # note: the outputs of a Python loss over classes are logits, which the core does not know to be such.
    return ("accuracy",) if task.custom and kind == "classes" else metrics.COUNTED[kind]


class _Others:
    """The metrics of one task that the core does not count, and the rows that they have not been given yet."""

    def __init__(self, model: Judged, index: int, each: list[Metric], remembers: bool) -> None:
        self.metrics = each
        self._remembers = remembers
        self._model = model
        self._index = index
        self._task = model.tasks[index]
        self._kind = model.kinds[index]
        self._whole = any(metric.whole for metric in each)
        self._begin()

    def _begin(self) -> None:
        self.lost = False
        self._added: list[tuple[np.ndarray, np.ndarray]] = []
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self._sums: list[metrics.Sums] = []

    def add(self, rows: Rows, raw: np.ndarray) -> None:
        """Takes up rows, or the positions of rows, that have targets."""
        j = self._index
        if not self.metrics or rows.targets[j] is None:
            return
        targets = labels.unified(rows.targets[j], rows.masks[j], self._kind, rows.weights[j] if rows.weights else None)
        assert targets is not None
        self._add(raw, targets)

    def _add(self, raw: np.ndarray, targets: np.ndarray) -> None:
        if self._remembers:
            self._added.append((raw, targets))
        self._waiting.append((raw, targets))
        if not self._whole and sum(len(raw) for raw, _ in self._waiting) >= CHUNK:
            self._give()

    def state(self) -> list[Any] | None:
        """Raw outputs, targets, and rows of each part that was added; `None` if nobody wants them."""
        if not self.metrics or not self._added:
            return [] if self.metrics else None
        raw, targets = (np.concatenate(each) for each in zip(*self._added, strict=True))
        return [raw, targets, np.array([len(each) for each, _ in self._added])]

    def restore(self, state: Any) -> None:
        self.lost = state is None
        if not state or not self.metrics:
            return
        raw, targets, rows = (np.asarray(each) for each in state)
        width = self._model._core.widths[self._index]
        classes = self._kind == "classes"
        labelled = targets.dtype == np.int64 and targets.ndim == 1 if classes else targets.dtype == np.float64
        right = raw.shape == (len(targets), width) and raw.dtype == np.float32 and labelled
        if (
            not right
            or (classes and (targets >= self._task.classes).any())
            or (rows < 0).any()
            or rows.sum() != len(raw)
        ):
            raise ValueError(f"the metrics of task `{self._task.name}` are damaged")
        ends = np.cumsum(rows)[:-1]
        for part in zip(np.split(raw, ends), np.split(targets, ends), strict=True):
            self._add(*part)

    def _give(self) -> None:
        """Gives the metrics what waits for them."""
        parts = self._waiting
        self._waiting = []
        raw, targets = parts[0] if len(parts) == 1 else (np.concatenate(each) for each in zip(*parts, strict=True))
        del parts
        linked = self._model._linked(self._index, raw)
        points = predictions.points(self._task, linked)
        self._sums = self._sums or [metrics.Sums(metric, self._kind, points.shape[1]) for metric in self.metrics]
        for sums in self._sums:
            interrupts.look()
            sums.add(points, targets)

    def values(self) -> dict[str, float]:
        """The metrics of all that was added, which is forgotten."""
        if self._waiting:
            self._give()
        sums, lost = self._sums, self.lost
        self._begin()
        if not sums or lost:
            return {metric.name: float("nan") for metric in self.metrics}
        return {metric.name: each.value() for metric, each in zip(self.metrics, sums, strict=True)}


def check(model: Judged, data: Rows | Stream | Mixed) -> None:
    """Checks data to evaluate on, where they are there as a whole; what is doubtful in them is logged.

    Raises:
        ValueError: what is wrong, what was expected and what came.
    """
    for rows in in_memory(data) or ():
        for doubt in doubts(model, rows):
            _log.warning("%s", doubt)


def doubts(model: Judged, rows: Rows) -> list[str]:
    """What may be right in some rows with targets, and is somebody's mistake in a whole data set.

    Raises:
        ValueError: what is wrong, what was expected and what came.
    """
    return [*model._core.check(rows.core(), True), *labels.doubts(model.tasks, rows)]


def evaluate(
    model: Judged, data: Rows | Stream | Mixed, batch_size: int, trainer: _core.Trainer | None = None
) -> Results:
    """Losses and metrics of a model on data; the core's data is not needed again. Of a trainer's model with its
    regularizers and threads.
    """
    scores = held_out(model)
    sums = np.zeros((2, len(model.tasks)))
    meters = model._core.meters(scores.wanted)
    batches = 0
    for rows in _parts(model, data, batch_size) if scores.keeps else [data] if isinstance(data, Rows) else data:
        batches += 1
        losses, weights, raw = model._core.evaluate(rows.core(), batch_size, meters, trainer and trainer.threads)
        sums += [losses, weights]
        scores.add(rows, raw)
        interrupts.look()
    if batches == 0:
        raise ValueError("there is no batch to evaluate")
    loss = _total(model, *sums) if trainer is None else trainer.evaluated(*sums.tolist())
    return _results(model, loss, sums, scores.metrics(meters.values()))


def _total(model: Judged, sums: np.ndarray, weights: np.ndarray) -> float:
    """The sum of the losses by the tasks' weights; NaN where no task has a label."""
    known = weights > 0
    shares = np.array([task.weight for task in model.tasks])[known]
    return float(np.sum(shares * sums[known] / weights[known])) if known.any() else float("nan")


def _parts(model: Judged, data: Rows | Stream | Mixed, batch_size: int) -> Iterator[Rows]:
    """Rows in memory in parts of whole batches, so that the raw outputs of all need not be there at once; where there
    are outputs of pairs of positions parts have few of these.
    """
    size = -(-CHUNK // batch_size) * batch_size
    paired = next((task.per for task in model.tasks if task.pairs is not None), None)
    for rows in [data] if isinstance(data, Rows) else data:
        if paired is not None:
            (positions,) = predictions.of(paired, rows.fields)
            part = np.cumsum(positions.lengths.astype(np.int64) ** 2) // PAIRS
            starts = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(rows)]
            yield from (rows.part(start, end) for start, end in pairwise(starts))
        else:
            yield from [rows] if len(rows) <= size else (rows.part(i, i + size) for i in range(0, len(rows), size))


def _results(model: Judged, loss: float, sums: np.ndarray, metrics: Values) -> Results:
    """A result from sums of weighted losses and of weights."""
    means = [float(loss / weight) if weight > 0 else float("nan") for loss, weight in sums.T]
    tasks = {task.name: {"loss": mean, **metrics[task.name]} for task, mean in zip(model.tasks, means, strict=True)}
    return Results(tasks, loss)
