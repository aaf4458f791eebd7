"""Arguments of components as parameters of their own: `encoder__hidden`, `optimizer__weight_decay`."""

from collections.abc import Mapping
from typing import Any

from ..arguments.keywords import unknown
from ..components.component import Component
from ..components.registry import component

#: The parameters that are components, by their families.
_FAMILIES = {
    "encoder": "encoder",
    "head": "head",
    "optimizer": "optim",
    "schedule": "schedule",
    "sharing": "sharing",
    "weighting": "weighting",
}


def nested(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of those that are components, by `<parameter>__<argument>`."""
    parts = {name: value for name, value in parameters.items() if isinstance(value, Component)}
    return {f"{name}__{key}": value for name, part in parts.items() for key, value in vars(part).items()}


def joined(changes: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The changes with those of components' arguments as changed components, which are made anew.

    Raises:
        ValueError: a parameter that is no component yet, or a value that an argument has no place for.
        TypeError: an argument that the component has not.
    """
    plain: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        part, _, argument = name.partition("__")
        if argument and part in _FAMILIES:
            inner.setdefault(part, {})[argument] = value
        else:
            plain[name] = value
    for name, arguments in inner.items():
        plain[name] = _changed(name, plain.get(name, parameters[name]), arguments)
    return plain


def _changed(name: str, part: Any, arguments: dict[str, Any]) -> Component:
    first = next(iter(arguments))
    if not isinstance(part, Component | str):
        raise ValueError(f"`{name}__{first}` is an argument of a component; `{name}` should be one of "
                         f"pt.{_FAMILIES[name]} or its name, and is {part!r}")  # fmt: skip
    made = component(_FAMILIES[name], part, name)
    for argument in arguments:
        if argument not in made.defaults():
            raise unknown(f"`{name}`: {type(made).__name__}", argument, made.defaults())
    return type(made)(**{**vars(made), **arguments})
