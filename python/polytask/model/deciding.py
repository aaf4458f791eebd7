"""What held-out rows say of a model's predictions, or of those of several together: thresholds and intervals."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ..data.task import Task
from ..process import interrupts
from ..results.thresholds import Thresholds
from . import labelled, predictions
from .intervals import PredictionIntervals
from .intervals import Predictor as _Predictor
from .thresholds import Found, Own, best, check


class Predictor(_Predictor, Protocol):
    """What predicts, and knows the kinds of its tasks' labels."""

    @property
    def kinds(self) -> Sequence[str]: ...


def thresholds(
    predictor: Predictor, data: Any, metric: str | Own, tasks: Any, weights: Any, batch_size: int
) -> Thresholds:
    """See `pt.MultiTaskModel.thresholds`."""
    chosen = check(metric)
    kinds = labelled.classifying(predictor.tasks, predictor.kinds)
    of_two = {task.name for task, kind in _each(predictor) if kind == "binary" or task.classes == 2}
    sides = {name: kind for name, kind in kinds.items() if name in of_two}
    names = labelled.chosen(tasks, list(sides), "tasks of two sides")
    with interrupts.held():
        there = predictor._labelled(data, weights, batch_size)
        found = {}
        for name in _with_labels(names, there, tasks is not None, "of two sides"):
            p, known, weight = there[name]
            if sides[name] == "classes":
                p, known = p[:, 1:], np.where(known < 0, np.nan, known)[:, None]
            found[name] = [best(chosen, p[:, at], known[:, at], weight) for at in range(p.shape[1])]
    called = chosen if isinstance(chosen, str) else getattr(chosen, "__name__", type(chosen).__name__)
    return Thresholds(
        called,
        {name: _values(each) for name, each in found.items()},
        {name: [one.score for one in each] for name, each in found.items()},
        {name: [one.labels for one in each] for name, each in found.items()},
    )


def read(given: Any, tasks: Sequence[Task], kinds: Sequence[str]) -> dict[str, float | list[float]]:
    """Thresholds by task, as a file has them.

    Raises:
        TypeError, ValueError: they are none of these tasks.
    """
    found = {task.name: (task, kind) for task, kind in zip(tasks, kinds, strict=True)}
    for name, value in dict(given).items():
        if name not in found:
            raise ValueError(f"thresholds of an unknown task {name!r}")
        predictions.limit(*found[name], value)
    return dict(given)


def intervals(predictor: Predictor, data: Any, tasks: Any, weights: Any, batch_size: int) -> PredictionIntervals:
    """See `pt.MultiTaskModel.intervals`."""
    suited = [task.name for task, kind in _each(predictor) if kind == "values" and task.per is None]
    names = labelled.chosen(tasks, suited, "regressions of rows")
    with interrupts.held():
        there = predictor._labelled(data, weights, batch_size)
    return PredictionIntervals.of(predictor, _with_labels(names, there, tasks is not None, "of a regression"), there)


def _each(predictor: Predictor) -> list[tuple[Task, str]]:
    return list(zip(predictor.tasks, predictor.kinds, strict=True))


def _values(each: Sequence[Found]) -> float | list[float]:
    return each[0].threshold if len(each) == 1 else [one.threshold for one in each]


def _with_labels(names: Sequence[str], there: Any, asked: bool, what: str) -> list[str]:
    """Those of the tasks that have targets at all; all of them, where they were asked for by name."""
    lacking = [name for name in names if name not in there]
    if lacking and asked:
        raise ValueError(f"`data` have no targets of task `{lacking[0]}`")
    found = [name for name in names if name in there]
    if not found:
        raise ValueError(f"`data` have no targets {what}")
    return found
