"""What a component (a loss, an encoder, an optimizer ...) is: its arguments, checked when it is made."""

import inspect
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from .. import _core
from ..arguments.keywords import unknown
from ..arguments.messages import listed


class Component:
    """One building block with its arguments, checked when it is made and never changed afterwards."""

    family: ClassVar[str]
    name: ClassVar[str]
    __signature__: ClassVar[inspect.Signature]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        given = _bind(type(self), args, kwargs)
        self._check(given)
        for key, default in self.defaults().items():
            object.__setattr__(self, key, given.get(key, default))

    def _check(self, given: dict[str, Any]) -> None:
        _core.check(self.family, {"name": self.name, **given})

    @staticmethod
    def _plain(value: Any, argument: str) -> Any:
        return plain(value, argument)

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Every argument with its default."""
        return {name: parameter.default for name, parameter in cls.__signature__.parameters.items()}

    def describe(self) -> dict[str, Any]:
        """The name and the arguments that differ from their defaults, as the core reads them."""
        return {"name": self.name, **self._chosen()}

    def _chosen(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if value != self.defaults()[key]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A pickle of an earlier version lacks what was added since.
        vars(self).update(self.defaults() | state)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is not changed after it is made; make another one")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(json.dumps(self.describe(), sort_keys=True))

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={value!r}" for key, value in self._chosen().items())
        return f"{type(self).__name__}({arguments})"


def _bind(cls: type[Component], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    known = list(cls.__signature__.parameters)
    if len(args) > len(known):
        raise TypeError(f"{cls.__name__} takes at most {len(known)} arguments ({listed(known)}); got {len(args)}")
    given = dict(zip(known, args, strict=False))
    for key, value in kwargs.items():
        if key not in known:
            raise unknown(cls.__name__, key, known)
        if key in given:
            raise TypeError(f"{cls.__name__}: argument `{key}` is given twice")
        given[key] = value
    return {key: cls._plain(value, f"{cls.__name__}: argument `{key}`") for key, value in given.items()}


def plain(value: Any, argument: str) -> Any:
    """The value in JSON's types; errors name the argument."""
    if isinstance(value, np.ndarray | np.generic | torch.Tensor):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{argument} should be a finite number; got {value}")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Component):
        return value.describe()
    if isinstance(value, Mapping):
        return {_key(key, argument): plain(item, argument) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [plain(item, argument) for item in value]
    raise TypeError(f"{argument} should be a number, a string or a list of them; got {type(value).__name__}")


def _key(key: Any, argument: str) -> str:
    if not isinstance(key, str):
        raise TypeError(f"{argument} should have strings as keys; got {key!r}")
    return key
