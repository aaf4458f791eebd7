"""Targets: class names become indices, and what is missing is known."""

from collections.abc import Callable, Iterable, Sequence
from itertools import starmap
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arguments.messages import listed
from ..components.component import Component
from ..values import arrays, measures, ragged
from ..values.known import Known, is_missing
from ..values.ragged import Ragged
from . import label_lists, span_labels
from .rows import Rows
from .text import Tokens

if TYPE_CHECKING:
    from .inputs import Inputs
    from .task import Task


#: Rows that are looked at together for a label.
_PART = 4096
#: What answers are in labels of two sides.
_ANSWERS = {"no": 0, "yes": 1}


def read(
    value: Any, task: "Task", kind: str, argument: str, place: Callable[[int], str] = "row {}".format
) -> tuple[np.ndarray, np.ndarray | None]:
    """A task's targets as the core reads them, and where they are masked. They are numbers, in any type that may hold
    some, beside what is missing; the labels of the task's classes; or yes and no, where there are two sides. `place`
    says where one of them is.

    Raises:
        TypeError: no numbers where the task has no class names.
        ValueError: a label that is none of the task's classes.
    """
    array, mask = arrays.unwrap(value, argument)
    if array.dtype.kind == "O" and task.labels is not None:
        array = _numbers(array)
    if task.labels is not None and not _are_indices(array, task, argument):
        array = _indices(array, mask, task, argument, place)
    elif array.dtype.kind in "OUT":
        answers = _ANSWERS if kind == "binary" or task.classes == 2 else {}
        array, wrong = measures.numbers(array, mask, answers)
        if wrong is not None:
            expected = "numbers (or yes and no)" if answers else "numbers"
            # A word behind numbers is no class.
            advice = f"; {_advice(task)}" if kind != "values" or task.per or not any(wrong) else ""
            raise TypeError(f"{argument} should hold {expected}; got dtype {array.dtype}, with {array[wrong]!r} at "
                            f"{_at(wrong, place)}{advice}")  # fmt: skip
    elif array.dtype.kind in "SMmcV":
        arrays.refuse(array, argument)
    array = arrays.readable(array)
    if task.outputs == 1 and array.ndim == 2 and array.shape[1] == 1:
        return array[:, 0], None if mask is None else mask[:, 0]
    return array, mask


def of_positions(value: Any, task: "Task", kind: str, argument: str, positions: Ragged) -> Ragged:
    """A task's targets of positions with one sign of absence, for rows of such positions; a row without any is missing
    as a whole.

    Raises:
        TypeError, ValueError: as `read`, or rows that have no positions, or other ones than their text.
    """
    three = False
    if task.spans is None:
        label_lists.refuse_triples(value, argument)
        rows = ragged.read(value, argument)
    else:
        whole_lengths = positions.lengths if not isinstance(positions, Tokens) else positions.whole
        assert whole_lengths is not None
        rows, three = span_labels.read(value, task.spans, argument, whole_lengths)
    if isinstance(positions, Tokens):
        rows = positions.fitted(rows, argument)
    flat = rows.values if rows.mask is None else np.ma.masked_array(rows.values, rows.mask)
    array, mask = read(flat, task, kind, argument, rows.place)
    known = _marked(array, mask, kind)
    if task.spans is not None:
        cut = positions.cut if isinstance(positions, Tokens) else np.zeros(len(rows), bool)
        span_labels.lettered(known, rows, task.spans, three, cut, argument)
    missing = np.zeros(known.shape, bool) if rows.absent is not None else None
    whole = Ragged(known, rows.offsets, missing, rows.absent).stretched(positions.lengths)
    if whole.mask is not None and rows.absent is not None:
        whole.values[whole.mask] = -1 if whole.values.dtype.kind == "i" else np.nan
    return Ragged(whole.values, whole.offsets)


def of_pairs(value: Any, task: "Task", kind: str, argument: str, positions: Ragged) -> Ragged:
    """A task's targets of pairs as triples `[triples, 3]`, for rows of such positions.

    Raises:
        TypeError, ValueError: as `Pairs.read`.
    """
    del kind
    assert task.pairs is not None
    if not isinstance(positions, Tokens):
        return task.pairs.read(value, positions.lengths, argument)
    assert positions.whole is not None
    rows = task.pairs.read(value, positions.whole, argument)
    return task.pairs.cut(rows, positions.lengths) if positions.cut.any() else rows


def unified(
    array: np.ndarray | Ragged | None, mask: np.ndarray | None, kind: str, weights: np.ndarray | None = None
) -> np.ndarray | None:
    """Targets with one sign of absence: classes `[n]` with -1, values `[n, outputs]` with NaN. Those of positions are
    end to end.

    With row weights, a row of weight 0 has no label, as it has none for the loss.
    """
    if array is None:
        return None
    if isinstance(array, Ragged):
        return _of_positions(array, weights)
    if weights is not None and not weights.all():
        absent = np.broadcast_to((weights == 0).reshape(-1, *[1] * (array.ndim - 1)), array.shape)
        mask = absent if mask is None else mask.reshape(array.shape) | absent
    if kind == "classes":
        classes = np.where(np.isnan(array), -1, array).astype(np.int64) if array.dtype.kind == "f" else array
        return classes.astype(np.int64) if mask is None else np.where(mask, -1, classes).astype(np.int64)
    values = array.astype(np.float64).reshape(len(array), -1)
    if kind == "binary":
        values[values == -1] = np.nan
    if mask is not None:
        values[mask.reshape(values.shape)] = np.nan
    return values


