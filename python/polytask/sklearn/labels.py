"""The targets `y` in any form, a column a task, with what is missing; and which kind of task a column is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data import sources
from ..values import arrays, frames
from ..values.known import is_missing

_NUMBERS = (bool, int, float, np.number, np.bool_)
#: Whole numbers of at most so many different values are classes, where nobody says what they are.
MOST_CLASSES = 20


@dataclass(frozen=True, eq=False)
class Column:
    """The labels of one task: numbers, booleans or strings `[rows]`, and where there is none."""

    title: Any
    values: np.ndarray
    missing: np.ndarray

    @property
    def distinct(self) -> np.ndarray:
        """The different labels there are, in order."""
        return np.unique(self.values[~self.missing])

    @property
    def numeric(self) -> bool:
        """Whether they are numbers, or true and false."""
        return self.values.dtype.kind in "biuf"

    @property
    def are_classes(self) -> bool:
        """Whether they look like classes: strings, true and false, few whole numbers from 0 on; floats if they are all
        of 0, 1, ... up to a largest one, as whole numbers become where labels are missing.
        """
        if self.values.dtype.kind not in "iuf":
            return True
        labels = self.distinct[self.distinct != -1]
        if len(labels) > MOST_CLASSES or (labels < 0).any():
            return False
        return self.values.dtype.kind != "f" or (len(labels) > 1 and np.array_equal(labels, np.arange(len(labels))))


@dataclass(frozen=True, eq=False)
class Labels:
    """What `y` was: its columns; whether it was one array `[rows]`; the library of its frame, if it was one, "dict" of
    another table with columns by name.
    """

    columns: list[Column]
    flat: bool
    frame: str | None

    def __len__(self) -> int:
        return len(self.columns[0].values)


def read(y: Any) -> Labels:
    """The columns of an array `[rows]` or `[rows, tasks]`, a series, a frame or a dict.

    Raises:
        ValueError: no targets, or of another shape.
        TypeError: labels that are neither numbers nor strings, or both in one column.
    """
    if y is None:
        raise ValueError("the estimator requires y to be passed, but the target y is None")
    y = sources.columned(y)
    y = frames.framed(y) if frames.is_lazy(y) or (isinstance(y, Mapping) and not hasattr(y, "tocsr")) else y
    if frames.is_frame(y):
        columns = [_of_series(name, frames.stored(y, name, "`y`")) for name in frames.names(y)]
        library = next((name for name in ("polars", "pandas") if frames.is_of(y, name, "DataFrame")), "dict")
        if not columns:
            raise ValueError("`y` should have at least one column; got a frame without any")
        return Labels(columns, False, library)
    if frames.is_series(y):
        title = "task1" if y.name is None or y.name == "" else str(y.name)
        return Labels([_of_series(title, y)], True, None)
    array, mask = arrays.unwrap(y.toarray() if hasattr(y, "tocsr") else y, "`y`")
    if array.ndim not in (1, 2) or array.shape[1:] == (0,):
        kind = type(y).__name__
        raise ValueError(f"`y` should have shape [rows] or [rows, tasks]; got {list(array.shape)} of {kind}")
    if array.ndim == 1:
        return Labels([_column("task1", array, mask)], True, None)
    masks = [None] * array.shape[1] if mask is None else mask.T
    pairs = zip(array.T, masks, strict=True)
    return Labels([_column(f"task{j}", *pair) for j, pair in enumerate(pairs, 1)], False, None)


def minus_one_is_a_class(columns: Sequence[Column]) -> bool:
    """Whether -1 is a class and not a missing label: where it occurs beside 1 alone, in each column that has it.

    Raises:
        ValueError: it does in one column, and is missing in another.
    """
    having = [column for column in columns if column.numeric and (column.values[~column.missing] == -1).any()]
    signs = [np.array_equal(column.distinct, [-1, 1]) for column in having]
    if any(signs) and not all(signs):
        one, other = having[signs.index(True)].title, having[signs.index(False)].title
        raise ValueError(f"`y` of task `{one}` can be read in two ways: it holds -1 and 1 alone, and in task `{other}` "
                         "-1 is a missing label; mark missing ones by NaN, or name `tasks`")  # fmt: skip
    return any(signs)


def _of_series(title: Any, series: Any) -> Column:
    values = frames.values(series)
    dtype = getattr(series, "dtype", None)
    integer = getattr(dtype, "is_integer", None)
    whole = integer() if integer is not None else getattr(dtype, "kind", "") in ("i", "u")
    if not whole or values.dtype.kind != "f":
        return _column(title, values, None)
    # Whole numbers, which are floats here for the sake of what is missing.
    missing = np.isnan(values)
    return _column(title, np.where(missing, 0, values).astype(np.int64), missing)


def _column(title: Any, values: np.ndarray, mask: np.ndarray | None) -> Column:
    missing = np.zeros(len(values), bool) if mask is None else np.array(mask)
    values = values.astype(object) if values.dtype.kind == "T" else values
    if values.dtype.kind == "O":
        missing |= np.fromiter(map(is_missing, values), bool, len(values))
        values = _of_one_type(title, values, missing)
    elif values.dtype.kind == "f":
        missing |= np.isnan(values)
    elif values.dtype.kind not in "biuUS":
        raise TypeError(f"`y` of task `{title}` should hold numbers or strings; got dtype {values.dtype}")
    return Column(title, values, missing)


def _of_one_type(title: Any, values: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Objects as numbers or booleans, where they are all such; strings stay objects."""
    known = values[~missing].tolist()
    texts = [value for value in known if isinstance(value, str)]
    others = [value for value in known if not isinstance(value, str)]
    strange = next((value for value in others if not isinstance(value, _NUMBERS)), None)
    if strange is not None:
        raise TypeError(f"`y` of task `{title}` should hold numbers or strings; got {strange!r}")
    if texts and others:
        raise TypeError(f"`y` of task `{title}` should hold labels of one type; got {texts[0]!r} and {others[0]!r}")
    if texts:
        return values
    plain = np.array(known, float if not known else None)
    full = np.zeros(len(values), plain.dtype)
    full[~missing] = plain
    return full
