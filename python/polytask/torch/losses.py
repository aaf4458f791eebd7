"""Losses as people give them: a dict, a list or one tensor, with labels missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

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
    ) -> None:
        self.names = names
        self.together = together
        self.values = np.array(values)
        self.present = [task for task, value in enumerate(values) if value == value]
        self._losses = losses
        if not self.present:
            raise ValueError("`losses` should have at least one task with a label; got none")

    @classmethod
    def read(cls, losses: Losses) -> Given:
        if isinstance(losses, torch.Tensor):
            if losses.dim() > 1:
                raise ValueError(f"`losses` should be a tensor [tasks]; got one of shape {list(losses.shape)}")
            if not losses.requires_grad:
                raise ValueError("`losses` has no graph: it was computed without gradients")
            flat = losses.reshape(-1) if losses.dim() == 0 else losses
            return cls(None, flat.detach().tolist(), flat, flat)
        names = None
        if isinstance(losses, Mapping):
            names = [str(name) for name in losses]
            losses = list(losses.values())
        elif not isinstance(losses, Sequence) or isinstance(losses, str):
            kind = type(losses).__name__
            raise TypeError(f"`losses` should be a dict or a list of tensors, or one tensor; got {kind}")
        if not losses:
            raise ValueError("`losses` should have at least one task; got none")
        for task, loss in enumerate(losses):
            if loss is not None and not isinstance(loss, torch.Tensor):
                raise TypeError(f"the loss of {_called(names, task)} should be a tensor; got {type(loss).__name__}")
            if loss is not None and loss.numel() != 1:
                shape = list(loss.shape)
                raise ValueError(f"the loss of {_called(names, task)} should be one number; got shape {shape}")
        there = [loss for loss in losses if loss is not None]
        if not there:
            raise ValueError("`losses` should have at least one task with a label; got none")
        # At once, since each look at a device waits for it.
        together = _together(there)
        numbers = iter(together.detach().tolist())
        values = [float("nan") if loss is None else next(numbers) for loss in losses]
        given = cls(names, values, losses, together)
        labelled = [(task, loss) for task, loss in enumerate(losses) if loss is not None and task in given.present]
        for task, loss in labelled:
            if not loss.requires_grad:
                raise ValueError(f"the loss of {_called(names, task)} has no graph: it was computed without gradients; "
                                 "None stands for a task without a label")  # fmt: skip
        if len(labelled) < len(there):
            given.together = _together([loss for _, loss in labelled])
        return given

    def roots(self) -> list[Root]:
        """Where the graphs of the losses that are there begin."""
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
        if at[0].entry is not None:
            return list(torch.diag(factors))
        if isinstance(self._losses, torch.Tensor):
            return list(factors)
        each = zip(self.present, factors, strict=True)
        return [factor.to(self._losses[task]).reshape(self._losses[task].shape) for task, factor in each]

    def backward(self, weights: np.ndarray, keep: bool) -> None:
        """The gradient of the weighted losses, by autograd alone."""
        along = torch.from_numpy(weights[self.present]).to(self.together.device, self.together.dtype)
        if len(along) == len(self.together):
            torch.autograd.backward([self.together], [along], retain_graph=keep)
        else:
            at = self.roots()
            torch.autograd.backward([root.edge for root in at], self.seeds(at, along), retain_graph=keep)


def _together(losses: Sequence[torch.Tensor]) -> torch.Tensor:
    first = losses[0].device
    return torch.stack([loss.reshape(()).to(first) if loss.dim() or loss.device != first else loss for loss in losses])


def _called(names: list[str] | None, task: int) -> str:
    return f"task {task}" if names is None else f"`{names[task]}`"
