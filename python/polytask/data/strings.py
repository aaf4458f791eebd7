"""What strings may be meant for: dates and numbers that are written out, codes, texts."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

#: How dates and numbers are written that are more than codes, and how many a column of them has at least.
_MONTH, _DAY = r"(0?[1-9]|1[0-2])", r"(0?[1-9]|[12]\d|3[01])"
_YEAR_FIRST, _DAY_FIRST = rf"(19|20)\d\d[-/.]{_MONTH}[-/.]{_DAY}", rf"{_DAY}[-/.]{_DAY}[-/.](19|20)?\d\d"
_TIME = r"([ T]\d.*)?"
_FORMS = {
    "dates": re.compile(rf"({_YEAR_FIRST}|{_DAY_FIRST}){_TIME}"),
    "numbers": re.compile(r"[-+]?[$€£]?\s?\d[\d,]*(\.\d+)?\s?%|[-+]?[$€£]\s?\d[\d,]*(\.\d+)?|[-+]?\d[\d,]*\.\d+"),
}
_UNSORTED = re.compile(f"{_DAY_FIRST}{_TIME}")
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(,\d{3})*(\.\d+)?")
_SEVERAL = 10
#: Words that strings have on average, at least, if they look like texts.
_WORDS = 3
#: Rows from which on it counts that most have a string of their own.
_ROWS = 20


def doubt(name: str, distinct: Iterable[Any], rows: int, asked: bool) -> str | None:
    """Why categories may not be what a column should become, and what else; none where they may well be.

    Arguments:
        name: of the column.
        distinct: its values, each once, and None if some are missing.
        rows: how many there are.
        asked: whether somebody said that it has categories.
    """
    values = list(distinct)
    strings = [value for value in values if value is not None and value != ""]
    if not asked and (kind := form(strings)):
        return (
            f"`{name}` has {len(strings)} different strings that look like {kind}, such as {strings[0]!r}, and becomes "
            f"categories, which know no order: make {kind} of it first; pt.Inputs.from_frame leaves it as it is where "
            "`categorical` names it, and out where `exclude` does"
        )
    if rows >= _ROWS and 2 * len(values) > rows and any(isinstance(value, str) for value in values):
        return (
            f"`{name}` has {len(values)} different strings in {rows} rows, of which a category learns little: "
            f"{_advice(values, name)}, or leave the column out with `exclude`"
        )
    return None


def is_day_first(value: str) -> bool:
    """Whether a string looks like a date that begins with the day or the month, by which dates do not sort."""
    return _UNSORTED.fullmatch(value.strip()) is not None


def form(values: Sequence[Any]) -> str | None:
    """What strings look like that all are dates, or numbers that are more than codes; none of few of them."""
    if len(values) < _SEVERAL or not all(isinstance(value, str) for value in values):
        return None
    if any("," in value for value in values) and all(_THOUSANDS.fullmatch(value.strip()) for value in values):
        return "numbers"
    found = (kind for kind, form in _FORMS.items() if all(form.fullmatch(value.strip()) for value in values))
    return next(found, None)


def _advice(values: Sequence[Any], name: str) -> str:
    lengths = [len(value.split()) for value in values if isinstance(value, str)]
    if sum(lengths) >= _WORDS * len(lengths):
        return f'pt.Inputs.from_frame(frame, text="{name}") reads texts word by word'
    return "convert them if they are numbers or dates"