def _of_positions(rows: Ragged, weights: np.ndarray | None) -> np.ndarray:
    values = rows.values[rows.offsets[0] : rows.offsets[-1]]
    if weights is None or weights.all():
        return values
    absent = np.repeat(np.broadcast_to(weights.reshape(-1) == 0, len(rows)), rows.lengths)
    missing = -1 if values.dtype.kind == "i" else np.nan
    return np.where(absent.reshape(-1, *[1] * (values.ndim - 1)), np.array(missing, values.dtype), values)


def _marked(array: np.ndarray, mask: np.ndarray | None, kind: str) -> np.ndarray:
    """Targets with one sign of absence, for the core to check: numbers that are no class stay what they are."""
    if kind == "classes" and array.dtype.kind == "f":
        known = array if mask is None else np.where(mask, np.nan, array)
        there = known[~np.isnan(known)]
        if (there != np.trunc(there)).any() or np.isinf(there).any():
            return known
    found = unified(array, mask, kind)
    assert found is not None
    return found


def _doubt(task: "Task", array: np.ndarray | Ragged | None, mask: np.ndarray | None) -> str | None:
    """What codes of two or three classes say of somebody who may have coded them from -1 on, which means missing."""
    coded = task.labels is None and task.classes in (2, 3)
    if not coded or not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        return None
    known = array if mask is None else array[~mask.reshape(array.shape)]
    below, first, second, third = (bool((known == code).any()) for code in (-1, 0, 1, 2))
    if task.classes == 2 and below and second and not first:
        return (f"the targets of task `{task.name}` hold -1 and 1 but no 0: classes count from 0, and -1 means missing "
                "(other labels are listed as they are: classes=[-1, 1]; where nothing but 1 is known, mark what is "
                "missing by NaN)")  # fmt: skip
    if task.classes == 3 and below and first and second and not third:
        return (f"the targets of task `{task.name}` hold -1, 0 and 1 but no 2: classes count from 0, and -1 means "
                "missing (other labels are listed as they are: classes=[-1, 0, 1]; where no row is of class 2, mark "
                "what is missing by NaN)")  # fmt: skip
    return None


def doubts(tasks: "Sequence[Task]", rows: Rows) -> list[str]:
    """What is said of codes of classes that may be meant otherwise, task by task."""
    masks = rows.masks or [None] * len(tasks)
    each = (_doubt(*given) for given in zip(tasks, rows.targets, masks, strict=True))
    return [said for said in each if said is not None]


def any_known(rows: Rows, kinds: Sequence[str]) -> bool:
    """Whether any row has a label for any task."""
    return any(starmap(are_known, zip(rows.targets, rows.masks, kinds, strict=True)))


def are_known(
    target: np.ndarray | Ragged | None, mask: np.ndarray | None, kind: str, weights: np.ndarray | None = None
) -> bool:
    """Whether any row has a label, and a weight above 0."""
    if isinstance(target, np.ndarray):
        own = None if weights is None else np.broadcast_to(weights.reshape(-1), len(target))
        parts = (slice(start, start + _PART) for start in range(0, len(target), _PART))
        return any(
            _are_known(target[part], None if mask is None else mask[part], None if own is None else own[part], kind)
            for part in parts
        )
    return _are_known(target, mask, weights, kind)


def _are_known(
    target: np.ndarray | Ragged | None, mask: np.ndarray | None, weights: np.ndarray | None, kind: str
) -> bool:
    array = unified(target, mask, kind, weights)
    if array is None:
        return False
    if array.dtype.kind != "i":
        return bool((~np.isnan(array)).any())
    # Triples of pairs: of a row without any, all pairs are in no relation.
    in_none = isinstance(target, Ragged) and array.ndim == 2 and (target.lengths == 0).any()
    return bool(in_none or (array >= 0).any())


def without_features(batches: Iterable[Rows], tasks: Sequence[tuple[str, int]], inputs: "Inputs") -> Rows:
    """The targets of all batches, over features that are all zero and take no memory; `tasks` are their kinds of labels
    and how many labels a row has.
    """
    each = [_unified(rows, tasks) for rows in batches]
    targets = [np.concatenate(parts) for parts in zip(*each, strict=True)]
    count = len(targets[0]) if targets else 0

    def zeros(*shape: int) -> np.ndarray:
        return np.broadcast_to(np.int32(0), (count, *shape))

    return Rows(
        count,
        zeros(inputs.numeric) if inputs.numeric else None,
        zeros(inputs.code_columns) if inputs.categorical else None,
        targets,
        fields={name: zeros(*array.shape) for name, array in inputs.arrays.items()},
    )


