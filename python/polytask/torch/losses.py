"""Losses as people give them: a dict, a list or one tensor, of batches or row by row, with labels missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
import torch

from ..arguments.messages import listed, none_of
from .graph import Root, roots

Losses = Mapping[str, "torch.Tensor | None"] | Sequence["torch.Tensor | None"] | torch.Tensor


class Given:
    """Losses as they were given.

    Attributes:
        names: the tasks' names, if they have some.
        values: `[tasks]`, NaN without a label.
        present: the tasks that have one.
        together: the losses that were given, as one tensor; those of tasks that are present, if they came one by one.
    """

    def __init__(
        self,
        names: list[str] | None,
        values: list[float],
        losses: Sequence[Any] | torch.Tensor,
        together: torch.Tensor,
        counts: Sequence[int] | None = None,
    ) -> None:
        self.names = names
        self.together = together
        self.values = np.array(values)
        self.present = [task for task, value in enumerate(values) if value == value]
        self._counts = counts
        self._losses = losses

    @property
    def counts(self) -> np.ndarray:
        """How many rows each loss is of, as far as that is known: 1 of one that is a number."""
        return np.ones(len(self.values)) if self._counts is None else np.array(self._counts, float)

    @classmethod
    def read(cls, losses: Losses, tasks: list[str] | None = None, needed: bool = True) -> Given:
        """Those of these tasks, in their order, if they have names from the start; `needed` says whether there is to be
        a label.
        """
        if isinstance(losses, torch.Tensor):
            return cls._of_tensor(losses, tasks, needed)
        names = tasks
        if isinstance(losses, Mapping):
            by_name = {str(name): loss for name, loss in losses.items()}
            names = list(by_name) if tasks is None else tasks
            unknown = next((name for name in by_name if name not in names), None)
            if unknown is not None:
                raise ValueError(f"`losses`: there is no task {none_of(unknown, names, 'there are')}")
            losses = [by_name.get(name) for name in names]
        elif not isinstance(losses, Sequence) or isinstance(losses, str):
            kind = type(losses).__name__
            raise TypeError(f"`losses` should be a dict or a list of tensors, or one tensor; got {kind}")
        _count(len(losses), tasks)
        if not losses:
            raise ValueError("`losses` should have at least one task; got none")
        if _alike(losses):
            together = torch.stack(list(losses))
            given = cls(names, together.tolist(), losses, together)
            if len(given.present) == len(losses):
                return given
        for task, loss in enumerate(losses):
            if loss is not None and not isinstance(loss, torch.Tensor):
                raise TypeError(f"the loss of {_called(names, task)} should be a tensor; got {type(loss).__name__}")
        rows = losses
        losses = [None if loss is None else _mean(loss, _called(names, task)) for task, loss in enumerate(rows)]
        there = [loss for loss in losses if loss is not None]
        if not there and not needed:
            return cls(names, [float("nan")] * len(losses), losses, torch.empty(0))
        if not there:
            raise ValueError("`losses` should have at least one task with a label; got none")
        # At once, since each look at a device waits for it.
        together = _together(there)
        numbers = iter(together.detach().tolist())
        values = [float("nan") if loss is None else next(numbers) for loss in losses]
        for task, (loss, value) in enumerate(zip(rows, values, strict=True)):
            if loss is not None and value != value:
                _refuse_gaps(loss, _called(names, task))
        counts = [0 if loss is None else loss.numel() for loss in rows]
        given = cls(names, values, losses, together, counts)
        if needed and not given.present:
            raise ValueError("`losses` should have at least one task with a label; got none")
        labelled = [(task, loss) for task, loss in enumerate(losses) if loss is not None and task in given.present]
        for task, loss in labelled:
            if not loss.requires_grad:
                raise ValueError(f"the loss of {_called(names, task)} has no graph: it was computed without gradients; "
                                 "None stands for a task without a label")  # fmt: skip
        if len(labelled) < len(there):
            given.together = _together([loss for _, loss in labelled])
        return given

    @classmethod
    def _of_tensor(cls, losses: torch.Tensor, tasks: list[str] | None, needed: bool) -> Given:
        if losses.dim() > 1:
            raise ValueError(f"`losses` should be a tensor [tasks]; got one of shape {list(losses.shape)}: losses row "
                             "by row are a list with a tensor [rows] a task")  # fmt: skip
        if not losses.requires_grad:
            raise ValueError("`losses` has no graph: it was computed without gradients")
        flat = losses.reshape(-1) if losses.dim() == 0 else losses
        _count(len(flat), tasks)
        given = cls(tasks, flat.detach().tolist(), flat, flat)
        if needed and not given.present:
            raise ValueError("`losses` should have at least one task with a label; got none")
        return given

    def roots(self) -> list[Root]:
        """Where the graphs of the losses that are there begin."""
        if not self.present:
            return []
        if not isinstance(self._losses, torch.Tensor):
            found = roots([self._losses[task] for task in self.present])
        else:
            found = roots(self._losses)
            if len(self.present) < len(found) and found[0] is not None and found[0].entry is not None:
                raise ValueError("`losses`: entries of one tensor cannot be left out; give a list, or a stack of it")
            found = [found[task] for task in self.present]
        there = [root for root in found if root is not None]
        if len(there) < len(found):
            raise ValueError("`losses`: an entry has no graph: it was computed without gradients")
        return there

    def seeds(self, at: Sequence[Root], factors: torch.Tensor) -> list[torch.Tensor]:
        """The gradients of these losses where their graphs begin, times a factor each."""
        factors = factors.to(self.together.device, self.together.dtype)
        if not at:
            return []
        if at[0].entry is not None:
            return list(torch.diag(factors))
        if isinstance(self._losses, torch.Tensor):
            return list(factors)
        found = []
        for task, factor in zip(self.present, factors.unbind(), strict=True):
            loss = self._losses[task]
            as_it_is = loss.dim() == 0 and loss.dtype == factor.dtype and loss.device == factor.device
            found.append(factor if as_it_is else factor.to(loss).reshape(loss.shape))
        return found

    def backward(self, weights: np.ndarray, keep: bool) -> None:
        """The gradient of the weighted losses, by autograd alone."""
        weights = weights if len(self.present) == len(weights) else weights[self.present]
        along = torch.from_numpy(weights).to(self.together.device, self.together.dtype)
        if len(weights) == len(self.together):
            torch.autograd.backward([self.together], [along], retain_graph=keep)
        else:
            at = self.roots()
            torch.autograd.backward([root.edge for root in at], self.seeds(at, along), retain_graph=keep)


def _alike(losses: Sequence[Any]) -> TypeGuard[Sequence[torch.Tensor]]:
    """Whether each is a plain tensor of one number with a graph, all in one place."""
    first = None
    for loss in losses:
        if type(loss) is not torch.Tensor or loss.dim() > 0 or not loss.requires_grad:
            return False
        place = loss.get_device()
        first = place if first is None else first
        if place != first:
            return False
    return True


def _together(losses: Sequence[torch.Tensor]) -> torch.Tensor:
    first = losses[0].device
    return torch.stack([loss.reshape(()).to(first) if loss.dim() or loss.device != first else loss for loss in losses])


def _count(losses: int, tasks: list[str] | None) -> None:
    if tasks is not None and losses != len(tasks):
        raise ValueError(f"`losses` should have one entry a task, {len(tasks)} ({listed(tasks)}); got {losses}: None "
                         "stands for a task without a label")  # fmt: skip


def _mean(loss: torch.Tensor, called: str) -> torch.Tensor:
    """The mean of a loss that came row by row."""
    if loss.numel() == 1:
        return loss
    if loss.dim() == 1 or (loss.dim() == 2 and loss.shape[1] == 1):
        return loss.mean()
    raise ValueError(f"the loss of {called} should be one number, or one a row, [rows]; got shape {list(loss.shape)}")


def _refuse_gaps(loss: torch.Tensor, called: str) -> None:
    """Of a loss row by row that is NaN: whether that is so of all rows, as where there is no label."""
    known = ~torch.isnan(loss.detach().reshape(-1))
    if bool(known.any()):
        row = int((~known).nonzero()[0])
        raise ValueError(f"the loss of {called} is NaN in row {row} and a number in others: leave rows without a label "
                         "out before it is computed")  # fmt: skip


def _called(names: list[str] | None, task: int) -> str:
    return f"task {task}" if names is None else f"`{names[task]}`"
