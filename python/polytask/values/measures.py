"""Columns as numbers: those of any type, dates and spans of time."""

import datetime
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from .known import is_missing, written

#: What dates and spans of time count; numbers have the unit "".
DATES = "days since 1970-01-01"
SPANS = "days"

_EPOCH = datetime.datetime(1970, 1, 1)
#: The share of words among dates that leaves a column one of dates.
_WORDS = 0.1
#: Dates as ISO 8601 writes them, which leaves open nothing: day, time, seconds and parts of one, zone.
_ISO = re.compile(r"(\d{4}-[01]\d-[0-3]\d)(?:[ T]([0-2]\d:[0-5]\d)(:[0-5]\d(?:\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?")


def unit(values: np.ndarray) -> str | None:
    """The unit of a column's numbers; none of a column that holds something else, such as true and false, or strings
    that are not dates as ISO 8601 writes them, but for a few words such as "unknown".
    """
    if values.dtype.kind != "O":
        return {"i": "", "u": "", "f": "", "M": DATES, "m": SPANS}.get(values.dtype.kind)
    known = [value for value in values.tolist() if not _is_nothing(value)]
    if known and all(isinstance(value, datetime.date | np.datetime64) for value in known):
        return DATES
    if known and all(isinstance(value, str) for value in known):
        return DATES if _are_dates(known) else None
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
        nothing = values.dtype.kind == "f" and bool(np.isnan(values).all())
        return _plain(values) if own == wanted or nothing else None
    if wanted == "":
        found, wrong = numbers(values)
        return found if wrong is None else None
    written: dict[str, float] = {}
    try:
        return np.array([_cell(value, wanted, written) for value in values.tolist()], np.float64)
    except (TypeError, ValueError):
        return None


def without_words(values: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """A column of dates, where strings that say that there is none are missing, and the rows of these: words, such as
    "unknown", and dates that there are not, such as 0000-00-00.
    """
    rows = [row for row, value in enumerate(values.tolist()) if isinstance(value, str) and _is_no_date(value.strip())]
    rest = values.copy()
    rest[rows] = None
    return rest, rows


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
        said = value.strip().lower()
        return math.nan if not said else written(value) if said not in words else words[said]
    if is_missing(value):
        return math.nan
    return float(value) if isinstance(value, bool | int | float | np.number | np.bool_ | Decimal) else None


def _plain(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "Mm":
        return values.astype(np.float64)
    day = np.timedelta64(1, "D").astype("m8[us]")
    spans = values.astype(f"{values.dtype.kind}8[us]").astype("m8[us]")
    return np.where(np.isnat(spans), np.nan, spans / day)


def _are_dates(strings: Sequence[str]) -> bool:
    """Whether strings are dates as ISO 8601 writes them, and at most a tenth of them say that there is none."""
    counts = Counter(strings)
    others = [value for value in counts if _of_iso(value.strip()) is None]
    if not all(_is_no_date(value.strip()) for value in others):
        return False
    return sum(counts[value] for value in others) <= _WORDS * len(strings)


def _is_nothing(value: Any) -> bool:
    return not value.strip() if isinstance(value, str) else is_missing(value)


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


def _cell(value: Any, wanted: str, written: dict[str, float]) -> float:
    """As `_days`; strings that came before are known from what was written."""
    if not isinstance(value, str):
        return _days(value, wanted)
    if value not in written:
        written[value] = _days(value, wanted)
    return written[value]


def _date(value: str) -> datetime.datetime:
    """What a string writes."""
    found = _of_iso(value)
    return datetime.datetime.fromisoformat(value) if found is None else found


def _of_iso(value: str) -> datetime.datetime | None:
    """A date as ISO 8601 writes it, in ways that Python does not know before 3.11 too; none of another string."""
    found = _ISO.fullmatch(value)
    if found is None:
        return None
    seconds, zone = found[3] or "", found[4] or ""
    if "." in seconds or (zone and ":" not in zone):
        seconds = f"{seconds or ':00'}{'' if '.' in seconds else '.'}"
        zone = zone.replace("Z", "+0000").replace(":", "")
        value = f"{found[1]} {found[2]}{seconds:0<10}"[:26] + (f"{zone[:3]}:{zone[3:]}" if zone else "")
    try:
        return datetime.datetime.fromisoformat(value)
    except ValueError:
        return None


def _is_no_date(value: str) -> bool:
    if not any(letter.isdigit() for letter in value):
        return bool(value)
    return _ISO.fullmatch(value) is not None and _of_iso(value) is None


def _span(value: Any) -> float:
    if not isinstance(value, datetime.timedelta):
        raise TypeError
    return float(value.total_seconds()) / 86400