def _arrays(rows: Rows) -> list[str]:
    """Names of the arrays among features."""
    return [name for name, field in rows.fields.items() if isinstance(field, np.ndarray)]


def joined(parts: Sequence[Rows], tasks: Sequence[tuple[str, int]]) -> Rows:
    """Several data sets as one: a copy of their rows, with labels missing where a data set has none of a task."""

    if any(isinstance(y, Ragged) for rows in parts for y in rows.targets):
        raise ValueError("labels of positions cannot be joined: pass one data set where a weighting learns from it")

    def together(arrays: Sequence[np.ndarray | None]) -> np.ndarray | None:
        there = [array.reshape(len(array), -1) for array in arrays if array is not None]
        return np.concatenate(there) if there else None

    each = [_unified(rows, tasks) for rows in parts]
    weights = [
        np.concatenate(
            [np.ones(len(rows)) if not rows.weights or rows.weights[j] is None else rows.weights[j] for rows in parts]
        )
        for j in range(len(tasks))
    ]
    return Rows(
        sum(map(len, parts)),
        together([rows.numeric for rows in parts]),
        together([rows.categorical for rows in parts]),
        [np.concatenate(labels) for labels in zip(*each, strict=True)],
        masks=[None] * len(tasks),
        weights=weights,
        names=parts[0].names,
        fields={name: np.concatenate([np.asarray(rows.fields[name]) for rows in parts]) for name in _arrays(parts[0])},
    )


def _unified(rows: Rows, tasks: Sequence[tuple[str, int]]) -> list[np.ndarray]:
    """Each task's targets with one sign of absence, which is everywhere where there are none."""

    def task(target: np.ndarray | Ragged | None, mask: np.ndarray | None, kind: str, outputs: int) -> np.ndarray:
        there = unified(target, mask, kind)
        if there is not None:
            return there
        return np.full(len(rows), -1) if kind == "classes" else np.full((len(rows), outputs), np.nan)

    return [task(y, m, *about) for y, m, about in zip(rows.targets, rows.masks, tasks, strict=True)]


def _numbers(array: np.ndarray) -> np.ndarray:
    """Objects as numbers, if they are numbers and missing values alone that stay apart as floats, and else as they
    are.
    """
    if any(isinstance(value, str) or (isinstance(value, int) and abs(value) > 2**53) for value in array.flat):
        return array
    return measures.numbers(array)[0]


def _are_indices(array: np.ndarray, task: "Task", argument: str) -> bool:
    """Numbers are indices already, unless a class is a number itself.

    Raises:
        ValueError: 0 and 1 for classes of which yes is the first or no the second.
    """
    labels = task.labels or []
    if array.dtype.kind not in "biuf" or Known(labels).numbers:
        return False
    sides = [_ANSWERS.get(label.lower()) if isinstance(label, str) else None for label in labels[:2]]
    if 1 in sides[:1] or 0 in sides[1:]:
        raise ValueError(f"{argument} are numbers, and in classes={labels} a 1 may mean {labels[1]!r}, the second, as "
                         "well as yes: give the labels themselves, or list no before yes")  # fmt: skip
    return True


def _advice(task: "Task") -> str:
    """What a task may have for labels that are no numbers, in words."""
    if task.ranks:
        return "grades of a ranking are numbers from 0 on: 0, 1, 2, ..."
    loss = task.loss.name if isinstance(task.loss, Component) else None
    if task.classes is not None or loss in (None, "mean_squared", "focal"):
        return "labels of classes are listed: classes=[...]"
    return f"those of the loss `{loss}` do; labels of classes are listed, classes=[...], and have another loss"


def _at(index: tuple[int, ...], place: Callable[[int], str]) -> str:
    """Where an element stands, in words."""
    text = arrays.place(index)
    return text.replace(f"row {index[0]}", place(index[0]), 1) if index else text


def _indices(
    array: np.ndarray, mask: np.ndarray | None, task: "Task", argument: str, place: Callable[[int], str]
) -> np.ndarray:
    if array.ndim != 1 and array.shape[1:] != (1,):
        raise ValueError(f"{argument} should have shape [rows]; got {list(array.shape)}")
    index = Known(task.labels or ())
    hidden = mask.reshape(-1) if mask is not None else None
    values = array.reshape(-1).tolist()
    codes = np.fromiter((_code(value, index, argument) for value in values), np.int64, len(values))
    wrong = codes == -2 if hidden is None else (codes == -2) & ~hidden
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"{argument} should be one of {listed(map(repr, index.values))}; got {values[row]!r} at {place(row)}"
        )
    codes[codes == -2] = -1
    return codes.reshape(array.shape)


def _code(value: Any, index: Known, argument: str) -> int:
    code = index.place(value, argument)
    return code if code is not None else -1 if is_missing(value) else -2
