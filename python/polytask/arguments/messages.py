"""How messages say names: in backticks, and the one that was probably meant."""

from collections.abc import Iterable
from typing import Any

from .. import _core


def meant(name: object, names: Iterable[Any]) -> str:
    """The question whether one of these was meant, to stand before the list of them; nothing if none is close."""
    return _core.meant(str(name), [str(each) for each in names])


def none_of(name: Any, names: Iterable[Any], there_are: str) -> str:
    """What is said of a name that is none of these: itself, the one that may be meant, and all of them."""
    have = list(names)
    return f"{name!r}; {meant(name, have)}{there_are} {listed(have)}"


def listed(names: Any) -> str:
    """Names in backticks, for error messages."""
    return ", ".join(f"`{name}`" for name in names) or "none"
