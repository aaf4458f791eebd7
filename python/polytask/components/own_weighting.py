"""Weightings that are the caller's own: a function of losses, or of losses and Gramian, or an object that has one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

from .. import _core
from ..arguments.messages import listed
from .component import Component
from .registry import component
from .standalone import Weighting

#: A function that gives one weight a task, or an object whose `weigh` does.
Code: TypeAlias = Callable[..., Any] | object

#: What such a function may ask for by these names; without names the first is given losses and the second the Gramian.
_SHOWN = ("losses", "gramian", "tasks")
#: Names by which others' functions ask for the gradients themselves.
_GRADIENTS = ("gradients", "grads", "jacobian", "matrix")
_ADVICE = "a function of your own takes `losses`, or `losses` and `gramian`, and gives one weight a task"


class OwnWeighting(Weighting):
    """A function or object of the caller's own as a weighting.

    Arguments:
        code: it, called with tensors on the processor, of the tasks that have a label in the batch: `losses` `[tasks]`;
            `gramian` `[tasks, tasks]`, the products of the tasks' gradients at the shared parameters; and, where it has
            an argument of that name, `tasks`, their names.

    Raises:
        TypeError: what cannot be called like that.
    """

    family = "weighting"
    name = "custom"
    __signature__ = inspect.Signature()

    code: Code
    called: str
    kind: torch.dtype

    def __init__(self, code: Code) -> None:
        function = _function(code)
        assert function is not None, "who asks has looked"
        called = _called(code)
        self._set(code=code, called=called, kind=torch.float32, _function=function, _shown=_shown(function, called))

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def describe(self) -> dict[str, Any]:
        """What the core reads: the name of a function or of an object's class, and what it looks at."""
        needs = "gramian" if "gramian" in vars(self)["_shown"] else "losses"
        return {"name": self.name, "class": self.called, "needs": needs}

    def weigh(self, tasks: Sequence[str], losses: np.ndarray, gramian: np.ndarray | None) -> list[float]:
        """What the core calls."""
        shown = {"tasks": list(tasks), "losses": torch.from_numpy(losses).to(self.kind)}
        if gramian is not None:
            shown["gramian"] = torch.from_numpy(gramian).to(self.kind)
        arguments, by_name = [], {}
        for name, argument in vars(self)["_shown"].items():
            if argument is None:
                arguments.append(shown[name])
            else:
                by_name[argument] = shown[name]
        with torch.enable_grad():
            given = vars(self)["_function"](*arguments, **by_name)
        return _weights(given, self.called)

    def show_as(self, dtype: torch.dtype) -> None:
        """Has it see numbers of this type, in single precision at least."""
        self._set(kind=torch.promote_types(dtype, torch.float32))

    @property
    def instance(self) -> Any:
        """The object that may learn, if there is one: itself, or that of a method."""
        code = self.code.__self__ if inspect.ismethod(self.code) else self.code
        return None if inspect.isroutine(code) or isinstance(code, functools.partial | type) else code

    @property
    def keeps_state(self) -> bool:
        """Whether it says what it has learned and goes on from it."""
        return all(callable(getattr(self.instance, name, None)) for name in ("state_dict", "load_state_dict"))

    @property
    def forgets(self) -> bool:
        """Whether it may have learned something that it does not say."""
        return not self.keeps_state and bool(getattr(self.instance, "__dict__", None))

    def state(self) -> Any:
        """What it has learned, by its own `state_dict`; None of one that has none."""
        return self.instance.state_dict() if self.keeps_state else None

    def restore(self, state: Any) -> None:
        """Has it go on from what `state` gave."""
        if self.keeps_state:
            self.instance.load_state_dict(state)

    def _made(self) -> _core.Weighting:
        if not hasattr(self, "_held"):
            object.__setattr__(self, "_held", _core.Weighting(self.describe(), self.weigh))
        return self._held

    def __getstate__(self) -> dict[str, Any]:
        return {"code": self.code}

    def __setstate__(self, state: dict[str, Any]) -> None:
        OwnWeighting.__init__(self, state["code"])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OwnWeighting) and self.code is other.code

    def __hash__(self) -> int:
        return id(self.code)

    def __repr__(self) -> str:
        return self.called


