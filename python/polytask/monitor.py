"""What a monitor means: a column of the history, and the direction in which it is better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import observation
from .component import listed

if TYPE_CHECKING:
    from .model import MultiTaskModel

#: Sums of losses over the tasks.
_SUMS = ("loss", "objective")


def find(
    monitor: str, mode: str, columns: Sequence[str], model: MultiTaskModel, argument: str = "`monitor`"
) -> tuple[str, int]:
    """The column for a monitor, that of the validation if there is one, and 1 if higher is better, else -1.

    `mode` is "min", "max", or "auto": as the metric says itself.

    Raises:
        ValueError: there is no such column, or it is not known which direction is better.
    """
    column = next((name for name in (f"validation/{monitor}", monitor) if name in columns), None)
    if column is None:
        raise ValueError(f"{argument}: the history will have no column {monitor!r}; it will have {listed(columns)}")
    higher = higher_is_better(column, model) if mode == "auto" else mode == "max"
    if higher is None:
        raise ValueError(f'{argument}: whether a higher {monitor!r} is better is not known; say mode="max" or "min"')
    return column, 1 if higher else -1


def higher_is_better(column: str, model: MultiTaskModel) -> bool | None:
    """Whether more of a column is better; `None` if nobody says so."""
    task, _, metric = column.removeprefix("validation/").rpartition("/")
    for known, metrics in zip(model.tasks, model.metrics, strict=True):
        for each in metrics:
            if (known.name, each.name) == (task, metric):
                return each.higher_is_better
    return False if metric in _SUMS or column == observation.CONFLICT else None
