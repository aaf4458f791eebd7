"""What autograd's graph says of several losses: what they share, and where their gradients enter it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.autograd.graph import GradientEdge, get_gradient_edge

#: What autograd calls the backward of a graph that torch.compile made.
_COMPILED = "CompiledFunctionBackward"
#: Of a node that several losses reach.
_SEVERAL = -1


class Root(NamedTuple):
    """Where the graph of one task's loss begins: at an edge, or at an entry of what begins there."""

    edge: GradientEdge
    entry: int | None


class Parts(NamedTuple):
    """What the losses reach.

    Attributes:
        shared: the parameters that several losses reach.
        own: those that one loss alone reaches, a list a root.
        entries: where gradients of single losses enter what several reach, in the order in which they were found.
        nested: whether one of these lies before another, so that a gradient there holds part of the other's.
        convolves: whether there is a convolution in what is shared.
        hidden: whether several losses reach a compiled part by different outputs of it, within which it is not seen
            what each of them reaches.
        signature: the same where what is shared has one shape.
    """

    shared: list[torch.Tensor]
    own: list[list[torch.Tensor]]
    entries: list[GradientEdge]
    nested: bool
    convolves: bool
    hidden: bool
    signature: int


def roots(losses: Sequence[torch.Tensor] | torch.Tensor) -> list[Root | None]:
    """A root a task, none of one without a graph; entries of one tensor, unless it stacks losses, begin at one edge."""
    if not isinstance(losses, torch.Tensor):
        return [Root(get_gradient_edge(x), None) if x.requires_grad else None for x in losses]
    edge = get_gradient_edge(losses)
    if edge.node.name() == "StackBackward0":
        stacked = edge.node.next_functions
        return [None if node is None else Root(GradientEdge(node, output), None) for node, output in stacked]
    return [Root(edge, entry) for entry in range(len(losses))]


def parts(edges: Sequence[GradientEdge]) -> Parts:
    """What the losses whose graphs begin at these edges reach, each node visited twice at most."""
    owners: dict[Any, int] = {}
    after: dict[Any, tuple[tuple[Any, int], ...]] = {}
    for task, edge in enumerate(edges):
        waiting = [edge.node]
        while waiting:
            node = waiting.pop()
            owner = owners.get(node)
            if owner is None:
                owners[node] = task
                after[node] = node.next_functions
            elif owner in (task, _SEVERAL):
                continue
            else:
                owners[node] = _SEVERAL
            waiting.extend(other for other, _ in after[node] if other is not None)
    shared: list[torch.Tensor] = []
    own: list[list[torch.Tensor]] = [[] for _ in edges]
    entries: dict[tuple[Any, int], GradientEdge] = {}
    for edge in edges:
        if owners[edge.node] == _SEVERAL:
            entries[edge.node, edge.output_nr] = edge
    for node, owner in owners.items():
        if not after[node]:
            leaf = getattr(node, "variable", None)
            if isinstance(leaf, torch.Tensor):
                (shared if owner == _SEVERAL else own[owner]).append(leaf)
        elif owner != _SEVERAL:
            for other, output in after[node]:
                if other is not None and owners[other] == _SEVERAL:
                    entries[other, output] = GradientEdge(other, output)
    several = [node for node, owner in owners.items() if owner == _SEVERAL]
    names = tuple(node.name() for node in several)
    # The type too: a compiled part is one node, whose name says nothing of what is within.
    kinds = tuple(map(type, several))
    return Parts(
        shared,
        own,
        list(entries.values()),
        _nested({edge.node for edge in entries.values()}, after),
        any("onvolution" in name for name in names),
        _hidden(edges, several, after),
        hash((names, kinds, tuple(tuple(leaf.shape) for leaf in shared))),
    )


def _hidden(
    edges: Sequence[GradientEdge], several: Sequence[Any], after: dict[Any, tuple[tuple[Any, int], ...]]
) -> bool:
    """Whether several losses reach a compiled part, among the nodes of several, by different outputs of it."""
    compiled = {node for node in several if node.name() == _COMPILED}
    if not compiled:
        return False
    by_task: dict[Any, dict[int, set[int]]] = {node: {} for node in compiled}
    for task, edge in enumerate(edges):
        waiting = [(edge.node, edge.output_nr)]
        seen: set[Any] = set()
        while waiting:
            node, output = waiting.pop()
            if node in compiled:
                by_task[node].setdefault(task, set()).add(output)
            if node not in seen:
                seen.add(node)
                waiting.extend((other, output) for other, output in after[node] if other is not None)
    return any(len(set(map(frozenset, outputs.values()))) > 1 for outputs in by_task.values())


def _nested(nodes: set[Any], after: dict[Any, tuple[tuple[Any, int], ...]]) -> bool:
    """Whether one of these nodes comes before another."""
    seen: set[Any] = set()
    waiting = [other for node in nodes for other, _ in after[node] if other is not None]
    while waiting:
        node = waiting.pop()
        if node in nodes:
            return True
        if node not in seen:
            seen.add(node)
            waiting.extend(other for other, _ in after[node] if other is not None)
    return False
