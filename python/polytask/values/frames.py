"""Frames of pandas and polars, and tables of ours, read column by column; neither library is imported for it."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..arguments.messages import listed, meant
from . import measures, tables
from .tables import Table


def is_of(value: Any, library: str, *kinds: str) -> bool:
    """Whether it is one of a library's kinds of objects; the library is not imported for it."""
    module = sys.modules.get(library)
    return module is not None and isinstance(value, tuple(getattr(module, kind) for kind in kinds))


def is_frame(value: Any) -> bool:
    """Whether it is a frame of pandas or polars, or a table of ours."""
    return isinstance(value, Table) or is_of(value, "pandas", "DataFrame") or is_of(value, "polars", "DataFrame")


def is_series(value: Any) -> bool:
    """Whether it is a pandas or polars column."""
    return is_of(value, "pandas", "Series", "Index") or is_of(value, "polars", "Series")


def is_lazy(value: Any) -> bool:
    """Whether it is a polars frame that was not computed yet."""
    return is_of(value, "polars", "LazyFrame")


def is_row(value: Any, columns: Sequence[Any]) -> bool:
    """Whether it is a pandas series that is one row with these columns."""
    return bool(columns) and is_of(value, "pandas", "Series") and all(name in value.index for name in columns)


def are_records(value: Any) -> bool:
    """Whether it is a list of dicts."""
    return isinstance(value, list) and bool(value) and all(isinstance(each, Mapping) for each in value)


def framed(value: Any) -> Any:
    """What has columns by name as a frame: a polars frame that was not computed yet, a dict of columns, a dict of the
    values of one row, a list of such; anything else as it is.

    Raises:
        ValueError: columns of different lengths.
    """
    if is_lazy(value):
        return value.collect()
    if are_records(value):
        return Table.of_records(value)
    return Table.of_columns(value) if isinstance(value, Mapping) and value else value


def names(frame: Any) -> list[str]:
    """The names of its columns, strings or whole numbers.

    Raises:
        TypeError: a name of another kind.
    """
    found = list(frame.columns)
    wrong = next((name for name in found if not isinstance(name, str | int)), None)
    if wrong is not None:
        raise TypeError(f"columns should have strings or whole numbers as names; got {wrong!r}")
    return found


def column(frame: Any, name: str, argument: str) -> np.ndarray:
    """One column: numbers as they are, with NaN for missing ones, everything else as objects.

    Raises:
        ValueError: there is no such column, or several.
    """
    return values(stored(frame, name, argument))


def stored(frame: Any, name: str, argument: str) -> Any:
    """One column as the frame holds it.

    Raises:
        ValueError: there is no such column, or several.
    """
    have = names(frame)
    if have.count(name) != 1:
        problem = "has no column" if name not in have else "has several columns"
        near = "" if name in have else meant(name, have)
        raise ValueError(f"{argument} {problem} `{name}`; {near}its columns are {listed(have)}")
    return frame[name]


def is_category(frame: Any, name: str) -> bool:
    """Whether a column's type says that it has categories, whatever they are: those of pandas, of polars, of Arrow."""
    column = frame[name]
    said = str(getattr(column, "dtype", getattr(column, "type", ""))).lower()
    return said.startswith(("categor", "enum", "dictionary"))


def cells(frame: Any, name: str, argument: str) -> list[Any]:
    """One column as Python values, lists and the like as they are.

    Raises:
        ValueError: there is no such column, or several.
    """
    series = stored(frame, name, argument)
    if isinstance(frame, Table):
        return list(values(series))
    return list(series.to_list() if is_of(series, "polars", "Series") else series.tolist())


def matrix(frame: Any, columns: Sequence[str], argument: str) -> np.ndarray:
    """Several columns of numbers side by side, `[rows, columns]`."""
    parts = [_numbers(frame, name, argument) for name in columns]
    return np.column_stack(parts) if parts else np.empty((len(frame), 0), np.float32)


def _numbers(frame: Any, name: str, argument: str) -> np.ndarray:
    values = column(frame, name, argument)
    if is_numeric(values):
        return values
    found = measures.read(values, "")
    if found is None:
        raise TypeError(f"{argument}: column `{name}` should hold numbers; got {kind(frame[name])}")
    return found


def table(frame: Any, columns: Sequence[str], argument: str) -> np.ndarray:
    """Several columns side by side, `[rows, columns]`: numbers if all of them hold numbers, and else objects."""
    parts = [column(frame, name, argument) for name in columns]
    if all(map(is_numeric, parts)):
        return np.column_stack(parts) if parts else np.empty((len(frame), 0), np.float32)
    return np.column_stack([part.astype(object) for part in parts])


def is_numeric(values: np.ndarray) -> bool:
    """Whether a column holds numbers (or booleans)."""
    return values.dtype.kind in "biuf"


def kind(series: Any) -> str:
    """A column's type, for error messages."""
    return f"type {getattr(series, 'dtype', 'object')}"


def values(series: Any) -> np.ndarray:
    """A column's values."""
    if is_of(series, "polars", "Series"):
        numeric = series.dtype.is_numeric() or str(series.dtype).startswith(("Date", "Duration"))
        numeric = numeric or (str(series.dtype) == "Boolean" and series.null_count() == 0)
        if series.dtype.is_decimal() or "128" in str(series.dtype):  # what NumPy has no type for
            series = series.cast(sys.modules["polars"].Float64)
        if series.dtype.is_integer() and series.null_count() and _beyond_floats(series.min(), series.max()):
            numeric = False
        return np.asarray(series.to_numpy() if numeric else np.array(series.to_list(), dtype=object))
    if not is_series(series):
        return tables.values(series)
    array: np.ndarray = _named_ranges(series).to_numpy()
    kind = getattr(series.dtype, "kind", "O")
    if kind in "iu" and array.dtype.kind in "Of" and _beyond_floats(series.min(), series.max()):
        return np.asarray(series.to_numpy(dtype=object))
    if array.dtype.kind == "O" and kind in "iuf":
        array = series.to_numpy(dtype=np.float64, na_value=np.nan)
    return array if array.dtype.kind in "biuf" else _objects(array)


def _named_ranges(series: Any) -> Any:
    """A column of pandas with ranges of numbers, as `pandas.cut` makes them, by their names, and periods by the time at
    which they begin; any other as it is.
    """
    dtype = str(getattr(getattr(series.dtype, "categories", series), "dtype", ""))
    if dtype.startswith("interval"):
        return series.astype("category").cat.rename_categories(str)
    return series.astype("datetime64[us]") if dtype.startswith("period") else series


def _beyond_floats(low: Any, high: Any) -> bool:
    """Whether whole numbers between these, some of them missing, would not stay apart as floats."""
    found = (low, high)
    return any(isinstance(x, int | np.integer) and abs(int(x)) > 2**53 for x in found)


def _objects(array: np.ndarray) -> np.ndarray:
    return array if array.dtype.kind in "OMm" else array.astype(object)
