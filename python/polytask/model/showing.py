"""What is predicted for rows of tokens, as they are shown."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..arguments.messages import none_of
from ..data.inputs import Inputs
from ..data.rows import Rows
from ..data.task import Task
from ..data.text import Tokens
from ..plots.marked import Marked
from . import predictions


def chosen(tasks: Sequence[Task], names: Sequence[str] | str | None) -> list[Task]:
    """Some tasks by their names, or all.

    Raises:
        ValueError: an unknown task.
    """
    if names is None:
        return list(tasks)
    known = {task.name: task for task in tasks}
    each = [names] if isinstance(names, str) else list(names)
    unknown = next((name for name in each if name not in known), None)
    if unknown is not None:
        raise ValueError(f"`tasks`: unknown task {none_of(unknown, known, 'the model has')}")
    return [known[name] for name in each]


def tokens(parts: Sequence[Rows], inputs: Inputs) -> list[list[str]]:
    """The tokens of each row, as far as the model sees them; of other positions their numbers.

    Raises:
        ValueError: inputs without positions.
    """
    position = next(iter(inputs.positions), None)
    if position is None:
        raise ValueError("`show` draws rows of tokens; the model's inputs have no positions")
    found: list[list[str]] = []
    for rows in parts:
        (ragged,) = predictions.of(position, rows.fields)
        lengths = ragged.lengths.tolist()
        if isinstance(ragged, Tokens):
            assert ragged.text is not None
            each = ragged.text.split(list(ragged.rows))
            found += [row[:count] for row, count in zip(each, lengths, strict=True)]
        else:
            found += [list(map(str, range(count))) for count in lengths]
    return found


def check(rows: Sequence[Sequence[str]], tasks: Sequence[Task], predicted: Mapping[str, Any]) -> None:
    """Refuses predictions of other rows.

    Raises:
        ValueError: says of which task.
    """
    lengths = [len(row) for row in rows]
    for task in tasks:
        each = predicted.get(task.name)
        if each is None:
            continue
        if len(each) != len(rows) or (task.per is not None and [len(row) for row in each] != lengths):
            raise ValueError(f"`predicted` of task `{task.name}` should be of the {len(rows)} rows of `x`, with as "
                             "many tokens; got others")  # fmt: skip


def marked(
    rows: Sequence[Sequence[str]], tasks: Sequence[Task], predicted: Mapping[str, Any], classes: Mapping[str, Any]
) -> list[Marked]:
    """Each row with what its tasks say of it: decisions, and of those of rows numbers beside."""
    found = [Marked(row, {}, {}, {}, {}) for row in rows]
    for task in tasks:
        if task.name not in predicted:
            continue
        for at, row in enumerate(found):
            if task.per is None:
                decided = classes.get(task.name, predicted[task.name])[at]
                row.whole[task.name] = _said(task, predicted[task.name][at], decided)
            elif task.spans is not None:
                row.spans[task.name] = classes[task.name][at]
            elif task.pairs is not None:
                arcs = classes[task.name][at]
                row.arcs[task.name] = [(j, i, kind) for i, j, kind in arcs] if task.pairs.tree else arcs
            else:
                labels = classes[task.name] if task.name in classes else predicted[task.name]
                row.tags[task.name] = [_short(label) for label in labels[at]]
    return found


def _said(task: Task, p: Any, decided: Any) -> str:
    """A decision and how likely it is, or a number."""
    if task.classes is None:
        return _short(decided)
    return f"{decided} ({float(np.max(p)):.2f})"


def _short(value: Any) -> str:
    """A label, or numbers in few digits."""
    if isinstance(value, np.ndarray) and value.ndim:
        return " ".join(map(_short, value))
    return f"{float(value):.3g}" if isinstance(value, float | np.floating) else str(value)
