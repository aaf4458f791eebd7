"""Modules of the caller's own as a part of a model, and what more must be said of one."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeAlias, TypeGuard, TypeVar

from torch import nn

from ..arguments.keywords import checked
from ..arguments.messages import listed, none_of
from ..arguments.numbers import whole
from .component import Component

#: Which of several outputs is meant: a key or an attribute, a place, or a function of all of them.
Output: TypeAlias = str | int | Callable[[Any], Any]
Part = TypeVar("Part")


class OwnModule:
    """A PyTorch module, or a function that makes one each time, and what of its outputs is meant."""

    family: ClassVar[str]

    @checked
    def __init__(
        self, module: nn.Module | Callable[..., Any], output: Output | None = None, width: int | None = None
    ) -> None:
        called = f"pt.{self.family}.Torch: "
        if isinstance(module, OwnModule) or not is_own(module):
            raise TypeError(f"{called}`module` should be a torch.nn.Module, or a function that makes one each time; "
                            f"got {module!r}")  # fmt: skip
        if isinstance(output, bool) or not (output is None or isinstance(output, str | int) or callable(output)):
            raise TypeError(f"{called}`output` should be the key of one of its outputs, their place, or a function of "
                            f"what it gives; got {output!r}")  # fmt: skip
        self.module = module
        self.output = output
        self.width = None if width is None else whole(width, f"{called}`width`")

    def of(self, module: "nn.Module | Callable[..., Any]", **more: Any) -> "OwnModule":
        """The same said of another module, and more."""
        new = object.__new__(type(self))
        vars(new).update({**vars(self), "module": module, **more})
        return new

    def __repr__(self) -> str:
        width = "" if self.width is None else f", width={self.width}"
        return f"Torch({shown_part(self.module)}{shown_output(self.output)}{width})"


class OfEncoder(OwnModule):
    """A PyTorch module as encoder, where more must be said than `encoder=module`; goes wherever that goes.

    Arguments:
        module: the module, or a function that makes one each time, which schemes of several encoders want.
        output: which of several outputs is the representation: a key of a dict or of a `ModelOutput` (or an attribute),
            the place in a tuple, or a function of what the module gives,
            `output=lambda y: y.last_hidden_state[:, 0]`.
        width: numbers a row of the representation. It is found by running the module once on zeros; with a width it
            need not work on them, and is first run on data.

    Raises:
        TypeError, ValueError: arguments of other kinds. That the module has no such output, or one of another width,
            is said where a model is made of it, or in the first step if it could not be tried.
    """

    family = "encoder"


class OfHead(OwnModule):
    """A PyTorch module as head, where more must be said than `head=module`; goes wherever that goes.

    Arguments:
        module: the module, or a function that makes one each time: of the numbers of features and outputs, or of
            nothing.
        output: which of several outputs are the task's raw outputs: a key of a dict (or an attribute), the place in a
            tuple, or a function of what the module gives.

    Raises:
        TypeError, ValueError: arguments of other kinds. That the module has no such output is said where a model is
            made of it.
    """

    family = "head"

    @checked
    def __init__(self, module: nn.Module | Callable[..., Any], output: Output | None = None) -> None:
        super().__init__(module, output)


#: A module of the caller's own, or a function that makes one each time; or one of which more is said.
Given: TypeAlias = nn.Module | Callable[..., Any] | OwnModule


def is_own(part: Any) -> TypeGuard[Given]:
    """Whether a part of a model is code of the caller's own: a module or a function, and no component."""
    if isinstance(part, type) and issubclass(part, Component | OwnModule):
        return False
    return callable(part) or isinstance(part, OwnModule)


def code(given: Given) -> "nn.Module | Callable[..., Any]":
    """The module or the function."""
    return given.module if isinstance(given, OwnModule) else given


def is_module(part: Any) -> bool:
    """Whether a part of a model is one module of the caller's own, and no function that makes them."""
    return is_own(part) and isinstance(code(part), nn.Module)


def apart(part: Part) -> Part:
    """The same part of a model with a copy of the module, if it is one."""
    return copy.deepcopy(part) if is_module(part) else part


def shown_part(given: Component | Given) -> str:
    """What a part of a model is called where a model or a task shows itself."""
    if isinstance(given, Component | OwnModule):
        return repr(given)
    return f"{type(given).__name__}(...)" if isinstance(given, nn.Module) else getattr(given, "__name__", repr(given))


def shown_output(output: Any) -> str:
    """The argument `output` as an argument after others, if it was said; also of what a file keeps of it."""
    if output is None:
        return ""
    function = kept(output) if callable(output) else output
    return f", output={function['function'] if isinstance(function, Mapping) else repr(function)}"


def kept(output: Output | None) -> str | int | dict[str, str] | None:
    """What a file keeps of it: of a function the name."""
    return {"function": getattr(output, "__name__", type(output).__name__)} if callable(output) else output


def picked(given: Any, output: Output | None) -> Any:
    """What of a module's outputs is meant.

    Raises:
        ValueError: it gave no such output; says what it gave.
    """
    if output is None:
        return given
    if callable(output):
        return output(given)
    if isinstance(output, str):
        if isinstance(given, Mapping):
            if output not in given:
                raise ValueError(f"`output`: what the module gave has no key {none_of(output, given, 'there are')}")
            return given[output]
        if not hasattr(given, output):
            raise ValueError(f"`output`: the module should give something with the key `{output}`; it gave "
                             f"{outputs(given)}")  # fmt: skip
        return getattr(given, output)
    # What Hugging Face's models give is a dict that places count in, too.
    if isinstance(given, tuple | list) or (isinstance(given, Mapping) and hasattr(given, "to_tuple")):
        if not -len(given) <= output < len(given):
            raise ValueError(f"`output`: the module gave {outputs(given)}, and none at place {output}")
        return given[output]
    raise ValueError(f"`output`: the module should give several outputs, of which {output} is the place; it gave "
                     f"{outputs(given)}")  # fmt: skip


def outputs(given: Any) -> str:
    """What a module gave that is no tensor, in words."""
    if isinstance(given, Mapping):
        return f"a {type(given).__name__} with the keys {listed(given)}"
    if isinstance(given, tuple | list):
        names = getattr(given, "_fields", None)
        return f"a {type(given).__name__} of {len(given)} outputs" + ("" if names is None else f", {listed(names)}")
    return f"a {type(given).__name__}"
