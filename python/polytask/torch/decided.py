"""What a balancer decided last, and on what: kept as it came, and made rows of when somebody asks."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from ..results import observation
from ..results.decisions import Decisions

#: Numbers that are kept, whatever the number of decisions: 8 MiB.
_NUMBERS = 1 << 20


class Decision(NamedTuple):
    """Losses and weights `[tasks]` and products `[tasks, tasks]`; NaN without a label, None where there are none."""

    losses: np.ndarray
    weights: np.ndarray | None
    gramian: np.ndarray | None

    def row(self, step: int, tasks: Sequence[str]) -> dict[str, Any]:
        """The row of a history."""
        row: dict[str, Any] = {"step": step}
        row |= {f"{task}/loss": float(loss) for task, loss in zip(tasks, self.losses, strict=True)}
        labelled = ~np.isnan(self.losses)
        nothing = np.full(len(tasks), np.nan)
        weights = nothing if self.weights is None else np.where(labelled, self.weights, np.nan)
        observed: dict[str, Any] = {"weights": weights}
        if self.gramian is None:
            return row | observation.row(["weights"], tasks, observed)
        cosines = cosines_of(self.gramian, labelled)
        pairs = cosines[np.triu_indices(len(tasks), 1)]
        pairs = pairs[~np.isnan(pairs)]
        lengths = np.sqrt(np.maximum(np.diagonal(self.gramian), 0.0))
        observed |= {"norms": np.where(labelled, lengths, np.nan), "cosines": cosines}
        observed["conflict"] = (pairs < 0.0).mean() if len(pairs) else None
        return row | observation.row(observation.KINDS, tasks, observed)


class Decided:
    """The last decisions, at most so many, and fewer where these would be too many numbers.

    Attributes:
        most: how many decisions are kept.
        steps: how many there have been.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.steps = 0
        self._last: deque[Decision] = deque(maxlen=most)

    def add(self, losses: np.ndarray, weights: np.ndarray | None, gramian: np.ndarray | None) -> None:
        """Adds a decision; of other tasks than those before, it is the first of a new history."""
        self.steps += 1
        if self.most == 0:
            return
        if self._last and len(self._last[-1].losses) != len(losses):
            self._last.clear()
        self._last.append(Decision(losses, weights, gramian))
        numbers = len(losses) * (2 + len(losses))
        if len(self._last) > max(1, _NUMBERS // numbers):
            self._last.popleft()

    def history(self, names: Sequence[str] | None) -> Decisions:
        """Rows of the decisions."""
        if not self._last:
            return Decisions()
        tasks = [str(task) for task in range(len(self._last[-1].losses))] if names is None else names
        first = self.steps - len(self._last) + 1
        return Decisions([each.row(step, tasks) for step, each in enumerate(self._last, first)])

    def state(self) -> dict[str, Any]:
        """The decisions as tensors, NaN where there is nothing."""
        state: dict[str, Any] = {"steps": self.steps}
        if self._last:
            tasks = len(self._last[-1].losses)
            nothing, no_products = np.full(tasks, np.nan), np.full((tasks, tasks), np.nan)
            state["losses"] = _stacked([each.losses for each in self._last])
            state["weights"] = _stacked([nothing if each.weights is None else each.weights for each in self._last])
            if any(each.gramian is not None for each in self._last):
                products = [no_products if each.gramian is None else each.gramian for each in self._last]
                state["gramian"] = _stacked(products)
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues from what `state` gave; the last of its decisions if they are more than are kept here."""
        self.steps = state["steps"]
        self._last.clear()
        if "losses" not in state:
            return
        losses, weights = state["losses"].cpu().numpy(), state["weights"].cpu().numpy()
        gramians = state["gramian"].cpu().numpy() if "gramian" in state else [None] * len(losses)
        for one, weight, gramian in zip(losses, weights, gramians, strict=True):
            self._last.append(Decision(one, _unless_nothing(weight), _unless_nothing(gramian)))


def cosines_of(gramian: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Of the gradients with these products; NaN without a label, or of no length."""
    lengths = np.sqrt(np.diagonal(gramian))
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = gramian / np.outer(lengths, lengths)
    return np.where(np.outer(labelled, labelled), cosines, np.nan)


def _stacked(arrays: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(arrays))


def _unless_nothing(array: np.ndarray | None) -> np.ndarray | None:
    return None if array is None or np.isnan(array).all() else array
