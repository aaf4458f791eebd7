"""What a learning-rate range test found."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..plots import pictures
from ..process import interrupts


class LearningRates:
    """The losses of training steps whose learning rate rises from one to the next; `plot()` draws them.

    Attributes:
        lrs: the learning rates, in rising order.
        losses: the loss before the step with each, on a batch of its own.
        smoothed: `losses`, each averaged with its neighbours by a bell of a twentieth of the steps.
        suggestion: the learning rate at which `smoothed` falls most steeply, over the logarithm of the learning rate,
            before its lowest point; NaN if it never falls.
    """

    def __init__(self, lrs: Sequence[float], losses: Sequence[float]) -> None:
        self.lrs = list(lrs)
        self.losses = list(losses)
        self.smoothed = _smoothed(np.array(losses, float)).tolist()
        steepest = _steepest(np.array(self.smoothed))
        self.suggestion = float("nan") if steepest is None else self.lrs[steepest]

    @interrupts.held()
    def plot(self) -> Any:
        """Draws the losses over the learning rates, and marks the suggestion; gives the axes.

        Raises:
            ImportError: matplotlib is not installed.
        """
        axis = pictures.panels(1, "LearningRates.plot")[0]
        each = [pictures.Line("loss", self.losses, "0.7"), pictures.Line("smoothed", self.smoothed, "C0")]
        mark = None if np.isnan(self.suggestion) else self.suggestion
        pictures.over_rates(axis, self.lrs, each, mark)
        return axis

    def __repr__(self) -> str:
        tried = f"tried {len(self.lrs)} learning rates from {self.lrs[0]:.3g} to {self.lrs[-1]:.3g}"
        if np.isnan(self.suggestion):
            return f"LearningRates: {tried}, and the loss fell with none of them"
        lowest = self.lrs[int(np.argmin(self.smoothed))]
        best = f"the loss fell most steeply at {self.suggestion:.3g}, which is the suggestion"
        return f"LearningRates: {tried}; {best}, and was lowest at {lowest:.3g}"


def _smoothed(losses: np.ndarray) -> np.ndarray:
    """Weighted means with a bell around each, of the losses that there are."""
    width = max(len(losses) / 20, 0.5)
    place = np.arange(len(losses))
    bell = np.exp(-0.5 * ((place[:, None] - place) / width) ** 2)
    smoothed: np.ndarray = bell @ losses / bell.sum(axis=1)
    return smoothed


def _steepest(losses: np.ndarray) -> int | None:
    """Where the losses fall most, before they are lowest."""
    lowest = int(np.argmin(losses))
    if lowest == 0:
        return None
    falls = np.gradient(losses)[: lowest + 1]
    steepest = int(np.argmin(falls))
    return steepest if falls[steepest] < 0 else None
