"""Weightings without a trainer: weights and directions for losses and gradients that the caller has."""

from __future__ import annotations

import logging
from typing import Any, TypeVar

import numpy as np
import torch

from .. import _core
from ..values import arrays
from .component import Component

_log = logging.getLogger("polytask")

Array = TypeVar("Array", np.ndarray[Any, Any], torch.Tensor)


class Weighting(Component):
    """A weighting, for `pt.Trainer` or by itself.

    By itself it learns from call to call, as it would from step to step; one that learned nothing takes any number of
    tasks in each. What it has learned is no part of the
    component: equality, copies and pickles look at its arguments only. Results come as what was given: NumPy or torch,
    of the same type, on the same device, and without a graph.
    """

    __slots__ = ("_held",)
    _held: _core.Weighting

    def weights(self, x: Array, *, losses: Any = None, epoch: int | None = None, seed: int = 0) -> Array:
        """One weight a task, `[tasks]`.

        Arguments:
            x: what it looks at: the losses `[tasks]`, the Gramian `[tasks, tasks]` of the tasks' gradients, or the
                gradients themselves `[tasks, parameters]`. A Gramian is taken to be as exact as its type: one of
                products in single precision should come in single precision.
            losses: `[tasks]`, beside a Gramian or gradients. NaN, here or in `x`, is a task without a label: it gets
                weight 0, and its rows and columns are not looked at.
            epoch: how many epochs are complete; each call counts as one if this is not said.
            seed: for weightings that draw random numbers.

        Raises:
            ValueError, TypeError: what is wrong, what was expected and what came.
        """
        needs = self._made().needs
        rounding = None
        if needs == "losses":
            if losses is not None:
                raise ValueError(f"{type(self).__name__}: the losses are `x` already; got `losses` too")
            given = {"losses": _numbers(x, "losses", missing=True)}
        else:
            given = {needs: _numbers(x, needs)}
            rounding = cosine_rounding(getattr(x, "dtype", None), given[needs])
            given |= {} if losses is None else {"losses": _numbers(losses, "losses", missing=True)}
        weights, _, _ = self._weigh(given, epoch, seed, rounding)
        if weights is None:
            raise ValueError(f"{type(self).__name__}'s direction is no weighted sum of the gradients: use `aggregate`")
        return _like(weights, x)

    def aggregate(self, jacobian: Array, *, losses: Any = None, epoch: int | None = None, seed: int = 0) -> Array:
        """The direction `[parameters]` in place of the gradient, from each task's gradient `[tasks, parameters]`.

        Arguments:
            jacobian: a row a task.
            losses: `[tasks]`, for weightings that look at them; NaN is a task without a label.
            epoch: how many epochs are complete; each call counts as one if this is not said.
            seed: for weightings that draw random numbers.

        Raises:
            ValueError, TypeError: what is wrong, what was expected and what came.
        """
        given = {"jacobian": _numbers(jacobian, "jacobian")}
        given |= {} if losses is None else {"losses": _numbers(losses, "losses", missing=True)}
        _, direction, _ = self._weigh(given, epoch, seed)
        assert direction is not None, "a Jacobian gives a direction"
        return _like(direction, jacobian)

    def look_back(self, before: Any, after: Any) -> None:
        """Shows the losses `[tasks]` of the same rows before and after a step, for weightings that learn from them.

        Raises:
            ValueError, TypeError: what is wrong, what was expected and what came.
        """
        self._made().look_back(_numbers(before, "before", missing=True), _numbers(after, "after", missing=True))

    def reset(self) -> None:
        """Forgets what it has learned from its calls."""
        self._made().reset()

    def _weigh(
        self,
        given: dict[str, np.ndarray],
        epoch: int | None,
        seed: int,
        rounding: float | None = None,
        names: list[str] | None = None,
    ) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray]:
        """What the core decides of what it is given by name: weights, direction, factors on tasks' own gradients."""
        held = self._made()
        decided = held.weigh(**given, names=names, epoch=epoch, seed=seed, rounding=rounding)
        if warning := held.warning():
            _log.warning("%s", warning)
        return decided

    def _made(self) -> _core.Weighting:
        """The core's weighting, with what it has learned from its calls."""
        if not hasattr(self, "_held"):
            object.__setattr__(self, "_held", _core.Weighting(self.describe()))
        return self._held

    def __getstate__(self) -> dict[str, Any]:
        return vars(self)


def _numbers(value: Any, name: str, missing: bool = False) -> np.ndarray:
    """The array as the core reads it; where it is masked, its numbers are missing."""
    array, mask = arrays.to_numpy(value, f"`{name}`")
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float32 if array.dtype == np.float16 else np.float64)
    if mask is None or not mask.any():
        return array
    if not missing:
        raise ValueError(f"`{name}` should not be masked: a task without a label has NaN among the `losses`")
    return np.where(mask, np.nan, array)


def cosine_rounding(dtype: Any, gramian: np.ndarray) -> float | None:
    """How far off cosines may be that come from products in floats of this type, if it is one."""
    info: Any
    if isinstance(dtype, torch.dtype) and dtype.is_floating_point:
        info = torch.finfo(dtype)
    elif isinstance(dtype, np.dtype) and dtype.kind == "f":
        info = np.finfo(dtype)
    else:
        return None
    # Below the least normal number, what is left out stays as large as there.
    least = min((abs(x) for x in np.diagonal(gramian).tolist() if abs(x) > 0.0), default=float("inf"))
    return max(float(info.eps), float(info.tiny) * float(info.eps) / least)


def _like(result: np.ndarray, given: Array) -> Array:
    if isinstance(given, torch.Tensor):
        dtype = given.dtype if given.is_floating_point() else torch.float64
        return torch.from_numpy(result).to(given.device, dtype)
    dtype = getattr(given, "dtype", None)
    return result.astype(dtype) if isinstance(dtype, np.dtype) and dtype.kind == "f" else result