def read(value: Any, argument: str = "weighting") -> Weighting:
    """A weighting of `pt.weighting`, the one of a name, or one that is the caller's own.

    Raises:
        TypeError: none of these; a class where an instance should be.
        ValueError: an unknown name.
    """
    if isinstance(value, type):
        raise TypeError(f"`{argument}` should be an instance, {value.__name__}(...); got the class {value.__name__}")
    if isinstance(value, Component):
        mine = next((cls for cls in type(value).__mro__[:-1] if "weigh" in vars(cls) or "__call__" in vars(cls)), None)
        if mine is not None and mine is not OwnWeighting:
            raise TypeError(f"`{argument}`: {mine.__name__} inherits from pt.weighting, by which it would weigh, and "
                            f"not by what it says itself: make it a class of its own; {_ADVICE}")  # fmt: skip
    elif not isinstance(value, str) and _function(value) is not None:
        return OwnWeighting(value)
    made = component("weighting", value, argument) if isinstance(value, str | Component) else _refuse(value, argument)
    assert isinstance(made, Weighting), "weightings are of this class"
    return made


def _refuse(value: Any, argument: str) -> Component:
    try:
        return component("weighting", value, argument)
    except TypeError as error:
        raise TypeError(f"{error}; {_ADVICE}") from None


def _function(code: Any) -> Callable[..., Any] | None:
    """What of it is called."""
    weigh: Callable[..., Any] | None = getattr(code, "weigh", None)
    if callable(weigh):
        return weigh
    return code if callable(code) else None


def _called(code: Any) -> str:
    """The name of a function, or of an object's class."""
    if inspect.ismethod(code):
        return _called(code.__self__)
    if isinstance(code, functools.partial):
        return _called(code.func)
    return getattr(code, "__name__", type(code).__name__)


def _shown(function: Callable[..., Any], called: str) -> dict[str, str | None]:
    """What a function is shown, each as its next argument, or by the argument's name."""
    looked_at = function.forward if isinstance(function, nn.Module) else function
    try:
        parameters = inspect.signature(looked_at).parameters.values()
    except (TypeError, ValueError):
        raise TypeError(f"`weighting`: what `{called}` takes is not known: {_ADVICE}") from None
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    rest = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    wanted = [x for x in parameters if x.name in _SHOWN or (x.default is x.empty and x.kind not in rest)]
    names = [each.name for each in wanted]
    if strange := next((name for name in names if name in _GRADIENTS), None):
        raise TypeError(f"`weighting`: `{called}` asks for `{strange}`, but the gradients themselves are not shown: "
                        f"{_ADVICE}")  # fmt: skip
    shown: dict[str, str | None] = {}
    left = [name for name in _SHOWN[:2] if name not in names]
    for each in wanted:
        plain = each.kind in places
        what = each.name if each.name in _SHOWN else left.pop(0) if left and plain else None
        if what is None:
            raise TypeError(f"`weighting`: `{called}` takes {listed(names)}: {_ADVICE}")
        by_name = not plain or (each.kind is each.POSITIONAL_OR_KEYWORD and each.name in _SHOWN)
        shown[what] = each.name if by_name else None
    if not shown.keys() & {"losses", "gramian"}:
        raise TypeError(f"`weighting`: `{called}` takes {listed(names)}: {_ADVICE}")
    return shown


def _weights(given: Any, called: str) -> list[float]:
    """What a function gave, as numbers."""
    if isinstance(given, torch.Tensor):
        given = given.detach().cpu()
        given = (given.double() if given.is_floating_point() else given).numpy()
    array = np.asarray(given) if not isinstance(given, Mapping | str | None) else None
    if array is None or array.dtype.kind not in "biuf":
        kind = type(given).__name__ if array is None else f"{type(given).__name__} of {array.dtype}"
        raise TypeError(f"`weighting`: `{called}` should give one weight a task, [tasks]; got {kind}")
    if array.ndim != 1:
        shape = list(array.shape)
        raise ValueError(f"`weighting`: `{called}` should give one weight a task, [tasks]; got shape {shape}")
    return [float(weight) for weight in array]
