"""Targets: class names become indices, and what is missing is known."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..component import listed
from . import arrays
from .rows import Rows

if TYPE_CHECKING:
    from ..task import Task


def read(value: Any, task: "Task", argument: str) -> tuple[np.ndarray, np.ndarray | None]:
    """A task's targets as the core reads them, and where they are masked.

    Raises:
        TypeError: no numbers where the task has no class names.
        ValueError: a label that is none of the task's classes.
    """
    array, mask = arrays.unwrap(value, argument)
    if task.labels is not None and not _are_indices(array, task):
        array = _indices(array, mask, task, argument)
    elif array.dtype.kind in "OSUTMmcV":
        arrays.refuse(array, argument)
    array = arrays.readable(array)
    if task.outputs == 1 and array.ndim == 2 and array.shape[1] == 1:
        return array[:, 0], None if mask is None else mask[:, 0]
    return array, mask


def known(array: np.ndarray | None, mask: np.ndarray | None, kind: str) -> np.ndarray | None:
    """Targets with one sign of absence: classes `[n]` with -1, values `[n, outputs]` with NaN."""
    if array is None:
        return None
    if kind == "classes":
        classes = np.where(np.isnan(array), -1, array).astype(np.int64) if array.dtype.kind == "f" else array
        return classes.astype(np.int64) if mask is None else np.where(mask, -1, classes).astype(np.int64)
    values = array.astype(np.float64).reshape(len(array), -1)
    if kind == "binary":
        values[values == -1] = np.nan
    if mask is not None:
        values[mask.reshape(values.shape)] = np.nan
    return values


def any_known(rows: Rows, kinds: Sequence[str]) -> bool:
    """Whether any row has a label for any task."""
    each = (known(*triple) for triple in zip(rows.targets, rows.masks, kinds, strict=True))
    there = [array for array in each if array is not None]
    return any(bool((array >= 0).any() if array.dtype.kind == "i" else (~np.isnan(array)).any()) for array in there)


def without_features(batches: Iterable[Rows], kinds: Sequence[str], numeric: int, categorical: int) -> Rows:
    """The targets of all batches, over features that are all zero and take no memory."""
    each = [[known(*triple) for triple in zip(rows.targets, rows.masks, kinds, strict=True)] for rows in batches]
    each = [known for known in each if all(array is not None for array in known)]
    targets = [np.concatenate(parts) for parts in zip(*each, strict=True)]
    count = len(targets[0]) if targets else 0
    zeros = np.broadcast_to(np.int32(0), (count, numeric)), np.broadcast_to(np.int32(0), (count, categorical))
    return Rows(count, zeros[0] if numeric else None, zeros[1] if categorical else None, targets)


def _are_indices(array: np.ndarray, task: "Task") -> bool:
    """Numbers are indices already, unless the classes are numbers themselves."""
    return array.dtype.kind in "biuf" and not any(isinstance(label, int | float) for label in task.labels or ())


def _indices(array: np.ndarray, mask: np.ndarray | None, task: "Task", argument: str) -> np.ndarray:
    if array.ndim != 1 and array.shape[1:] != (1,):
        raise ValueError(f"{argument} should have shape [rows]; got {list(array.shape)}")
    index = {label: i for i, label in enumerate(task.labels or ())}
    hidden = mask.reshape(-1) if mask is not None else None
    values = array.reshape(-1).tolist()
    codes = np.fromiter((_code(value, index) for value in values), np.int64, len(values))
    wrong = codes == -2 if hidden is None else (codes == -2) & ~hidden
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"{argument} should be one of {listed(map(repr, index))}; got {values[row]!r} at row {row}")
    codes[codes == -2] = -1
    return codes.reshape(array.shape)


def _code(value: Any, index: dict[Any, int]) -> int:
    try:
        code = index.get(value)
    except TypeError:
        return -2
    if code is not None:
        return code
    return -1 if is_missing(value) else -2


def is_missing(value: Any) -> bool:
    """Whether a single value stands for a missing one: None, NaN, pandas' NA and NaT."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating) and value != value
