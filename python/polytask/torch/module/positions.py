"""Translations of what moves between rows and the positions within them, which lie end to end."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .layers import Attention, Recurrence
from .values import Building, Node, Value


def spread(node: Node, at: Building) -> Value:
    """To each position what its row has."""
    (x,) = at.inputs(node)
    axis = node.links[0]["fine"]
    members = at.members(axis)
    if members is not None:
        each = [group.unsqueeze(1).expand(-1, members, -1).flatten(0, 1) for group in x.wholes]
        return Value.of(each, x.width)
    parents = at.parents(axis)
    return Value.of([group.index_select(0, parents) for group in x.wholes], x.width)


def neighbour(node: Node, at: Building) -> Value:
    """To each position what the one so many further on in its row has; 0 beyond its ends."""
    (x,) = at.inputs(node)
    axis = node.links[0]["fine"]
    parents = at.parents(axis)
    further = at.numbers(axis) + node.attributes["by"]
    within = (further >= 0) & (further < parents.shape[0])
    held = further.where(within, 0)
    there = ((parents.index_select(0, held) == parents) & within).unsqueeze(1)
    return Value.of([group.index_select(0, held).where(there, 0.0) for group in x.wholes], x.width)


def recurrence(node: Node, at: Building) -> Value:
    """What a recurrent layer makes of the products of its input, a direction beside the other."""
    (x,) = at.inputs(node)
    lengths = at.lengths(node.links[0]["fine"])
    directions = node.attributes["directions"]
    wide = x.width // directions
    # The weights of the directions, then of a GRU their biases, each of all groups.
    pieces = [at.pieces(node, k) for k in range(len(node.params))]
    groups = []
    for g, group in enumerate(x.groups):
        both = []
        for direction in range(directions):
            own = [of_groups[g]["name"] for of_groups in pieces[direction::directions]]
            layer = Recurrence([at.source(name) for name in own], node.attributes["cell"], direction == 1)
            part = group.columns(direction * wide, (direction + 1) * wide)
            both.append(at.layer(own[0].rpartition(".")[0], layer)(part, lengths))
        groups.append(both[0] if directions == 1 else torch.cat(both, 1))
    return Value.of(groups, pieces[0][0]["shape"][1] * directions)


def attention(node: Node, at: Building) -> Value:
    """What attention makes of queries, keys and values."""
    (x,) = at.inputs(node)
    lengths = at.lengths(node.links[0]["fine"])
    how = node.attributes
    layer = at.layer(f"attention.{node.index}", Attention(how["heads"], how["rotary"], how["base"]))
    return Value.of([layer(group, lengths) for group in x.wholes], x.width // 3)


def placed(node: Node, at: Building) -> Value:
    """Positions with what a table has for their number in their row added."""
    (x,) = at.inputs(node)
    axis = node.links[0]["fine"]
    lengths = at.lengths(axis)
    number = at.numbers(axis) - (lengths.cumsum(0) - lengths).index_select(0, at.parents(axis))
    tables = [at.parameter(piece) for piece in at.pieces(node, 0)]
    groups = [group + table.index_select(0, number) for group, table in zip(x.wholes, tables, strict=True)]
    return Value.of(groups, x.width)


def pool(node: Node, at: Building) -> Value:
    """What a row makes of its positions; 0 of none."""
    axis = node.links[0]["fine"]
    lengths = at.lengths(axis)
    parents = at.parents(axis)
    way = node.attributes["way"]
    if way == "attention":
        scores, x = at.inputs(node)
        pairs = zip(scores.wholes, x.wholes, strict=True)
        return Value.of([_attention(score, group, lengths, parents, x.width) for score, group in pairs], x.width)
    (x,) = at.inputs(node)
    if way == "max":
        return Value.of([_largest(group, lengths, parents, x.width) for group in x.wholes], x.width)
    sums = [_sums(group, lengths, parents, x.width) for group in x.wholes]
    return Value.of([each / lengths.clamp(min=1).unsqueeze(1) for each in sums] if way == "mean" else sums, x.width)


def _sums(x: Tensor, lengths: Tensor, parents: Tensor, width: int) -> Tensor:
    return x.new_zeros((lengths.shape[0], width)).index_add(0, parents, x)


def _largest(x: Tensor, lengths: Tensor, parents: Tensor, width: int) -> Tensor:
    least = x.new_full((lengths.shape[0], width), float("-inf"))
    found = least.scatter_reduce(0, parents.unsqueeze(1).expand_as(x), x, "amax")
    return found.where((lengths > 0).unsqueeze(1), 0.0)


def _attention(score: Tensor, x: Tensor, lengths: Tensor, parents: Tensor, width: int) -> Tensor:
    # The largest score is taken off, as a constant: it changes no weight.
    largest = _largest(score.detach(), lengths, parents, 1)
    weights = (score - largest.index_select(0, parents)).exp()
    whole = _sums(weights, lengths, parents, 1)
    return _sums(x * weights, lengths, parents, width) / whole.where(whole > 0, 1.0)


def by_rows(
    rows: Callable[[Tensor, Tensor], Any], layer: Callable[..., Tensor], x: Tensor, lengths: Tensor, masked: bool
) -> Tensor:
    """What a module of rows `[rows, longest, width]` makes of positions that lie end to end; `rows` lays them out."""
    laid_out = rows(x, lengths)
    given, there = laid_out[0], laid_out[1]
    return (layer(given, there) if masked else layer(given))[there]
