"""Outputs beside the labels that they are about, task by task: what is learned from held-out rows after training."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import DataLoader

from ..arguments.messages import none_of
from ..data import Mixed, Reader, Rows, labels
from ..data.task import Task
from ..values.ragged import Ragged


class Labelled(NamedTuple):
    """One task's outputs and labels.

    Attributes:
        outputs: `[rows, width]`, those of positions end to end.
        known: classes `[rows]` with -1 where missing, or values `[rows, outputs]` with NaN.
        weights: `[rows]`, those of the rows, 1 where none were given.
    """

    outputs: np.ndarray
    known: np.ndarray
    weights: np.ndarray


def gathered(
    parts: Iterable[tuple[Rows, Sequence[np.ndarray]]], tasks: Sequence[Task], kinds: Sequence[str]
) -> dict[str, Labelled]:
    """Of rows in parts, each with the outputs of all tasks; tasks without targets, and those of pairs, are left out."""
    found: dict[str, list[Labelled]] = {}
    for rows, outputs in parts:
        for j, (task, kind) in enumerate(zip(tasks, kinds, strict=True)):
            if task.pairs is not None:
                continue
            known = labels.unified(rows.targets[j], rows.masks[j], kind)
            if known is not None:
                found.setdefault(task.name, []).append(Labelled(outputs[j], known, _weights(rows, j)))
    return {
        name: Labelled(*(np.concatenate(each) for each in zip(*of, strict=True))) for name, of in found.items()
    }  # fmt: skip


def classifying(tasks: Sequence[Task], kinds: Sequence[str]) -> dict[str, str]:
    """Kinds of labels of the classification tasks of rows and positions; relations are decided otherwise."""
    return {task.name: kind for task, kind in zip(tasks, kinds, strict=True) if kind != "values" and not task.pairs}


def read(reader: Reader, data: Any, weights: Any, batch_size: int) -> tuple[Any, list[Rows]]:
    """One data set, which can be gone through again in the same order, and its rows in parts.

    Raises:
        TypeError, ValueError: several data sets, or what is wrong with the one.
    """
    data = _Kept(data) if isinstance(data, Iterator | DataLoader) else data
    found = reader.read(data, "data", weights=weights, batch_size=batch_size)
    if isinstance(found, Mixed):
        raise TypeError("`data` should be one data set; got several")
    return data, [found] if isinstance(found, Rows) else list(found)


class _Kept:
    """Batches that come in another order each time, or once."""

    def __init__(self, batches: Iterable[Any]) -> None:
        self._batches = list(batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._batches)


def _weights(rows: Rows, j: int) -> np.ndarray:
    given = rows.weights[j] if rows.weights else None
    whole = np.ones(len(rows)) if given is None else np.broadcast_to(given.reshape(-1), len(rows)).astype(np.float64)
    target = rows.targets[j]
    return np.repeat(whole, target.lengths) if isinstance(target, Ragged) else whole


def chosen(tasks: Any, suited: Sequence[str], what: str) -> list[str]:
    """The names of the tasks that are meant: those that are given, or all that are suited.

    Raises:
        TypeError, ValueError: no names, a task that is not suited, or none that is.
    """
    if tasks is None:
        names = list(suited)
    elif isinstance(tasks, str):
        names = [tasks]
    elif isinstance(tasks, Sequence) and all(isinstance(name, str) for name in tasks):
        names = list(dict.fromkeys(tasks))
    else:
        raise TypeError(f"`tasks` should be a list of names of tasks; got {tasks!r}")
    wrong = next((name for name in names if name not in suited), None)
    if wrong is not None:
        raise ValueError(f"`tasks`: no task {none_of(wrong, suited, f'{what} are')}")
    if not names:
        raise ValueError(
            f"there are no {what} to choose from" if tasks is None else "`tasks` should name at least one; got none"
        )
    return names
