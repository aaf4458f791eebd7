"""What a learning-rate range test found."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..plots import pictures
from ..process import interrupts

#: A fall that is so many deviations of a smoothed loss is seldom one of chance.
_CHANCE = 4.5


class LearningRates:
    """The losses of training steps whose learning rate rises from one to the next; `plot()` draws them.

    Attributes:
        lrs: the learning rates, in rising order.
        losses: the loss before the step with each, on a batch of its own.
        smoothed: `losses`, each averaged with its neighbours by a bell of a twentieth of the steps.
        suggestion: the learning rate at which `smoothed` falls most steeply, over the logarithm of the learning rate,
            before its lowest point; NaN if it never falls.
        doubtful: whether `smoothed` falls by no more than it would by chance, since losses of batches scatter: there
            are too few steps, or too few rows a batch.
    """

    def __init__(self, lrs: Sequence[float], losses: Sequence[float]) -> None:
        self.lrs = list(lrs)
        self.losses = list(losses)
        self.smoothed = _smoothed(np.array(losses, float)).tolist()
        steepest = _steepest(np.array(self.smoothed))
        self.suggestion = float("nan") if steepest is None else self.lrs[steepest]
        self.doubtful = steepest is not None and _by_chance(np.array(losses, float), np.array(self.smoothed))

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
        doubt = ". It fell by no more than losses of batches scatter: `steps` or batches should be larger"
        return f"LearningRates: {tried}; {best}, and was lowest at {lowest:.3g}{doubt if self.doubtful else ''}"


def _width(losses: np.ndarray) -> float:
    """The deviation of the bell, in steps."""
    return max(len(losses) / 20, 0.5)


def _by_chance(losses: np.ndarray, smoothed: np.ndarray) -> bool:
    """Whether the smoothed losses fall by less than losses around one value would with one in twenty tests or so."""
    lowest = int(np.argmin(smoothed))
    steps = 2 * np.sqrt(np.pi) * _width(losses)  # so many that a mean of them scatters as those of the bell
    # From one step to the next, so that a trend counts for little (von Neumann 1941); not where the losses explode.
    scatter = np.sqrt(np.mean(np.square(np.diff(losses[: max(lowest + 1, 4)]))) / 2 / steps)
    return bool(smoothed[0] - smoothed[lowest] < _CHANCE * scatter)


def _smoothed(losses: np.ndarray) -> np.ndarray:
    """Weighted means with a bell around each, of the losses that there are."""
    width = _width(losses)
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
