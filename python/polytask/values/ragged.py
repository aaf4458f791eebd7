"""Rows of positions, such as tokens or frames, in any form: values that lie end to end, and where each row's begin."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch

from . import arrays, frames, lists, measures
from .known import is_missing
from .lists import Lists


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of different lengths: row `i` has the positions from `offsets[i]` to below `offsets[i + 1]`."""

    #: `[positions, ...]`.
    values: np.ndarray
    #: `[rows + 1]`, int32 or int64; they need not begin at 0.
    offsets: np.ndarray
    #: Where a value is missing, shaped as they are; `None`: nowhere.
    mask: np.ndarray | None = None
    #: Where a row is missing as a whole, `[rows]`, which then has no position; `None`: nowhere.
    absent: np.ndarray | None = None

    @classmethod
    def of(cls, rows: Lists) -> "Ragged":
        """Rows that may lie anywhere, laid end to end; nothing is copied if they are already."""
        offsets = np.zeros(len(rows.lengths) + 1, np.int64)
        np.cumsum(rows.lengths, out=offsets[1:])
        starts, used = rows.starts.astype(np.int64, copy=False), rows.lengths > 0
        first = int(starts[used][0]) if used.any() else 0
        if np.array_equal(starts[used], offsets[:-1][used] + first):
            end = first + int(offsets[-1])
            return cls(rows.values[:end], offsets + first, _cut(rows.mask, slice(end)), _cut(rows.absent))
        index = np.repeat(starts - offsets[:-1], rows.lengths) + np.arange(offsets[-1])
        return cls(rows.values[index], offsets, _cut(rows.mask, index), _cut(rows.absent))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Positions of each row."""
        return np.diff(self.offsets)

    def take(self, index: np.ndarray) -> "Ragged":
        """A copy of some rows."""
        index = np.asarray(index)
        picked = Lists(self.values, self.offsets[:-1][index], self.lengths[index], self.mask, _cut(self.absent, index))
        return Ragged.of(picked)

    def part(self, start: int, stop: int) -> "Ragged":
        """Neighbouring rows; nothing is copied."""
        start, stop, _ = slice(start, stop).indices(len(self))
        stop = max(start, stop)
        absent = _cut(self.absent, slice(start, stop))
        return Ragged(self.values, self.offsets[start : stop + 1], self.mask, absent)

    def place(self, position: int) -> str:
        """Where one of the values stands, in words."""
        row = int(np.searchsorted(self.offsets, position, side="right")) - 1
        return f"row {row}, position {position - int(self.offsets[row])}"

    def stretched(self, lengths: np.ndarray) -> "Ragged":
        """The same with so many positions in each row that is missing as a whole, all of them missing: labels of
        positions, where a row has none.
        """
        if self.absent is None:
            return self
        lengths = np.where(self.absent, lengths, self.lengths)
        hidden = np.repeat(self.absent, lengths)
        values = np.zeros((len(hidden), *self.values.shape[1:]), self.values.dtype)
        mask = np.ones(values.shape, bool)
        own = slice(self.offsets[0], self.offsets[-1])
        values[~hidden] = self.values[own]
        mask[~hidden] = False if self.mask is None else self.mask[own]
        return Ragged(values, np.concatenate([[0], np.cumsum(lengths)]), mask)


def read(value: Any, name: str, *, lengths: Any = None, mask: Any = None) -> Ragged:
    """Rows of positions, with values of any type: a list or an object array of lists, arrays and tensors; a column of
    lists, of Arrow, pandas or polars; a nested tensor; an array `[rows, positions, ...]`, whose rows are all of one
    length, or padded, with the `lengths` `[rows]` or a `mask` `[rows, positions]` that is 1 where there is a position.

    Raises:
        TypeError: a row that has no positions.
        ValueError: positions of different shapes, or lengths or a mask that do not fit.
    """
    if isinstance(value, Ragged):
        return value
    if lengths is not None or mask is not None:
        return _padded(value, lengths, mask, name)
    if isinstance(value, torch.Tensor) and value.is_nested:
        return _nested(value, name)
    if lists.is_column(value):
        return Ragged.of(lists.read(value, name))
    if frames.is_series(value):
        value = value.to_list()
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return _rows(value, name)
    array, hidden = arrays.unwrap(value, name)
    return _rows(array.tolist(), name) if array.dtype.kind == "O" and array.ndim == 1 else _even(array, hidden, name)


def numbers(value: Any, name: str, *, lengths: Any = None, mask: Any = None, missing: bool = False) -> Ragged:
    """Rows of positions as `read` has them, with numbers that the core reads; with `missing`, some may be missing.

    Raises:
        TypeError: something that is no number.
        ValueError: as in `read`, or a number that is missing.
    """
    rows = read(value, name, lengths=lengths, mask=mask)
    values, hidden = rows.values, rows.mask
    if values.dtype.kind in "OUT":
        values, wrong = measures.numbers(values, hidden)
        if wrong is not None:
            value = rows.values.astype(object)[wrong]
            raise TypeError(f"{name} should hold numbers; got {value!r} at {rows.place(wrong[0])}")
        hidden = np.isnan(values) if hidden is None else hidden | np.isnan(values)
    if not missing and hidden is not None and hidden[rows.offsets[0] : rows.offsets[-1]].any():
        at = int(rows.offsets[0]) + int(np.argwhere(hidden[rows.offsets[0] :])[0, 0])
        raise ValueError(f"{name} should have a number at each position; it is missing at {rows.place(at)}")
    return Ragged(arrays.numeric(values, name), rows.offsets, hidden, rows.absent)


def _cut(mask: np.ndarray | None, index: Any = ...) -> np.ndarray | None:
    """A part of what is true where something is missing; none if nothing is."""
    return mask[index] if mask is not None and mask[index].any() else None


def _even(array: np.ndarray, mask: np.ndarray | None, name: str) -> Ragged:
    """Rows of one length."""
    if array.ndim < 2:
        raise TypeError(f"{name} should have positions in each row, a list a row; got an array of shape "
                        f"{list(array.shape)}")  # fmt: skip
    rows, positions, *inner = array.shape
    shape = (rows * positions, *inner)
    return Ragged(array.reshape(shape), np.arange(rows + 1) * positions, None if mask is None else mask.reshape(shape))


def _padded(value: Any, lengths: Any, mask: Any, name: str) -> Ragged:
    if lengths is not None and mask is not None:
        raise ValueError(f"{name} should have either `lengths` or a `mask`; got both")
    array, hidden = arrays.unwrap(value, name)
    if array.ndim < 2:
        raise TypeError(f"{name} should have shape [rows, positions, ...]; got {list(array.shape)}")
    there = _mask(mask, array, name) if lengths is None else _mask_of(lengths, array, name)
    offsets = np.concatenate([[0], np.cumsum(there.sum(1))])
    return Ragged(array[there], offsets, _cut(hidden, there))


def _mask(mask: Any, array: np.ndarray, name: str) -> np.ndarray:
    mask, _ = arrays.to_numpy(mask, f"the mask of {name}")
    if mask.shape != array.shape[:2]:
        raise ValueError(f"the mask of {name} should have shape {list(array.shape[:2])}; got {list(mask.shape)}")
    wrong = (mask != 0) & (mask != 1)
    if wrong.any():
        row, position = np.argwhere(wrong)[0]
        raise ValueError(f"the mask of {name} should hold 0 and 1; got {mask[row, position]} at row {row}, "
                         f"position {position}")  # fmt: skip
    return np.asarray(mask != 0)


def _mask_of(lengths: Any, array: np.ndarray, name: str) -> np.ndarray:
    rows, positions = array.shape[:2]
    lengths, _ = arrays.to_numpy(lengths, f"the lengths of {name}")
    if lengths.shape != (rows,):
        raise ValueError(f"the lengths of {name} should have shape [{rows}]; got {list(lengths.shape)}")
    wrong = ~((lengths >= 0) & (lengths <= positions) & (lengths == np.floor(lengths)))
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"the lengths of {name} should be whole numbers up to {positions}; got {lengths[row]} at row {row}"
        )
    return np.asarray(np.arange(positions) < lengths[:, None])


def _nested(tensor: Any, name: str) -> Ragged:
    if tensor.layout != torch.jagged:
        return _rows(tensor.unbind(), name)
    if not isinstance(tensor.shape[1], torch.SymInt):
        shape = ", ".join(map(str, tensor.shape))
        raise ValueError(f"{name} should have its positions in the second dimension; got a nested tensor of [{shape}]")
    values, _ = arrays.unwrap(tensor.values(), name)
    offsets = tensor.offsets().cpu().numpy()
    lengths = tensor.lengths()
    if lengths is None:
        return Ragged(values, offsets)
    return Ragged.of(Lists(values, offsets[:-1], lengths.cpu().numpy()))


def _rows(rows: Sequence[Any], name: str) -> Ragged:
    """Rows one by one."""
    absent = np.fromiter((_is_absent(row) for row in rows), bool, len(rows))
    there = [(at, row) for at, row in enumerate(rows) if not absent[at]]
    joined = _of_lists if all(isinstance(row, list | tuple) for _, row in there) else _of_arrays
    values, mask, lengths = joined(there, name)
    counts = np.zeros(len(rows), np.int64)
    counts[~absent] = lengths
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return Ragged(values, offsets, mask, absent if absent.any() else None)


def _is_absent(row: Any) -> bool:
    return not isinstance(row, list | tuple | np.ndarray | torch.Tensor) and is_missing(row)


Joined = tuple[np.ndarray, np.ndarray | None, list[int]]


def _of_lists(rows: Sequence[tuple[int, Sequence[Any]]], name: str) -> Joined:
    flat = list(chain.from_iterable(row for _, row in rows))
    lengths = [len(row) for _, row in rows]
    try:
        values, mask = arrays.unwrap(flat, name) if flat else (np.empty(0, np.float32), None)
    except ValueError:
        return _of_arrays(rows, name)  # which says where
    return values, mask, lengths


def _of_arrays(rows: Sequence[tuple[int, Any]], name: str) -> Joined:
    read = [_row(row, at, name) for at, row in rows]
    full = [(at, array) for (at, _), (array, _) in zip(rows, read, strict=True) if len(array)]
    other = next(((at, array) for at, array in full if array.shape[1:] != full[0][1].shape[1:]), None)
    if other is not None:
        shapes = [list(array.shape[1:]) for _, array in (full[0], other)]
        raise ValueError(f"{name} should have positions of one shape; got {shapes[0]} in row {full[0][0]}, and "
                         f"{shapes[1]} in row {other[0]}")  # fmt: skip
    lengths = [len(array) for array, _ in read]
    if not full:
        return read[0][0] if read else np.empty(0, np.float32), None, lengths
    return np.concatenate([array for _, array in full]), _joined_mask(read), lengths


def _joined_mask(read: Sequence[tuple[np.ndarray, np.ndarray | None]]) -> np.ndarray | None:
    if all(mask is None for _, mask in read):
        return None
    masks = [np.zeros(array.shape, bool) if mask is None else mask for array, mask in read if len(array)]
    return np.concatenate(masks)


def _row(row: Any, at: int, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    if type(row) is np.ndarray and row.ndim:
        return row, None
    name = f"{name}: row {at}"
    if isinstance(row, str | bytes):
        raise _no_positions(row, name)
    try:
        array, mask = arrays.unwrap(row, name)
    except ValueError:
        if not isinstance(row, list | tuple):
            raise
        shapes = [arrays.shape(each) for each in row]
        other = next((at for at, shape in enumerate(shapes) if shape != shapes[0]), None)
        if other is None:
            raise
        raise ValueError(f"{name} should have positions of one shape; got {shapes[0]} at position 0, and "
                         f"{shapes[other]} at position {other}") from None  # fmt: skip
    if array.ndim == 0:
        raise _no_positions(row, name)
    return array, mask


def _no_positions(row: Any, name: str) -> TypeError:
    return TypeError(f"{name} should be a list or an array of positions; got {row!r}")
