"""Memory of the process."""

import ctypes
import functools
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def gives_back(function: Callable[P, R]) -> Callable[P, R]:
    """A function of many networks, after which the memory that they had is the system's again. The C library of Linux
    keeps what was freed, which of a search may be more than all else that a notebook holds; elsewhere nothing happens.
    """

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        finally:
            give_back()

    return called


def give_back() -> None:
    """Hands memory that was freed back to the system, where the C library can."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(ctypes.c_size_t(0))
