"""Columns of lists, of Arrow and polars, without a loop over rows; neither library is imported for it."""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from . import frames

#: Says where one of the rows, or of the values in them, is.
Place = Callable[[int], str]


class Lists(NamedTuple):
    """Row `i` has the values from `starts[i]` on, so many as `lengths[i]`."""

    #: `[values, ...]` of any type.
    values: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    #: Where a value is missing, shaped as they are; `None`: nowhere.
    mask: np.ndarray | None = None
    #: Where a row is missing as a whole, `[rows]`; `None`: nowhere.
    absent: np.ndarray | None = None


def is_column(value: Any) -> bool:
    """Whether it is a column of Arrow, or a column of pandas or polars that holds lists as Arrow does."""
    if frames.is_of(value, "pandas", "Series", "Index"):
        return hasattr(value.dtype, "pyarrow_dtype")
    if frames.is_of(value, "polars", "Series"):
        return str(value.dtype).startswith(("List", "Array"))
    return frames.is_of(value, "pyarrow", "Array", "ChunkedArray")


def read(column: Any, name: str) -> Lists:
    """The lists of a column that `is_column`.

    Raises:
        TypeError: it holds no lists.
        ValueError: lists within its lists that are of different lengths, or missing.
    """
    if frames.is_of(column, "polars", "Series"):
        return _polars(column, name, "row {}".format)
    column = column.array.__arrow_array__() if frames.is_series(column) else column
    return _arrow(column, name, "row {}".format)


def _arrow(column: Any, name: str, at: Place) -> Lists:
    arrow = sys.modules["pyarrow"]
    if isinstance(column, arrow.ChunkedArray):
        column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    spans = _spans(column, arrow.types)
    if spans is None:
        raise TypeError(f"{name} should have a list of positions in each row; got Arrow's type {column.type}")
    child, starts, lengths = spans
    absent = None
    if column.null_count:
        absent = column.is_null().to_numpy(zero_copy_only=False)
        lengths = np.where(absent, 0, lengths)  # what lies under a missing list is not said
    used = lengths > 0
    first, last = (int(starts[used].min()), int((starts + lengths)[used].max())) if used.any() else (0, 0)
    starts = starts - first if first else starts
    values, mask = _leaves(child[first:last], name, _within(starts, lengths, at))
    return Lists(values, starts, lengths, mask, absent)


def _spans(column: Any, types: Any) -> tuple[Any, np.ndarray, np.ndarray] | None:
    """The values of all lists, where each list starts in them, and how long it is; none of what holds no lists."""
    if types.is_list(column.type) or types.is_large_list(column.type):
        offsets = column.offsets.to_numpy()
        return column.values, offsets[:-1], np.diff(offsets)
    if types.is_fixed_size_list(column.type):
        size = column.type.list_size
        starts = np.arange(column.offset, column.offset + len(column)) * size
        return column.values, starts, np.full(len(column), size)
    if types.is_list_view(column.type) or types.is_large_list_view(column.type):
        return column.values, column.offsets.to_numpy(), column.sizes.to_numpy()
    return None


def _within(starts: np.ndarray, lengths: np.ndarray, at: Place) -> Place:
    """Says where the values of rows are by where the rows are."""

    def place(index: int) -> str:
        row = int(((starts <= index) & (index < starts + lengths)).argmax())
        return f"{at(row)}, position {index - int(starts[row])}"

    return place


def _leaves(child: Any, name: str, at: Place) -> tuple[np.ndarray, np.ndarray | None]:
    """The values of an Arrow array, and where they are missing; lists of equal length are rows of an array."""
    types = sys.modules["pyarrow"].types
    if _spans(child, types) is not None:
        return _matrix(_arrow(child, name, at), name, at)
    if types.is_dictionary(child.type):
        child = child.dictionary_decode()
    if child.null_count == 0:
        return child.to_numpy(zero_copy_only=False), None
    mask = child.is_null().to_numpy(zero_copy_only=False)
    if types.is_boolean(child.type) or types.is_integer(child.type):
        # As floats they would lose digits.
        child = child.fill_null(False if types.is_boolean(child.type) else 0)
    return child.to_numpy(zero_copy_only=False), mask


def _polars(series: Any, name: str, at: Place) -> Lists:
    if str(series.dtype).startswith("Array"):
        series = series.arr.to_list()
    absent = series.is_null().to_numpy() if series.null_count() else None
    counts = series.list.len().fill_null(0)
    lengths = counts.to_numpy().astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    inner = series.filter(counts > 0).explode()
    if str(inner.dtype).startswith(("List", "Array")):
        place = _within(starts, lengths, at)
        values, mask = _matrix(_polars(inner, name, place), name, place)
    else:
        values, mask = _plain(inner)
    return Lists(values, starts, lengths, mask, absent)


def _plain(series: Any) -> tuple[np.ndarray, np.ndarray | None]:
    if not series.null_count():
        return frames.values(series), None
    mask = series.is_null().to_numpy()
    boolean = str(series.dtype) == "Boolean"
    if boolean or series.dtype.is_integer():
        series = series.fill_null(False if boolean else 0)
    return frames.values(series), mask


def _matrix(lists: Lists, name: str, at: Place) -> tuple[np.ndarray, np.ndarray | None]:
    """Lists of equal length as the rows of an array."""
    wrong = lists.lengths != lists.lengths[:1]
    if lists.absent is not None:
        raise ValueError(f"{name} should have numbers at each position; got none at {at(int(lists.absent.argmax()))}")
    if wrong.any():
        other = int(wrong.argmax())
        counts = f"{lists.lengths[0]} at {at(0)}, and {lists.lengths[other]} at {at(other)}"
        raise ValueError(f"{name} should have equally many numbers at each position; got {counts}")
    width = int(lists.lengths[0]) if len(lists.lengths) else 0
    count = len(lists.lengths)

    def rows(array: np.ndarray) -> np.ndarray:
        if np.array_equal(lists.starts, np.arange(count) * width):
            return array[: count * width].reshape(count, width, *array.shape[1:])
        return np.asarray(array[lists.starts[:, None] + np.arange(width)])

    return rows(lists.values), None if lists.mask is None else rows(lists.mask)
