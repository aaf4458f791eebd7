"""Translations of what members of an ensemble have for themselves; their rows lie beside each other, row after row."""

import torch
from torch import Tensor

from .activations import ACTIVATIONS
from .values import Building, Node, Value


def adapter(node: Node, at: Building) -> Value:
    """A scale and a bias of each member's own."""
    (x,) = at.inputs(node)
    activation = ACTIVATIONS[node.attributes["activation"]]
    scales = at.pieces(node, 0)
    biases = at.pieces(node, 1) if node.attributes["bias"] else [None] * len(scales)
    groups = []
    for group, scale, bias in zip(x.wholes, scales, biases, strict=True):
        scaled = _each(node, group) * at.parameter(scale)
        groups.append(activation((scaled if bias is None else scaled + at.parameter(bias)).flatten(0, 1)))
    return Value.of(groups, x.width)


def linear(node: Node, at: Building) -> Value:
    """A linear layer of each member's own."""
    (x,) = at.inputs(node)
    activation = ACTIVATIONS[node.attributes["activation"]]
    weights = at.pieces(node, 0)
    groups = []
    for group, weight, bias in zip(x.wholes, weights, at.pieces(node, 1), strict=True):
        of_members = _each(node, group).transpose(0, 1) @ at.parameter(weight).transpose(1, 2)
        groups.append(activation((of_members.transpose(0, 1) + at.parameter(bias)).flatten(0, 1)))
    return Value.of(groups, weights[0]["shape"][1])


def _each(node: Node, x: Tensor) -> Tensor:
    """`[rows, members, width]`, or `[rows, 1, width]` where all see the row."""
    return x.unsqueeze(1) if node.attributes["spread"] else torch.unflatten(x, 0, (-1, node.attributes["members"]))
