"""Losses that are Python callables on torch tensors: autograd gives the core their gradient."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from .task import Task

Wrapped = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[float, float, np.ndarray]]


def wrap(task: Task) -> Wrapped | None:
    """What the core calls for a task's loss; `None` if its loss is the core's own."""
    if not task.custom:
        return None

    def call(outputs: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> tuple[float, float, np.ndarray]:
        gradient = np.zeros_like(outputs)
        rows = np.flatnonzero(weights > 0)
        total = float(weights[rows].sum(dtype=np.float64))
        if len(rows) == 0:
            return 0.0, 0.0, gradient
        with torch.enable_grad():
            leaf = torch.from_numpy(outputs[rows]).requires_grad_()
            summed = _sum(task, leaf, torch.from_numpy(targets[rows]), torch.from_numpy(weights[rows]))
            (slope,) = torch.autograd.grad(summed, leaf, allow_unused=True)
        if slope is None:
            raise ValueError(f"{_called(task)} should depend on the outputs; it does not")
        gradient[rows] = slope.numpy()
        return float(summed.detach()), total, gradient

    return call


def _sum(task: Task, outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The weighted sum of the losses of all rows."""
    single = task.classes is None and task.outputs == 1
    seen = (outputs[:, 0], targets.reshape(-1)) if single else (outputs, targets)
    losses: Any = task.loss(*seen)  # type: ignore[operator]
    if not isinstance(losses, torch.Tensor) or not losses.is_floating_point():
        raise TypeError(f"{_called(task)} should give a tensor of numbers; got {type(losses).__name__}")
    if not losses.requires_grad:
        raise ValueError(f"{_called(task)} should be differentiable; it gives a tensor without a gradient")
    if losses.ndim == 0:
        if bool((weights != weights[0]).any()):
            raise ValueError(f"{_called(task)} should give one loss a row where rows have weights; got their mean")
        return losses * weights.sum()
    if losses.numel() != len(weights):
        shape = list(losses.shape)
        raise ValueError(f"{_called(task)} should give {len(weights)} losses, one a row, or their mean; got {shape}")
    return (losses.reshape(-1) * weights).sum()


def _called(task: Task) -> str:
    return f"task `{task.name}`: its loss `{getattr(task.loss, '__name__', type(task.loss).__name__)}`"
