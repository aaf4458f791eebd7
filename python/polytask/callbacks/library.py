"""Libraries of others, imported where they are used."""

from importlib import import_module
from typing import Any


def load(module: str, called: str, extra: str) -> Any:
    """The module, for what is `called` so.

    Raises:
        ImportError: it is not installed; names the extra that brings it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f"{called} needs {extra}: pip install 'polytask[{extra}]' ({error})") from None
