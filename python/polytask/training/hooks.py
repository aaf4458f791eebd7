"""What people's own code is called with after an epoch: what the names of its parameters say."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from .callback import Callback

#: What a hook is given: the trainer, the row of the history.
_Call = Callable[[Any, dict[str, Any]], None]

_GIVEN: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "trainer": lambda trainer, row: trainer,
    "row": lambda trainer, row: row,
    "epoch": lambda trainer, row: row["epoch"],
    "metrics": lambda trainer, row: {name: value for name, value in row.items() if name != "epoch"},
}
_GIVEN["logs"] = _GIVEN["metrics"]
#: Kinds of parameters that take any number of values.
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Function(Callback):
    """A function that is called after each epoch.

    It is given what its parameters are called: `row` is the history's row, `metrics` or `logs` that without `epoch`,
    `epoch` its number, counted from 1, `trainer` the `pt.Trainer`. A single parameter of another name is the row.

    Arguments:
        function: the function, or whatever can be called.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        after_epoch(self)

    def on_epoch_end(self, trainer: Any, row: dict[str, Any]) -> None:
        _of_function(self.function)(trainer, row)

    def __repr__(self) -> str:
        return f"Function({getattr(self.function, '__name__', self.function)!s})"


def read(callbacks: Any) -> list[Callback]:
    """Callbacks as they are, and functions as callbacks.

    Raises:
        TypeError: something else, or a hook that is not known how to be called.
    """
    callbacks = [callbacks] if isinstance(callbacks, Callback) or _is_function(callbacks) else callbacks
    if not isinstance(callbacks, Iterable) or isinstance(callbacks, str):
        raise TypeError(f"`callbacks` should be a list of pt.Callback or functions; got {callbacks!r}"
                        f"{_made(callbacks)}")  # fmt: skip
    found = [each if isinstance(each, Callback) or not _is_function(each) else Function(each) for each in callbacks]
    wrong = [each for each in found if not isinstance(each, Callback)]
    if wrong:
        raise TypeError(f"`callbacks` should be a list of pt.Callback or functions; got {wrong[0]!r}{_made(wrong[0])}")
    for each in found:
        after_epoch(each)  # for its errors
    return found


def after_epoch(callback: Callback) -> _Call:
    """How a callback is called after an epoch.

    Raises:
        TypeError: its function, or its `on_epoch_end`, has parameters whose meaning is not known.
    """
    return _of_function(callback.function) if isinstance(callback, Function) else _of_method(callback)


def _of_function(function: Callable[..., Any]) -> _Call:
    parameters, variadic = _parameters(function)
    needed = [each for each in parameters if each.default is each.empty]
    known = any(each.name in _GIVEN for each in parameters)
    if not known and (variadic or len(parameters) == 1) and len(needed) <= 1:
        return lambda trainer, row: function(row)
    unknown = [each.name for each in needed if each.name not in _GIVEN] + [variadic] * bool(variadic)
    if unknown:
        raise _unclear(f"a callback that is a function, {_shown(function)}", unknown[0], "a single one is the row")
    return _by_name(function, parameters)


def _of_method(callback: Callback) -> _Call:
    hook: Callable[..., Any] = callback.on_epoch_end
    parameters, variadic = _parameters(hook)
    needed = [each for each in parameters if each.default is each.empty]
    unknown = [each.name for each in needed if each.name not in _GIVEN]
    # note: where the number says it, names are up to whoever writes it: ours, or the one with the epoch between.
    if variadic or (unknown and 2 in (len(needed), len(parameters))):
        return hook
    if not unknown:
        return _by_name(hook, parameters)
    if len(needed) == 3:
        return lambda trainer, row: hook(trainer, row["epoch"], row)
    raise _unclear(f"{type(callback).__name__}.on_epoch_end", unknown[0], "two are the trainer and the row")


def _by_name(function: Callable[..., Any], parameters: list[inspect.Parameter]) -> _Call:
    known = [each for each in parameters if each.name in _GIVEN]
    first = [_GIVEN[each.name] for each in known if each.kind is inspect.Parameter.POSITIONAL_ONLY]
    named = {each.name: _GIVEN[each.name] for each in known if each.kind is not inspect.Parameter.POSITIONAL_ONLY}

    def call(trainer: Any, row: dict[str, Any]) -> None:
        function(*(give(trainer, row) for give in first), **{name: give(trainer, row) for name, give in named.items()})

    return call


def _parameters(function: Callable[..., Any]) -> tuple[list[inspect.Parameter], str]:
    """The parameters of a function, and the name of one that takes whatever comes; builtins may not say."""
    try:
        found = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return [], "args"
    variadic = next((each.name for each in found if each.kind in _VARIADIC), "")
    return [each for each in found if each.kind not in _VARIADIC], variadic


def _shown(function: Callable[..., Any]) -> str:
    return f"{getattr(function, '__name__', type(function).__name__)}{inspect.signature(function)}"


def _unclear(what: str, name: str, by_number: str) -> TypeError:
    known = ", ".join(f"`{each}`" for each in _GIVEN)
    return TypeError(f"{what}: what `{name}` should be is not known; parameters are called {known}, and {by_number}")


def _is_function(callback: Any) -> bool:
    return callable(callback) and not isinstance(callback, type)


def _made(callback: Any) -> str:
    return f"; a class is called first, `{callback.__name__}(...)`" if isinstance(callback, type) else ""
