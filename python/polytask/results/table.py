"""Tables of numbers for terminals and notebooks."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np


def text(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns under their names; text to the left, numbers to the right."""
    cells = [[shown(value) for value in row] for row in rows]
    widths = [max(len(row[j]) for row in [list(header), *cells]) for j in range(len(header))]
    left = [all(isinstance(row[j], str) for row in rows) for j in range(len(header))]

    def line(row: Sequence[str]) -> str:
        parts = [
            cell.ljust(width) if flush else cell.rjust(width)
            for cell, width, flush in zip(row, widths, left, strict=True)
        ]
        return "  ".join(parts).rstrip()

    return "\n".join([line(header), *map(line, cells)])


def html(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """The same for notebooks."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(shown(value))}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def shown(value: Any) -> str:
    """A cell: four digits, dates without a time that is none, nothing for what is missing."""
    if value is None or value != value:
        return "-"
    if isinstance(value, np.datetime64):
        return str(np.datetime_as_string(value, unit="auto"))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}" if 1e-3 <= abs(value) < 1e5 or value == 0 else f"{value:.3g}"
    return str(value)


def pandas(called: str) -> Any:
    """The module, for what is `called` so.

    Raises:
        ImportError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise ImportError(f"{called} needs pandas: pip install 'polytask[pandas]'") from None
    return pandas


class Table(ABC):
    """Something that is shown as a table."""

    @abstractmethod
    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        """Names of the columns, and the rows."""

    def __repr__(self) -> str:
        return text(*self._table())

    def _repr_html_(self) -> str:
        return html(*self._table())
