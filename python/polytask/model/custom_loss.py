"""Losses that are Python callables on torch tensors: autograd gives the core their gradient."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ..data.task import Task
from ..values import memory

#: Gives the weighted sum of losses, from memory of raw outputs, labels, row weights and the gradient, and its factor.
Wrapped = Callable[[Any, Any, Any, Any, float], float]


def wrap(task: Task) -> Wrapped | None:
    """What the core calls for a task's loss; `None` if its loss is the core's own.

    It is lent memory of the core: raw outputs `[rows, width]`, classes `[rows]` or numbers `[rows, outputs]`, row
    weights `[rows]` if there are any, and, if it is wanted, of the gradient at the outputs, which it fills times a
    factor. It gives the sum of losses, in which a row counts its weight times its share of labelled cells.
    """
    if not task.custom:
        return None

    def call(lent: Any, labels: Any, weights: Any, slope: Any, factor: float) -> float:
        outputs = memory.tensor(lent)
        targets = memory.tensor(labels)
        known = targets >= 0 if task.classes else ~targets.isnan().all(1)
        w = torch.ones(len(outputs), device=outputs.device) if weights is None else memory.tensor(weights)
        rows = (known & (w > 0)).nonzero()[:, 0]
        gradient = None if slope is None else memory.tensor(slope).zero_()
        if len(rows) == 0:
            return 0.0
        with torch.enable_grad():
            leaf = outputs[rows].requires_grad_()
            y = targets[rows]
            complete = bool(task.classes) or not bool(y.isnan().any())
            summed = (_sum_over_rows if complete else _sum_over_cells)(task, leaf, y, w[rows])
            value = float(summed.detach())
            if gradient is not None:
                gradient[rows] = _gradient(task, summed, leaf, value) * factor
        return value

    return call


def _gradient(task: Task, summed: torch.Tensor, outputs: torch.Tensor, value: float) -> torch.Tensor:
    (gradient,) = torch.autograd.grad(summed, outputs, allow_unused=True)
    if gradient is None:
        raise ValueError(f"{_called(task)} should depend on the outputs; it does not")
    # A value that is not finite is the core's to refuse: it knows where training stands.
    if np.isfinite(value) and not bool(gradient.isfinite().all()):
        at = int((~gradient.isfinite()).flatten(1).any(1).nonzero()[0])
        seen = outputs[at].detach().tolist()
        raise ValueError(f"{_called(task)} has a gradient that is not finite where its value is: at the outputs {seen}")
    return gradient


def _sum_over_rows(task: Task, outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The weighted sum of the losses of rows without a missing cell."""
    single = task.classes is None and task.outputs == 1
    losses = _losses(task, *((outputs[:, 0], targets.reshape(-1)) if single else (outputs, targets)))
    if losses.ndim == 0:
        return losses * _equal(task, weights).sum()
    if losses.numel() == len(weights):
        return (losses.reshape(-1) * weights).sum()
    if losses.shape == targets.shape:
        return (losses.mean(1) * weights).sum()
    raise _wrong_shape(task, losses, len(weights))


def _sum_over_cells(task: Task, outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The same where cells are missing, which the loss does not see: it gets other labels in their place, or, if it
    gives a mean, the labelled cells alone."""
    known = ~targets.isnan()
    of_cells = weights[:, None].expand_as(targets)[known] / targets.shape[1]
    losses = _losses(task, outputs, _filled(targets, known))
    if losses.ndim == 0:
        _equal(task, weights)
        try:
            losses = _losses(task, outputs[known], targets[known])
        except Exception as error:
            shape = list(targets.shape)
            raise ValueError(
                f"{_called(task)} gives a mean, so with cells missing it is called on the labelled cells alone, "
                f"[cells] outputs and targets, which failed ({error}): let it give one loss a cell, {shape}"
            ) from error
        return losses * of_cells.sum() if losses.ndim == 0 else (losses.reshape(-1) * of_cells).sum()
    if losses.shape == targets.shape:
        return (losses[known] * of_cells).sum()
    if losses.numel() == len(weights):
        rows = int((~known).any(1).sum())
        raise ValueError(
            f"{_called(task)} gives one loss a row, but {rows} of {len(weights)} rows lack some of their "
            f"{targets.shape[1]} targets: let it give one loss a cell, {list(targets.shape)}, or their mean"
        )
    raise _wrong_shape(task, losses, len(weights))


def _filled(targets: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Targets with a label of the same column, or of any, where one is missing: the loss may know no other numbers."""
    first = known.int().argmax(0)
    fillers = targets[first, torch.arange(targets.shape[1])]
    fillers = torch.where(fillers.isnan(), targets[known][0], fillers)
    return torch.where(known, targets, fillers)


def _losses(task: Task, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    losses: Any = task.loss(outputs, targets)  # type: ignore[operator]
    if not isinstance(losses, torch.Tensor) or not losses.is_floating_point():
        raise TypeError(f"{_called(task)} should give a tensor of numbers; got {type(losses).__name__}")
    if not losses.requires_grad:
        raise ValueError(f"{_called(task)} should be differentiable; it gives a tensor without a gradient")
    return losses


def _equal(task: Task, weights: torch.Tensor) -> torch.Tensor:
    """Row weights, which a mean can only have if they are all the same."""
    if bool((weights != weights[0]).any()):
        raise ValueError(f"{_called(task)} should give one loss a row where rows have weights; got their mean")
    return weights


def _wrong_shape(task: Task, losses: torch.Tensor, rows: int) -> ValueError:
    cells = f", one a cell ({[rows, task.outputs]})" if task.outputs > 1 else ""
    shape = list(losses.shape)
    return ValueError(f"{_called(task)} should give {rows} losses, one a row{cells}, or their mean; got {shape}")


def _called(task: Task) -> str:
    return f"task `{task.name}`: its loss `{getattr(task.loss, '__name__', type(task.loss).__name__)}`"
