"""How messages say names: in backticks, and the one that was probably meant."""

from collections.abc import Iterable
from typing import Any

from .. import _core


def meant(name: object, names: Iterable[Any]) -> str:
    """The question whether one of these was meant, to stand before the list of them; nothing if none is close."""
    return _core.meant(str(name), [str(each) for each in names])


def listed(names: Any) -> str:
    """Names in backticks, for error messages."""
    return ", ".join(f"`{name}`" for name in names) or "none"
