"""Whole numbers that callers say, checked, and seeds."""

from typing import Any

import numpy as np
import torch


def whole(value: Any, argument: str, least: int = 1) -> int:
    """A whole number of at least `least`; errors name the argument."""
    number = value.item() if isinstance(value, np.generic) else value
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"{argument} should be a whole number of at least {least}; got {value!r}")
    if number < least or number > 2**63 - 1:
        raise ValueError(f"{argument} should be a whole number of at least {least}; got {value!r}")
    return number


def seeded(value: Any) -> int:
    """A seed; for `None` what torch was seeded with, by `torch.manual_seed` or else when it was imported.

    Nothing is drawn for it, so that it is the same until torch is seeded again.
    """
    # note: torch counts its seeds in 64 bits without a sign.
    return torch.initial_seed() % 2**63 if value is None else whole(value, "`seed`", 0)
