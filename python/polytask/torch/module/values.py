"""What translations work on: the core's nodes, and the values between them.

Tensors are proxies of torch.fx here, which write down what is done with them.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn


def identifier(name: str) -> str:
    """A name of an input as Python has names."""
    plain = re.sub(r"\W", "_", name)
    return plain if plain.isidentifier() else f"_{plain}"


@dataclass(frozen=True)
class Node:
    """A node of the network, as the core describes it.

    Attributes:
        index: where it stands among the nodes.
        kind: its name.
        inputs: indices of the values that it reads.
        output: that of the value which it fills.
        codes: indices of the inputs of codes that it reads.
        params: indices of its parameters.
        links: the axes along which it moves.
        terms: names of its terms.
        attributes: numbers and words of its mathematics.
    """

    index: int
    kind: str
    inputs: list[int]
    output: int
    codes: list[int]
    params: list[int]
    links: list[dict[str, Any]]
    terms: list[str]
    attributes: dict[str, Any]


class Group:
    """One group of a value, `[rows, width]`: parts side by side, which are joined once somebody wants them together."""

    def __init__(self, parts: list[tuple[int, Tensor]]) -> None:
        self.parts = parts
        self._whole: Tensor | None = None

    @property
    def width(self) -> int:
        """Numbers a row."""
        return sum(width for width, _ in self.parts)

    @property
    def whole(self) -> Tensor:
        """All columns."""
        if self._whole is None:
            each = [part for _, part in self.parts]
            self._whole = each[0] if len(each) == 1 else torch.cat(each, 1)
        return self._whole

    def columns(self, start: int, stop: int) -> Tensor:
        """Some columns."""
        first = 0
        for width, part in self.parts:
            if (start, stop) == (first, first + width):
                return part
            first += width
        return self.whole[:, start:stop]


class Value:
    """What flows between nodes: groups of one width, which are equal networks side by side."""

    def __init__(self, groups: list[Group]) -> None:
        self.groups = groups
        self._stacked: dict[int, Tensor] = {}

    @classmethod
    def of(cls, groups: list[Tensor], width: int) -> "Value":
        """Of groups of so many numbers a row."""
        return cls([Group([(width, group)]) for group in groups])

    @property
    def width(self) -> int:
        """Numbers a row."""
        return self.groups[0].width

    @property
    def wholes(self) -> list[Tensor]:
        """Each group, `[rows, width]`."""
        return [group.whole for group in self.groups]

    def stacked(self, dim: int) -> Tensor:
        """The groups along a new dimension."""
        if dim not in self._stacked:
            self._stacked[dim] = torch.stack(self.wholes, dim)
        return self._stacked[dim]


class Building(Protocol):
    """What a translation may ask of the graph that is being made; see `build.py`."""

    own: Mapping[str, Any]
    source: Callable[[str], Any]
    wants_terms: bool
    device: torch.device

    def inputs(self, node: Node) -> list[Value]: ...
    def codes(self, node: Node) -> Tensor: ...
    def alone(self, node: Node) -> bool: ...
    def pieces(self, node: Node, k: int) -> list[dict[str, Any]]: ...
    def statistics(self, start: int) -> dict[str, Any]: ...
    def layer(self, path: str, module: nn.Module) -> Callable[..., Tensor]: ...
    def parameter(self, entry: Mapping[str, Any]) -> Tensor: ...
    def lengths(self, axis: int) -> Tensor: ...
    def numbers(self, axis: int) -> Tensor: ...
    def parents(self, axis: int) -> Tensor: ...
    def members(self, axis: int) -> int | None: ...
    def axis(self, value: int) -> int: ...
    def term(self, name: str, number: Tensor) -> None: ...


Translation = Callable[[Node, Building], Value]
