"""Whole numbers that callers say, checked."""

from typing import Any

import numpy as np


def whole(value: Any, argument: str, least: int = 1) -> int:
    """A whole number of at least `least`; errors name the argument."""
    number = value.item() if isinstance(value, np.generic) else value
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"{argument} should be a whole number of at least {least}; got {value!r}")
    if number < least or number > 2**63 - 1:
        raise ValueError(f"{argument} should be a whole number of at least {least}; got {value!r}")
    return number
