"""What a trainer is told, checked: optimizer, regularizers, threads, numbers."""

from collections.abc import Iterable
from typing import Any

from .. import _core
from ..components.component import Component, plain
from ..components.registry import describe, make


def optimizer(chosen: Any, lr: Any) -> dict[str, Any]:
    """An optimizer, Adam unless said otherwise, with a learning rate that was given beside its name."""
    described = describe("optim", "adam" if chosen is None else chosen, "optimizer")
    if lr is None:
        return described
    if isinstance(chosen, Component):
        raise TypeError(f"`lr` should be given to the optimizer: pt.optim.{type(chosen).__name__}(lr={lr!r})")
    described["lr"] = plain(lr, "`lr`")
    _core.check("optim", described)
    return described


def at_rates(optimizer: dict[str, Any], factor: float) -> dict[str, Any]:
    """An optimizer's description with all its learning rates so many times as high: those of Muon for other parameters
    too, and of each group.
    """
    made = make("optim", optimizer)
    rates = {name: optimizer.get(name, getattr(made, name, None)) for name in ("lr", "adamw_lr")}
    return {**optimizer, **{name: _times(rate, factor) for name, rate in rates.items() if rate is not None}}


def _times(rate: Any, factor: float) -> Any:
    return {group: factor * each for group, each in rate.items()} if isinstance(rate, dict) else factor * rate


def regularizers(components: Any) -> list[Any]:
    """One regularizer or several, described."""
    given = [components] if isinstance(components, Component | str) else components
    if not isinstance(given, Iterable):
        raise TypeError(f"`regularizers` should be a list of pt.regularizer; got {components!r}")
    return [describe("regularizer", each, "regularizers") for each in given]


def threads(value: Any) -> int | str:
    """A number of threads, or "auto"."""
    value = plain(value, "`threads`")
    if value == "auto":
        return "auto"
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f'`threads` should be "auto" or a whole number of at least 1; got {value!r}')
    return value


def number(value: Any, argument: str) -> float | None:
    """A number, or none."""
    value = plain(value, argument)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise TypeError(f"{argument} should be a number above 0 or None; got {value!r}")
    return value
