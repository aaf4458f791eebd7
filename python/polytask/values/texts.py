"""Rows of text in any form: strings, or lists of tokens, checked."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch

from . import frames
from .known import is_missing

#: A row: one string, or tokens.
Row = str | list[str]


def read(value: Any, name: str) -> list[Row]:
    """Rows of text: a list, a tuple or an array of strings or of lists of tokens, a column of pandas, polars or Arrow.
    One string is one row, and a row that is missing (None, NaN) is an empty string.

    Raises:
        TypeError: a row or a token that is no string; says where.
        ValueError: what no UTF-8 can write.
    """
    cells = _cells(value, name)
    rows = cells if set(map(type, cells)) <= {str} else [_row(cell, at, name) for at, cell in enumerate(cells)]
    flat = "".join(chain.from_iterable(rows))
    if not flat.isascii():
        _check_unicode(flat, rows, name)
    return rows


def in_tuples(value: Any) -> bool:
    """Whether it is a tuple of strings, or a list of tuples of tokens, which elsewhere are batches."""
    if isinstance(value, tuple):
        return bool(value) and all(isinstance(row, str) for row in value)
    tuples = isinstance(value, list) and bool(value) and all(isinstance(row, tuple) for row in value)
    return tuples and all(isinstance(token, str) for row in value for token in row)


def _cells(value: Any, name: str) -> list[Any]:
    if isinstance(value, str):
        return [value]
    if frames.is_series(value):
        return list(value.to_list())
    if frames.is_of(value, "pyarrow", "Array", "ChunkedArray"):
        return list(value.to_pylist())
    if isinstance(value, np.ndarray):
        if value.ndim not in (1, 2):
            raise TypeError(f"{name} should be texts of rows; got an array of shape {list(value.shape)}")
        return list(value.tolist())
    if isinstance(value, bytes | Mapping | set | frozenset | torch.Tensor) or not isinstance(value, Iterable):
        raise TypeError(f"{name} should be a list of texts; got {type(value).__name__}")
    return list(value)


def _row(cell: Any, at: int, name: str) -> Row:
    if isinstance(cell, str):
        return str(cell)
    if is_missing(cell):
        return ""
    if isinstance(cell, bytes | bytearray):
        raise TypeError(f"{name} should hold strings; got bytes, {bytes(cell[:20])!r}, at row {at}: decode them, "
                        '`row.decode("utf-8")`')  # fmt: skip
    cell = cell.tolist() if isinstance(cell, np.ndarray) else cell
    if not isinstance(cell, Sequence) or frames.is_series(cell):
        raise TypeError(f"{name} should hold strings or lists of tokens; got {cell!r} at row {at}")
    if set(map(type, cell)) <= {str}:
        return list(cell)
    wrong = next((place for place, token in enumerate(cell) if not isinstance(token, str)), None)
    if wrong is not None:
        raise TypeError(f"{name} should hold strings or lists of tokens; got {cell[wrong]!r} at row {at}, position "
                        f"{wrong}")  # fmt: skip
    return list(map(str, cell))


def _check_unicode(flat: str, rows: Sequence[Row], name: str) -> None:
    """Refuses halves of pairs of UTF-16, and what `errors="surrogateescape"` makes of bytes."""
    try:
        flat.encode("utf-8")
    except UnicodeEncodeError as error:
        wrong = flat[error.start]
        at = next(at for at, row in enumerate(rows) if any(wrong in part for part in row))
        raise ValueError(f"{name} should be Unicode; got the surrogate {wrong!r} alone at row {at}, as text "
                         "has that was decoded of other bytes than UTF-8: `errors='replace'`") from None  # fmt: skip
