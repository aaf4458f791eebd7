"""Columns of a history by the names that other libraries give them: an error says what ours are called."""

import re
from collections.abc import Iterable

from ..arguments.messages import listed, meant

#: What other libraries begin the names of numbers with, and what they begin with here.
_OURS = {"train": "", "training": "", "val": "validation/", "valid": "validation/", "validation": "validation/"}


def asked(name: str, names: Iterable[str]) -> str:
    """The question whether one of these columns was meant, to stand before the list of them; nothing if none is."""
    have = list(names)
    theirs = re.fullmatch(rf"({'|'.join(_OURS)})[_/.](.+)", name)
    if theirs is None:
        return meant(name, have)
    ours = [_OURS[theirs[1]] + theirs[2], theirs[2]]
    there = next((each for each in ours if each in have), None)
    return f"did you mean `{there}`? " if there else meant(ours[0], have)


def none_of(name: str, names: Iterable[str], there_are: str) -> str:
    """What is said of a name that is no column: itself, the one that may be meant, and all of them."""
    have = list(names)
    return f"{name!r}; {asked(name, have)}{there_are} {listed(have)}"
