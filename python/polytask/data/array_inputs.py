"""Inputs that are arrays with a name: images, rows of token ids, lengths, masks."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..arguments.messages import listed
from ..arguments.numbers import whole

#: The shape of a row's entry.
Shape = tuple[int, ...]
#: The type as which a module is given it, and what the core calls numbers of that.
HOLDS = {"float32": "numbers", "int64": "whole", "bool": "truths"}


class ArrayInput(NamedTuple):
    """An array, one entry a row."""

    #: The shape of an entry.
    shape: Shape
    #: The type as which a module is given it; none if nobody said, and it is yet to be found out.
    dtype: str | None = None
    #: Whether nobody said that it is numbers, where truths would be something else to the module.
    unsure: bool = False

    def describe(self, name: str) -> dict[str, Any]:
        """What the core reads."""
        return {"name": name, "shape": list(self.shape), "holds": HOLDS[self.dtype or "float32"]}

    @classmethod
    def restore(cls, stored: Mapping[str, Any]) -> "ArrayInput":
        """Of a description."""
        dtypes = {holds: dtype for dtype, holds in HOLDS.items()}
        return cls(tuple(stored["shape"]), dtypes[stored["holds"]])

    def __repr__(self) -> str:
        typed = self.dtype not in (None, "float32")
        return f"({self.shape}, {self.dtype!r})" if typed else repr(self.shape)


def read(arrays: Any) -> dict[str, ArrayInput]:
    """Shapes, and types where they are said, by name.

    Raises:
        TypeError, ValueError: what is neither a size nor a shape; says what was expected and what came.
    """
    if arrays is None:
        return {}
    if not isinstance(arrays, Mapping):
        raise TypeError(f'`arrays` should be a dict such as {{"image": (3, 32, 32)}}; got {arrays!r}')
    for name in arrays:
        if not isinstance(name, str) or not name or "/" in name or name in ("numeric", "categorical"):
            raise ValueError("`arrays` should have names other than `numeric` and `categorical`, without `/`; got "
                             f"{name!r}")  # fmt: skip
    return {name: array(given, f"`arrays[{name!r}]`") for name, given in arrays.items()}


def array(given: Any, argument: str) -> ArrayInput:
    """A shape, or a shape and a type."""
    if isinstance(given, ArrayInput):
        return given
    if isinstance(given, tuple) and len(given) == 2 and not isinstance(given[1], int | np.integer):
        return ArrayInput(shape(given[0], argument), _dtype(given[1], argument))
    return ArrayInput(shape(given, argument))


def _dtype(given: Any, argument: str) -> str:
    name = str(given).removeprefix("torch.") if not isinstance(given, type) else given.__name__
    dtype = {"float": "float32", "int": "int64"}.get(name, name)
    if dtype not in HOLDS:
        raise ValueError(f"{argument} should have a type of {listed(HOLDS)}; got {given!r}")
    return dtype


def shape(given: Any, argument: str) -> Shape:
    """The shape of a row's entry; one number is that of a vector, and `()` is one number a row."""
    if isinstance(given, int | np.integer) and not isinstance(given, bool):
        return (whole(given, argument),)
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Sequence):
        raise TypeError(f"{argument} should be the shape of a row's entry, such as (3, 32, 32); got {given!r}")
    return tuple(whole(size, argument) for size in given)


def given_for(inputs: Any) -> dict[str, ArrayInput] | None:
    """The arrays that stand for `pt.Inputs` as a model's `inputs`: one shape, shapes in order, or shapes by name; none
    if it is nothing of the kind.
    """
    if isinstance(inputs, Mapping):
        return read(inputs)
    if not isinstance(inputs, tuple | list):
        return None
    if all(isinstance(size, int | np.integer) for size in inputs) and inputs:
        return {"x": array(inputs, "`inputs`")}
    return {f"x{at}": array(each, f"`inputs[{at}]`") for at, each in enumerate(inputs)} or None


def check_rows(array: np.ndarray, of: ArrayInput, argument: str) -> None:
    """Refuses the entry of one row where rows of entries are wanted; before their numbers of rows are compared.

    Raises:
        ValueError: says how to pass one row.
    """
    # One number is a row of one number, and where there are several they are as many rows.
    if array.shape == of.shape != (1,):
        wanted = ", ".join(["rows", *map(str, of.shape)])
        got, one = (list(array.shape), "{}[None]") if of.shape else ("one number", "[{}]")
        raise ValueError(f"{argument} should have shape [{wanted}]; got {got}: one row is an array of rows too, "
                         f"`{one.format(argument.rpartition(': ')[2].strip('`'))}`")  # fmt: skip


def check_truths(array: np.ndarray, of: ArrayInput, name: str, argument: str) -> None:
    """Refuses truths, and whole numbers, where a module that was taken to want floats makes something else of truths.

    Raises:
        TypeError: says how to say what they are.
    """
    if of.unsure and array.dtype.kind in "biu":
        raise TypeError(
            f"{argument} holds {array.dtype}, and the module makes something else of truths than of floats:"
            f' say which it is given, pt.Inputs(arrays={{"{name}": ({of.shape}, "bool")}}) or "float32"'
        )


def by_name(x: Any, names: Sequence[str], argument: str) -> Mapping[str, Any]:
    """Arrays in their order, by name.

    Raises:
        ValueError: more or fewer.
    """
    if len(x) != len(names):
        raise ValueError(f"{argument} should be {len(names)} arrays, {listed(names)}; got {len(x)}")
    return dict(zip(names, x, strict=True))
