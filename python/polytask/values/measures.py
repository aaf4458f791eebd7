"""Columns as numbers: those of any type, dates and spans of time."""

import datetime
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np

from .known import is_missing, written

#: What dates and spans of time count; numbers have the unit "".
DATES = "days since 1970-01-01"
SPANS = "days"

_EPOCH = datetime.datetime(1970, 1, 1)
#: Dates as ISO 8601 writes them, which leaves open nothing: day, time, parts of a second, zone.
_ISO = re.compile(r"(\d{4}-[01]\d-[0-3]\d)(?:[ T]([0-2]\d:[0-5]\d(?::[0-5]\d)?)(\.\d+)?(Z|[+-]\d\d:?\d\d)?)?")


def unit(values: np.ndarray) -> str | None:
    """The unit of a column's numbers; none of a column that holds something else, such as true and false, or strings
    that are not all dates as ISO 8601 writes them.
    """
    if values.dtype.kind != "O":
        return {"i": "", "u": "", "f": "", "M": DATES, "m": SPANS}.get(values.dtype.kind)
    known = [value for value in values.tolist() if not _is_nothing(value)]
    if known and all(isinstance(value, datetime.date | np.datetime64) for value in known):
        return DATES
    if known and all(isinstance(value, str) and _ISO.fullmatch(value.strip()) for value in known):
        return DATES if read(values, DATES) is not None else None
    if known and all(isinstance(value, datetime.timedelta | np.timedelta64) for value in known):
        return SPANS
    words = not known or any(isinstance(value, str | bool) for value in known)
    return "" if not words and numbers(values)[1] is None else None


def read(values: np.ndarray, wanted: str) -> np.ndarray | None:
    """A column's numbers `[rows]` in a unit, NaN where they are missing; none if it holds something else. Strings are
    what they write: numbers, or dates as 2020-12-31, and an empty one is no date.
    """
    if values.dtype.kind != "O":
        own = unit(values) if values.dtype.kind != "b" else ""
        return _plain(values) if own == wanted else None
    if wanted == "":
        found, wrong = numbers(values)
        return found if wrong is None else None
    try:
        return np.array([_days(value, wanted) for value in values.tolist()], np.float64)
    except (TypeError, ValueError):
        return None


def numbers(
    array: np.ndarray, mask: np.ndarray | None = None, words: Mapping[str, int] | None = None
) -> tuple[np.ndarray, tuple[int, ...] | None]:
    """Objects or strings as numbers, NaN where they are missing or masked: numbers of any type, strings that write one,
    and words that stand for one. With a value that is none of it comes the array as it is, and where that stands.
    """
    values = array.reshape(-1).tolist()
    hidden = None if mask is None else mask.reshape(-1)
    found = np.empty(len(values), np.float64)
    for i, value in enumerate(values):
        number = _number(value, words or {}) if hidden is None or not hidden[i] else math.nan
        if number is None:
            return array, tuple(map(int, np.unravel_index(i, array.shape)))
        found[i] = number
    return found.reshape(array.shape), None


def _number(value: Any, words: Mapping[str, int]) -> float | None:
    if isinstance(value, str):
        number = words.get(value.strip().lower())
        return written(value) if number is None else number
    if is_missing(value):
        return math.nan
    return float(value) if isinstance(value, bool | int | float | np.number | np.bool_ | Decimal) else None


def _plain(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "Mm":
        return values.astype(np.float64)
    day = np.timedelta64(1, "D").astype("m8[us]")
    spans = values.astype(f"{values.dtype.kind}8[us]").astype("m8[us]")
    return np.where(np.isnat(spans), np.nan, spans / day)


def _is_nothing(value: Any) -> bool:
    return is_missing(value) or (isinstance(value, str) and not value.strip())


def _days(value: Any, wanted: str) -> float:
    if _is_nothing(value):
        return float("nan")
    if isinstance(value, np.datetime64 | np.timedelta64):
        if isinstance(value, np.datetime64) != (wanted == DATES):
            raise TypeError
        return float(_plain(np.array([value]))[0])
    if wanted == SPANS:
        return _span(value)
    if isinstance(value, str):
        value = _date(value.strip())
    if not isinstance(value, datetime.date):
        raise TypeError
    if not isinstance(value, datetime.datetime):
        return float(value.toordinal() - _EPOCH.toordinal())
    # A time that says its zone is one in UTC.
    return value.timestamp() / 86400 if value.tzinfo is not None else _span(value - _EPOCH)


def _date(value: str) -> datetime.datetime:
    """What a string writes, in ways that Python does not know before 3.11 too."""
    if (found := _ISO.fullmatch(value)) is not None and found[2]:
        fraction = f"{found[3] or '.0':0<7}"[:7]
        zone = (found[4] or "").replace("Z", "+0000").replace(":", "")
        value = f"{found[1]} {found[2] if found[2].count(':') == 2 else f'{found[2]}:00'}{fraction}"
        value += f"{zone[:3]}:{zone[3:]}" if zone else ""
    return datetime.datetime.fromisoformat(value)


def _span(value: Any) -> float:
    if not isinstance(value, datetime.timedelta):
        raise TypeError
    return float(value.total_seconds()) / 86400
