"""How a module of the caller's own is called: with what of its inputs, of which types, under which names."""

import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from ..components.own_module import Output, picked

#: The types that an input may have, in the order in which they are tried. Whole numbers come last: what wants truths
#: often takes them too, and makes something else of them.
TYPES = (torch.float32, torch.bool, torch.int64)


class Part(NamedTuple):
    """One of the inputs of a module."""

    #: What it is called; none where it has only its place.
    name: str | None
    #: The shape of a row's entry.
    shape: tuple[int, ...]
    #: The types that it may have.
    types: tuple[torch.dtype, ...] = TYPES[:1]

    @property
    def size(self) -> int:
        """Numbers of a row."""
        return torch.Size(self.shape).numel()

    @property
    def described(self) -> str:
        """Its shape in words."""
        shape = ", ".join(["rows", *map(str, self.shape)])
        return f"[{shape}]" if self.name is None else f"`{self.name}` [{shape}]"


class Calling(NamedTuple):
    """What a module is called with, found by trying."""

    parts: tuple[Part, ...]
    types: tuple[torch.dtype, ...]
    #: How its inputs come: `place`, `name` or `dict`.
    form: str
    #: Which of its outputs is meant.
    output: Output | None = None

    @property
    def dtypes(self) -> dict[str | None, str]:
        """The types of its inputs, by name."""
        pairs = zip(self.parts, self.types, strict=True)
        return {part.name: str(of).removeprefix("torch.") for part, of in pairs}

    def __call__(self, module: nn.Module, x: torch.Tensor) -> Any:
        """Its output for all inputs flat, one after the other, `[rows, numbers]`."""
        return self.call(module, self.split(x))

    def split(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The inputs of their own shapes and types."""
        if len(self.parts) == 1:
            (part,) = self.parts
            return [x.reshape(len(x), *part.shape).to(self.types[0])]
        each = torch.split(x, [part.size for part in self.parts], dim=1)
        return [
            flat.contiguous().view(len(x), *part.shape).to(of)
            for flat, part, of in zip(each, self.parts, self.types, strict=True)
        ]

    def call(self, module: nn.Module, inputs: Sequence[torch.Tensor]) -> Any:
        """Its output for these inputs."""
        return picked(self.all(module, inputs), self.output)

    def all(self, module: nn.Module, inputs: Sequence[torch.Tensor]) -> Any:
        """All that it gives for these inputs."""
        if self.form == "place":
            return module(*inputs)
        named = {part.name or "features": x for part, x in zip(self.parts, inputs, strict=True)}
        return module(**named) if self.form == "name" else module(named)

    def trial(self) -> list[torch.Tensor]:
        """Two rows: zeros, ones where they are whole numbers, which may be lengths, and nothing hidden."""
        fill = {torch.float32: 0.0, torch.int64: 1, torch.bool: False}
        return [
            torch.full((2, *part.shape), fill[of], dtype=of, device="cpu")
            for part, of in zip(self.parts, self.types, strict=True)
        ]


def tried(module: nn.Module, parts: Sequence[Part], run: Callable[[Calling], Any]) -> tuple[Calling, Any]:
    """The first way to call it that works, and what it gave.

    Raises:
        Exception: what the plainest way raised, if none works.
    """
    first: Exception | None = None
    for calling in _ways(module, tuple(parts)):
        try:
            return calling, run(calling)
        except Exception as error:
            first = error if first is None else first
    assert first is not None
    raise first


def plainest(module: nn.Module, parts: Sequence[Part]) -> Calling:
    """How to call it that is tried first."""
    return next(_ways(module, tuple(parts)))


def unsure(module: nn.Module, calling: Calling) -> list[str]:
    """Names of inputs that are floats since nobody said otherwise, where the module makes something else of truths: a
    mask of attention is added if it is floats.
    """
    found = []
    for place, (part, of) in enumerate(zip(calling.parts, calling.types, strict=True)):
        if part.name is None or of != torch.float32 or torch.bool not in part.types:
            continue
        types = (*calling.types[:place], torch.bool, *calling.types[place + 1 :])
        truths = calling._replace(types=types)
        try:
            truths.call(module, truths.trial())
        except Exception:
            continue
        # Numbers that say what is looked at, and a row all of which is true beside one of which nothing is.
        given = [torch.randn_like(x) if x.is_floating_point() else x for x in calling.trial()]
        given[place] = torch.zeros_like(given[place])
        given[place][0] = 1.0
        asked = [x.bool() if k == place else x for k, x in enumerate(given)]
        try:
            alike = torch.allclose(calling.call(module, given), truths.call(module, asked), equal_nan=True)
        except Exception:
            alike = False
        if not alike:
            found.append(part.name)
    return found


def _ways(module: nn.Module, parts: tuple[Part, ...]) -> Iterator[Calling]:
    forms = _forms(module, parts)
    each = itertools.product(*(part.types for part in parts))
    for types in sorted(each, key=lambda types: sum(map(TYPES.index, types))):
        for form in forms:
            yield Calling(parts, types, form)


def _forms(module: nn.Module, parts: Sequence[Part]) -> list[str]:
    """By name where its forward has these names, else by place; one dict where it takes fewer."""
    names = [part.name for part in parts if part.name is not None]
    if len(names) < len(parts):
        return ["place"]
    try:
        signature = inspect.signature(module.forward)
    except (TypeError, ValueError):
        return ["place", "dict"]
    found = []
    for form, places, named in (("name", (), dict.fromkeys(names)), ("place", names, {}), ("dict", [None], {})):
        try:
            signature.bind(*places, **named)
        except TypeError:
            continue
        found.append(form)
    # By place the order decides, which who names inputs does not think of.
    return [form for form in found if form != "place" or len(parts) == 1] or ["place"]
