"""From the core's outputs to what people see: shapes, decisions, restored tasks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import _core
from ..arguments.messages import listed, none_of
from ..data.task import Task
from ..metrics import COUNTED, WHOLE, Metric
from ..values.ragged import Ragged


def tempered(raw: np.ndarray, temperature: float | None) -> np.ndarray:
    """Logits at a task's temperature, or as they are."""
    return raw if temperature is None else np.ascontiguousarray(raw / np.float32(temperature))


def linked(task: Task, outputs: np.ndarray) -> np.ndarray:
    """What the core predicts, in the units of the targets; a Python loss over classes works on logits, which the core
    hands on as they are.
    """
    if task.scaling is not None:
        return task.scaling.predicted(task.loss, outputs)
    if not (task.custom and task.classes):
        return outputs
    odds: np.ndarray = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    odds /= odds.sum(axis=1, keepdims=True)
    return odds


def shaped(task: Task, outputs: np.ndarray) -> np.ndarray:
    """`[rows, width]` as `[rows]`, `[rows, outputs]`, or with several numbers an output on the last axis."""
    if task.classes is not None:
        return outputs
    each = outputs.shape[1] // task.outputs
    shape = [len(outputs)] + [task.outputs] * (task.outputs > 1) + [each] * (each > 1)
    return outputs.reshape(shape)


def of(per: str, fields: Mapping[str, Ragged | np.ndarray]) -> list[Ragged]:
    """One of the features of these positions."""
    return [part for key, part in fields.items() if isinstance(part, Ragged) and key.startswith(f"{per}/")][:1]


def by_rows(flat: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """What positions have, an array a row, in an array of them."""
    return each_a_row(np.split(flat, np.cumsum(lengths)[:-1]) if len(lengths) else [])


def by_pairs(flat: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """What pairs of positions have, `[n, n, ...]` a row, in an array of them."""
    parts = np.split(flat, np.cumsum(lengths**2)[:-1]) if len(lengths) else []
    shapes = [(int(n), int(n), *flat.shape[1:]) for n in lengths]
    return each_a_row([part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)])


def of_pairs(p: Any, task: Task, called: str) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of pairs `[pairs, classes]`, end to end, and how many positions rows have.

    Raises:
        ValueError: rows that are not `[n, n, classes]`, or no probabilities.
    """
    rows = [np.asarray(row) for row in p]
    wrong = next((row for row in rows if row.ndim != 3 or row.shape != (len(row), len(row), task.classes)), None)
    if wrong is not None:
        raise ValueError(f"{called} should be [n, n, {task.classes}] in each row; got {list(wrong.shape)}")
    flat = np.concatenate(
        [np.zeros((0, task.classes or 0), np.float32), *(row.reshape(-1, row.shape[2]) for row in rows)]
    )
    if not ((flat >= 0) & (flat <= 1)).all():
        raise ValueError(f"{called} should be probabilities; got numbers outside 0..1")
    return flat, np.array([len(row) for row in rows], np.int64)


def each_a_row(parts: Sequence[Any]) -> np.ndarray:
    """An array of what rows have, whatever that is."""
    rows = np.empty(len(parts), object)
    for row, part in enumerate(parts):
        rows[row] = part
    return rows


def check_metrics(tasks: Sequence[Task], kinds: Sequence[str], metrics: Sequence[Sequence[Metric]]) -> None:
    """Refuses metrics of whole rows' positions (spans, relations) that are neither counted nor of such rows."""
    for task, kind, each in zip(tasks, kinds, metrics, strict=True):
        if task.of_whole_rows is None or task.ranks:
            continue
        known = ("accuracy",) if task.custom and kind == "classes" else COUNTED[kind]
        known = (*known, *WHOLE[task.of_whole_rows])
        other = next((metric.name for metric in each if not metric.named or metric.name not in known), None)
        if other is not None:
            raise ValueError(
                f"task `{task.name}`: `metrics` of {task.of_whole_rows} should be {listed(known)}; got {other!r}"
            )


def points(task: Task, outputs: np.ndarray) -> np.ndarray:
    """One number an output, for metrics: the mean of mean and variance, the middle one of several quantiles."""
    if task.classes is not None:
        return outputs
    each = outputs.shape[1] // task.outputs
    return outputs[:, (each - 1) // 2 :: each]


def decided(task: Task, kind: str, p: np.ndarray, threshold: Any) -> np.ndarray:
    """Classes from probabilities, of two sides by a threshold, or by one a label, `[outputs]`."""
    least = limit(task, kind, threshold)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"`predicted` of task `{task.name}` should be probabilities; got numbers outside 0..1")
    if kind == "binary":
        return np.asarray(p >= least, np.int64)
    if p.ndim != 2 or p.shape[1] != task.classes:
        raise ValueError(f"`predicted` of task `{task.name}` should be [rows, {task.classes}]; got {list(p.shape)}")
    index = (p[:, 1] >= least).astype(np.int64) if task.classes == 2 else p.argmax(axis=1)
    if task.labels is None:
        return np.asarray(index)
    mixed = len({type(label) for label in task.labels}) > 1
    labels = np.array(task.labels, dtype=object if mixed else None)
    return np.asarray(labels[index])


def limit(task: Task, kind: str, given: Any) -> Any:
    """A threshold, or those of several labels as an array."""
    if isinstance(given, list | tuple | np.ndarray):
        wanted = task.outputs if kind == "binary" else 1
        if len(np.shape(given)) != 1 or len(given) != wanted:
            raise ValueError(f"`threshold` of task `{task.name}` should be a number, or one a label, {wanted}; got "
                             f"{given!r}")  # fmt: skip
        each = [limit(task, kind, one) for one in given]
        return np.array(each) if len(each) > 1 else each[0]
    if isinstance(given, bool) or not isinstance(given, int | float | np.number):
        raise TypeError(f"`threshold` should be a number between 0 and 1; got {given!r}")
    if not 0 <= given <= 1:
        raise ValueError(f"`threshold` should be a number between 0 and 1; got {given!r}")
    return given


def opened(path: str) -> tuple[_core.Model, dict[str, Any]]:
    """The core's model of a file, and its description."""
    core = _core.Model.load(path)
    return core, core.description


def restored(
    core: list[dict[str, Any]],
    notes: Any,
    losses: Mapping[str, Callable[..., Any]],
    metrics: Mapping[str, Sequence[Any]],
    heads: Mapping[str, Any],
) -> list[Task]:
    """The tasks of a stored description; `losses` and `metrics` have by task what is none of our own, `heads` those of
    single tasks.
    """
    names = [task["name"] for task in core]
    unknown = [name for name in losses if name not in names]
    if unknown:
        raise ValueError(f"`losses`: unknown task {none_of(unknown[0], names, 'the model has')}")
    tasks = []
    for task, note in list(zip(core, notes or [{}] * len(core), strict=True)):
        name = task["name"]
        given = {**note, "metrics": metrics.get(name, note.get("metrics"))}
        tasks.append(Task.restore(task, given, losses.get(name), heads.get(name)))
    return tasks
