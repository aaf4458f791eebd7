"""Gradients of several losses by autograd: rows at what they share, and what is each task's own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, NamedTuple

import torch
from torch.autograd.graph import GradientEdge

from .graph import Parts, Root
from .rows import Rows

#: Numbers a task at the entries of the shared part up to which one pass for all tasks pays on the processor.
FEW = 1 << 14
#: Shapes of graphs through which gradients of several tasks do not go at once; those that do.
_REFUSED: set[int] = set()
_PROVEN: set[int] = set()

Gradients = list[torch.Tensor | None]


class Sought(NamedTuple):
    """What gradients are wanted.

    Attributes:
        roots: where the losses' graphs begin, one a task that has a label.
        seeds: what the gradient is there.
        tasks: which of all tasks these are.
        parts: what the losses reach.
        shared: the parameters at which the tasks' gradients are rows.
        own: for each of these tasks, the other parameters that it reaches.
        keep: whether the graph may be gone through again.
    """

    roots: Sequence[Root]
    seeds: Sequence[torch.Tensor]
    tasks: Sequence[int]
    parts: Parts
    shared: Sequence[torch.Tensor]
    own: Sequence[Sequence[torch.Tensor]]
    keep: bool


class Entered(NamedTuple):
    """Gradients where they enter what is shared.

    Attributes:
        edges: the entries that any task's gradient reaches.
        arrived: each task's gradients there, zeros where it has none.
        own: each task's gradients at its other parameters.
    """

    edges: list[GradientEdge]
    arrived: list[list[torch.Tensor]]
    own: list[Gradients]


def at_parameters(sought: Sought, rows: Rows) -> list[Gradients]:
    """Fills the rows of these tasks, at once where that works and pays, else task by task; gives the tasks' own."""
    last = len(sought.roots) - 1
    shared = sought.shared
    single = {id(leaf) for own in sought.parts.own for leaf in own}
    # What one task alone reaches lies behind no entry, though it may be named as shared.
    if sought.parts.nested or any(id(leaf) in single for leaf in shared):
        owned = []
        for k, (root, task) in enumerate(zip(sought.roots, sought.tasks, strict=True)):
            wanted = [*shared, *sought.own[k]]
            gradients = gradients_of([root.edge], [sought.seeds[k]], wanted, sought.keep or k < last)
            rows.put(task, gradients[: len(shared)])
            owned.append(gradients[len(shared) :])
        return owned
    entered = at_entries(sought)
    if entered.edges and not _at_once(sought, entered, rows):
        for k, (arrived, task) in enumerate(zip(entered.arrived, sought.tasks, strict=True)):
            rows.put(task, gradients_of(entered.edges, arrived, shared, sought.keep or k < last))
    return entered.own


def at_entries(sought: Sought) -> Entered:
    """Gradients where they enter what is shared; the graph is kept."""
    entries = sought.parts.entries
    arrived = []
    owned = []
    for root, seed, own in zip(sought.roots, sought.seeds, sought.own, strict=True):
        gradients = gradients_of([root.edge], [seed], [*entries, *own], True)
        arrived.append(gradients[: len(entries)])
        owned.append(gradients[len(entries) :])
    edges = []
    columns = []
    for edge, column in zip(entries, zip(*arrived, strict=True), strict=True):
        there = next((gradient for gradient in column if gradient is not None), None)
        if there is not None:
            edges.append(edge)
            columns.append([torch.zeros_like(there) if gradient is None else gradient for gradient in column])
    of_tasks = [list(of_task) for of_task in zip(*columns, strict=True)] if columns else [[] for _ in owned]
    return Entered(edges, of_tasks, owned)


def gradients_of(
    outputs: Sequence[GradientEdge],
    seeds: Sequence[torch.Tensor],
    inputs: Sequence[torch.Tensor | GradientEdge],
    keep: bool,
) -> Gradients:
    """The gradients at some inputs along those of some outputs; none where there is no way."""
    if not inputs or not outputs:
        return [None] * len(inputs)
    try:
        # What torch declares has no sequence of both kinds.
        wanted: Any = list(inputs)
        return list(torch.autograd.grad(list(outputs), wanted, list(seeds), retain_graph=keep, allow_unused=True))
    except RuntimeError as error:
        raise _explained(error) from error


def _at_once(sought: Sought, entered: Entered, rows: Rows) -> bool:
    """One pass through what is shared with the gradients of all tasks; whether autograd can, and it pays."""
    first = entered.arrived[0]
    signature = sought.parts.signature
    slow = sought.parts.convolves or sum(gradient.numel() for gradient in first) > FEW
    if signature in _REFUSED or (slow and first[0].device.type == "cpu"):
        return False
    proven = signature in _PROVEN
    seeds = [torch.stack(column) for column in zip(*entered.arrived, strict=True)]
    try:
        gradients = torch.autograd.grad(
            entered.edges,
            list(sought.shared),
            seeds,
            retain_graph=sought.keep or not proven,
            allow_unused=True,
            is_grads_batched=True,
        )
    except RuntimeError as error:
        if proven:
            raise _explained(error) from error
        _REFUSED.add(signature)
        return False
    _PROVEN.add(signature)
    rows.put_all(sought.tasks, gradients)
    return True


def _explained(error: RuntimeError) -> RuntimeError:
    if "donated buffer" in str(error):
        return RuntimeError(
            "several gradients go through the graph of a compiled module, which gave its buffers away: set "
            "`torch._functorch.config.donated_buffer = False` before it is compiled"
        )
    return error


def without_autocast(device: str) -> AbstractContextManager[Any]:
    """Outside of autocast, on the processor and on this type of device: gradients are scaled for float16, and products
    of them overflow; of bfloat16 they are too coarse.
    """
    on = [each for each in {"cpu", device} if torch.is_autocast_enabled(each)]
    if not on:
        return nullcontext()
    stack = ExitStack()
    for each in on:
        stack.enter_context(torch.autocast(each, enabled=False))
    return stack
