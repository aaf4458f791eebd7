"""Data that are no rows and no batches yet: tables of other libraries, streams of rows, functions that make batches."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from torch.utils.data import IterableDataset

from . import forms


class Columned(Mapping[str, Any]):
    """The columns of a table by name, each read when it is first asked for."""

    def __init__(self, table: Any) -> None:
        self._table = table
        self._names = list(table.column_names)
        self._read: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._read:
            column = self._table[name]
            # note: a lazy column gives its values as a slice.
            self._read[name] = column if isinstance(column, list | tuple) or forms.is_array(column) else column[:]
        return self._read[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Again:
    """What a function makes anew for each pass."""

    def __init__(self, make: Callable[[], Any], argument: str) -> None:
        self._make = make
        self._argument = argument

    def __iter__(self) -> Iterator[Any]:
        made = self._make()
        if not isinstance(made, Iterable) or isinstance(made, str | bytes | tuple | Mapping) or forms.is_array(made):
            raise TypeError(f"`{self._argument}` is a function, which should give the batches of an epoch, as one "
                            f"with `yield` does; it gave {type(made).__name__}")  # fmt: skip
        return iter(made)


def columned(data: Any) -> Any:
    """A table with `column_names` and columns by name (of Hugging Face, of Arrow) as a mapping; else as it is."""
    return Columned(data) if forms.names_columns(data) and _is_stored(data) else data


def opened(data: Any, argument: str, batch_size: int) -> Any:
    """A function, or a stream of rows that makes its own batches, as batches anew for each pass; else as it is.

    Raises:
        TypeError: a function that needs arguments.
    """
    if forms.is_function(data):
        lacking = _needed(data)
        if lacking:
            raise TypeError(f"`{argument}` is a function, which should need no argument to give the batches of an "
                            f"epoch; it needs `{lacking}`")  # fmt: skip
        return Again(data, argument)
    if forms.names_columns(data) and not _is_stored(data) and callable(getattr(data, "iter", None)):
        return Again(partial(data.iter, batch_size), argument)
    return data


def _is_stored(data: Any) -> bool:
    # note: iterable data sets inherit the method and have nothing for it to give.
    return hasattr(data, "__getitem__") and not isinstance(data, IterableDataset)


def _needed(function: Callable[..., Any]) -> str | None:
    """The first argument that a call has to give."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # builtins may have no signature
        return None
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return next((each.name for each in parameters if each.default is each.empty and each.kind not in variadic), None)
