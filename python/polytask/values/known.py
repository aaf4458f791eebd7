"""Values that are known, categories or labels, and which of them a value of another type means."""

import math
import re
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np

Number = int | float

_NUMBER = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*")
_WORDS = {"true": True, "false": False}


class Known:
    """Values and their places. A value that is none of them may be equal to one in another type: a string to the number
    (or True, False) that it writes, and the number to the string.
    """

    def __init__(self, values: Iterable[Any]) -> None:
        self.values = list(values)
        self._places = {value: place for place, value in enumerate(self.values)}

    @cached_property
    def _strings(self) -> dict[Number, list[str]]:
        """The strings among them by the number that they write."""
        found: dict[Number, list[str]] = {}
        for value in self.values:
            if isinstance(value, str) and (number := written(value)) is not None:
                found.setdefault(number, []).append(value)
        return found

    @cached_property
    def numbers(self) -> bool:
        """Whether one of them is a number, or True or False, in any type."""
        return bool(self._strings) or any(isinstance(value, int | float) for value in self.values)

    def place(self, value: Any, argument: str) -> int | None:
        """Where the value stands among them, if it does.

        Raises:
            ValueError: it is equal to several of them.
        """
        try:
            place = self._places.get(value)
        except TypeError:  # no value, but a list or the like
            return None
        return self._of_another_type(value, argument) if place is None else place

    def _of_another_type(self, value: Any, argument: str) -> int | None:
        value = value.item() if isinstance(value, np.generic) else value
        text = isinstance(value, str)
        number = written(value) if text else value if isinstance(value, int | float) else None
        for equal in () if number is None else _equals(number):
            if equal in self._places:
                return self._places[equal]
            strings = self._strings.get(equal, [])
            if text:  # "1.0" is "1", since that is how their numbers are written; "01" is a word of its own
                strings = [string for string in strings if _plainly(string, equal) and _plainly(value, equal)]
            if len(strings) > 1:
                raise ValueError(f"{argument}: {value!r} may mean {strings[0]!r} or {strings[1]!r}")
            if strings:
                return self._places[strings[0]]
        return None


def merge(counts: Counter[Any], argument: str) -> Counter[Any]:
    """How often each value comes, with numbers counted as the strings that write them.

    Raises:
        ValueError: a number that several strings write.
    """
    strings = Known(value for value in counts if isinstance(value, str))
    merged: Counter[Any] = Counter()
    for value, count in counts.items():
        place = strings.place(value, argument) if strings.values and not isinstance(value, str) else None
        merged[value if place is None else strings.values[place]] += count
    return merged


def is_missing(value: Any) -> bool:
    """Whether a single value stands for a missing one: None, NaN, pandas' NA and NaT."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating) and value != value


def written(text: str) -> Number | None:
    """The number that a string writes, True and False included."""
    word = _WORDS.get(text.strip().lower())
    if word is not None:
        return word
    if len(text) > 400 or not _NUMBER.fullmatch(text):
        return None
    try:
        return int(text)
    except ValueError:
        number = float(text)
        return number if math.isfinite(number) else None


def _plainly(text: str, number: Number) -> bool:
    return text.lower() in (str(number).lower(), str(float(number)), str(int(number)))


def _equals(number: Number) -> list[Number]:
    """The number, and what it is in single precision, or was before it came to that."""
    if not isinstance(number, float) or number.is_integer() or not math.isfinite(number):
        return [number]
    with np.errstate(over="ignore"):
        single = np.float32(number)
    return [number, float(single), *([float(str(single))] if float(single) == number else [])]
