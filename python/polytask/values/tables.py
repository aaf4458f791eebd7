"""Columns by name that are in no frame: a dict of columns, a list of records, one record."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class Table:
    """Columns by name, as they were given; `frames` reads it as it reads a frame."""

    def __init__(self, columns: Mapping[Any, Any]) -> None:
        self._columns = dict(columns)
        lengths = {name: len(column) for name, column in self._columns.items()}
        other = next((name for name, length in lengths.items() if length != len(self)), None)
        if other is not None:
            raise ValueError(f"columns should be equally long; got {len(self)} rows of {next(iter(lengths))!r} and "
                             f"{lengths[other]} of {other!r}")  # fmt: skip

    @classmethod
    def of_columns(cls, columns: Mapping[Any, Any]) -> "Table":
        """A dict of lists, arrays or series; or with a single value somewhere, which is one row.

        Raises:
            ValueError: columns of different lengths.
        """
        return cls.of_records([columns]) if any(map(_is_single, columns.values())) else cls(columns)

    @classmethod
    def of_records(cls, records: Sequence[Mapping[Any, Any]]) -> "Table":
        """A row a dict; what one of them lacks is missing there."""
        names = dict.fromkeys(name for record in records for name in record)
        return cls({name: [record.get(name) for record in records] for name in names})

    @property
    def columns(self) -> list[Any]:
        """Their names."""
        return list(self._columns)

    def __getitem__(self, name: Any) -> Any:
        return self._columns[name]

    def __len__(self) -> int:
        return len(next(iter(self._columns.values()), ()))


def values(column: Any) -> np.ndarray:
    """A column's numbers and dates as they are, all else as objects, which may be lists themselves."""
    plain = not isinstance(column, list | tuple) or all(map(_is_number, column))
    array = np.asarray(column) if plain and len(column) else np.empty(0, object)
    if array.ndim == 1 and array.dtype.kind in "biufMm" and len(array) == len(column):
        return array
    # Those of Arrow are scalars of its own otherwise.
    column = column.to_pylist() if hasattr(column, "to_pylist") else column
    # Assigned one by one, lists stay what they are.
    objects = np.empty(len(column), object)
    for i, cell in enumerate(column):
        objects[i] = cell
    return objects


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float | np.number | np.bool_)


def _is_single(value: Any) -> bool:
    return isinstance(value, str | bytes) or not hasattr(value, "__len__") or getattr(value, "ndim", 1) == 0
