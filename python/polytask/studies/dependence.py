"""Partial dependence: what is predicted if all rows have one value of a column, value by value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arguments.keywords import checked
from ..arguments.numbers import seeded, whole
from ..data.task import Task
from ..model import labelled, predictions
from ..model.ensemble import Ensemble
from ..model.model import MultiTaskModel
from ..process import interrupts
from ..results.dependence import Curve, Dependence
from .features import Features, predictor


@checked
def dependence(
    model: MultiTaskModel | Ensemble,
    data: Any,
    column: str | int,
    *,
    tasks: Sequence[str] | str | None = None,
    grid: int | Sequence[Any] = 20,
    rows: int | None = 1000,
    individual: bool = False,
    seed: int | None = 0,
    batch_size: int = 4096,
) -> Dependence:
    """How predictions depend on a column, other columns being what they are: their mean over rows that all have one
    value of it, value by value (partial dependence; Friedman, Greedy Function Approximation: A Gradient Boosting
    Machine, Annals of Statistics 2001). With `individual` also row by row (individual conditional expectation;
    Goldstein, Kapelner, Bleich and Pitkin, Peeking Inside the Black Box, JCGS 2015), which shows what a mean of lines
    that differ would hide. Nothing is trained.

    Of classes it is their probabilities, of two classes that of the second; of numbers what is predicted in the units
    of the targets, the mean of mean and variance, the middle one of several quantiles. Rows get values that they may
    not have in the world: where columns go together, the ends of a line rest on rows that there are none of.

    Arguments:
        model: a `pt.MultiTaskModel` or a `pt.Ensemble`; of an estimator of `pt.sklearn` its `model_`, with features in
            its scale.
        data: features in any form that `predict` takes, in memory; targets of tuples and frames are left aside.
        column: of a frame its name; of an array `"x[3]"` or 3, of several `"numeric[3]"`, `"categorical[0]"`.
        tasks: names of tasks of rows; all by default.
        grid: the values, or how many of them: all that a column has, or of more numbers those at quantiles between the
            5th and the 95th percent, of more categories the most frequent ones.
        rows: how many rows the mean is over at most, drawn at random; None for all.
        individual: whether lines of single rows are kept.
        seed: of that draw; None as for `pt.Trainer`.
        batch_size: rows that are predicted at a time.

    Raises:
        TypeError, ValueError: what is wrong, what was expected and what came.
        KeyboardInterrupt: Ctrl-C.
    """
    subject = predictor(model)
    if not isinstance(column, str | bytes) and hasattr(column, "__iter__"):
        raise TypeError(f"`column` should be one column, a call each; got {column!r}")
    if isinstance(grid, str | bytes) or not (hasattr(grid, "__iter__") or _is_number(grid)):
        raise TypeError(f"`grid` should be a number of values, or a list of them; got {grid!r}")
    asked: Any = whole(grid, "`grid`") if _is_number(grid) else list(grid)  # type: ignore[arg-type]
    if isinstance(asked, list) and not asked:
        raise ValueError("`grid` should have at least one value; got none")
    size, start = whole(batch_size, "`batch_size`"), seeded(seed)
    most = None if rows is None else whole(rows, "`rows`")
    names = labelled.chosen(tasks, [task.name for task in subject.tasks if task.per is None], "tasks of rows")
    chosen = {task.name: task for task in subject.tasks if task.name in names}
    with interrupts.held():
        features = Features(subject, data, size)
        name = features.check(column)
        values = features.grid(name, asked)
        count = len(features)
        index = np.arange(count)
        if most is not None and count > most:
            index = np.sort(np.random.default_rng(start).choice(count, most, replace=False))
        taken = features.take(index)
        found: dict[str, list[np.ndarray]] = {name: [] for name in names}
        for value in values.values:
            interrupts.look()
            outputs = features.predict(features.fixed(name, value, taken))
            for task in names:
                found[task].append(_points(chosen[task], outputs[task]))
    curves = {}
    for task in names:
        each = np.stack(found[task])
        mean = each.mean(axis=1, dtype=np.float64)
        curves[task] = Curve(_outputs(chosen[task]), mean, each.transpose(1, 0, 2) if individual else None)
    return Dependence(name, values.values, values.along, len(index), curves)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number)


def _points(task: Task, outputs: np.ndarray) -> np.ndarray:
    """What is told of a task, `[rows, outputs]`."""
    return outputs[:, 1:] if task.classes == 2 else predictions.points(task, outputs)


def _outputs(task: Task) -> tuple[str, ...]:
    if task.classes is not None:
        named = [str(label) for label in task.labels or range(task.classes)]
        return (task.name,) if task.classes == 2 else tuple(named)
    if task.outputs == 1:
        return (task.name,)
    return tuple(map(str, task.columns if len(task.columns) == task.outputs else range(task.outputs)))
