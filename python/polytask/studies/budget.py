"""How long something may take, as callers say it."""

import re
from typing import Any

import numpy as np

_UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def seconds(budget: Any) -> float:
    """A budget in seconds.

    Raises:
        TypeError, ValueError: no number, or one without a unit that is known.
    """
    wanted = '`budget` should be seconds above 0, or a number with a unit, such as "90s", "10m" or "1h"'
    if isinstance(budget, str):
        read = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|min|h)\s*", budget)
        if read is None:
            raise ValueError(f"{wanted}; got {budget!r}")
        budget = float(read[1]) * _UNITS[read[2]]
    if isinstance(budget, bool) or not isinstance(budget, int | float | np.number):
        raise TypeError(f"{wanted}; got {budget!r}")
    if not 0 < budget < float("inf"):
        raise ValueError(f"{wanted}; got {budget!r}")
    return float(budget)
