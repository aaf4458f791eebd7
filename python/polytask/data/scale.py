"""Targets of a regression in a scale of their own while it trains, learned from the training rows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..arguments.messages import listed
from ..components.component import Component

#: What a task's `scale` may be.
NAMES = ("standardize", "robust", "quantile", "log1p")

#: Losses whose predictions are places on the scale of the targets, by the scales that suit them.
_SUITED = {
    **dict.fromkeys(("mean_squared", "mean_absolute", "huber", "quantile"), NAMES),
    "gaussian_nll": ("standardize", "robust"),
}

#: The interquartile range of a normal law whose deviation is 1.
_RANGE = 1.3489795003921634

#: Most points of the curve that makes targets normal.
_POINTS = 257


#: How much of a number single precision rounds, and how much of the spread of targets that may be.
_ROUNDED, _COARSE = float(np.finfo(np.float32).eps), 1e-3


@dataclass(frozen=True)
class Scale:
    """The scale of each output: `(f(y) - center) / spread`, with `f(y) = y` or `ln(1 + y)`; or the curve through points
    of `y` and of normal quantiles, outside of which it is level.
    """

    name: str
    centers: list[float]
    spreads: list[float]
    curves: list[list[list[float]]]

    @classmethod
    def learn(cls, name: str, known: np.ndarray, argument: str) -> "Scale":
        """Of training targets `[rows, outputs]`, NaN where they are missing.

        Raises:
            ValueError: a target that the scale has no place for.
        """
        columns = [column[~np.isnan(column)] for column in known.T]
        if name == "quantile":
            return cls(name, [], [], [curve(column) for column in columns])
        if name == "log1p":
            columns = [_log(column, argument) for column in columns]
        each = [middle(column, name == "robust") for column in columns]
        return cls(name, [center for center, _ in each], [spread for _, spread in each], [])

    def forward(self, known: np.ndarray, argument: str) -> np.ndarray:
        """Targets `[rows, outputs]` in this scale.

        Raises:
            ValueError: a target that the scale has no place for.
        """
        if self.curves:
            each = [np.interp(column, y, z) for column, (y, z) in zip(known.T, self.curves, strict=True)]
            return np.where(np.isnan(known), np.nan, np.stack(each, axis=1))
        values = _log(known, argument) if self.name == "log1p" else known
        return np.asarray((values - self.centers) / self.spreads)

    def inverse(self, scaled: np.ndarray) -> np.ndarray:
        """What was in this scale, `[..., outputs]`, in the units of the targets."""
        if self.curves:
            each = [np.interp(scaled[..., j], z, y) for j, (y, z) in enumerate(self.curves)]
            return np.stack(each, axis=-1)
        values: np.ndarray = scaled * np.array(self.spreads) + self.centers
        with np.errstate(over="ignore"):
            return np.asarray(np.expm1(values)) if self.name == "log1p" else values

    def predicted(self, loss: Any, outputs: np.ndarray) -> np.ndarray:
        """Predictions `[rows, width]` of a loss in the units of the targets; of an output they stand side by side. They
        are in double precision where single would round them by much of the targets' spread, as of times in seconds.
        """
        parts = self._parts(outputs)
        places = self.inverse(parts)
        if getattr(loss, "name", None) == "gaussian_nll":
            places[:, 1] = parts[:, 1] * np.square(self.spreads)
        kind = np.float64 if self._is_fine else outputs.dtype
        return np.ascontiguousarray(places.transpose(0, 2, 1)).reshape(outputs.shape).astype(kind)

    @property
    def _is_fine(self) -> bool:
        """Whether single precision is too coarse for the targets."""
        if self.name == "log1p":
            return False
        ends = [(max(abs(y[0]), abs(y[-1])), (y[-1] - y[0]) / 4) for y, _ in self.curves]
        each = ends or [(abs(center), spread) for center, spread in zip(self.centers, self.spreads, strict=True)]
        return any(size * _ROUNDED > _COARSE * spread for size, spread in each)

    def scaled(self, loss: Any, predicted: np.ndarray) -> np.ndarray:
        """What `predicted` makes of outputs, as outputs again, of a scale that is no curve."""
        parts = self._parts(predicted)
        places = self.forward(parts, "what is predicted")
        if getattr(loss, "name", None) == "gaussian_nll":
            places[:, 1] = parts[:, 1] / np.square(self.spreads)
        return np.ascontiguousarray(places.transpose(0, 2, 1)).reshape(predicted.shape).astype(predicted.dtype)

    def _parts(self, outputs: np.ndarray) -> np.ndarray:
        """What there is of each output, `[rows, parts, outputs]`."""
        width = outputs.shape[1] // self.outputs
        parts: np.ndarray = outputs.astype(np.float64).reshape(len(outputs), self.outputs, width).transpose(0, 2, 1)
        return parts

    @property
    def linear(self) -> bool:
        """Whether every number has a place in it."""
        return not self.curves and self.name != "log1p"

    @property
    def affine(self) -> dict[str, Any] | None:
        """What the core reads: centres, spreads, and whether they are of `ln(1 + y)`; none of curves."""
        return None if self.curves else {"centers": self.centers, "spreads": self.spreads, "log": self.name == "log1p"}

    @property
    def outputs(self) -> int:
        """Targets a row."""
        return len(self.curves or self.centers)

    def __str__(self) -> str:
        if self.curves:
            return f"{self.name}, from {listed(f'{y[0]:.4g} to {y[-1]:.4g}' for y, _ in self.curves)}".replace("`", "")
        each = [f"{center:.4g} +- {spread:.4g}" for center, spread in zip(self.centers, self.spreads, strict=True)]
        return f"{self.name}, {'of the logarithm ' if self.name == 'log1p' else ''}{', '.join(each)}"

    def describe(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return {"name": self.name, "centers": self.centers, "spreads": self.spreads, "curves": self.curves}


def check(scale: Any, loss: Any, classes: int | None, argument: str) -> str | None:
    """The name of a scale that suits the loss.

    Raises:
        TypeError, ValueError: no name of a scale, or one that does not suit the loss; says what does.
    """
    if scale is None:
        return None
    if not isinstance(scale, str):
        raise TypeError(f"{argument} should be one of {listed(NAMES)}; got {scale!r}")
    if scale not in NAMES:
        raise ValueError(f"{argument} should be one of {listed(NAMES)}; got {scale!r}")
    called = type(loss).__name__ if isinstance(loss, Component) else "a Python loss"
    suited = _SUITED.get(loss.name, ()) if isinstance(loss, Component) and classes is None else ()
    if scale not in suited:
        raise ValueError(f"{argument} of {scale!r} does not suit {called}; "
                         + (f"{listed(suited)} do" if suited else "it is for losses of a location, such as "
                            "pt.loss.MeanSquared"))  # fmt: skip
    return scale


def _log(values: np.ndarray, argument: str) -> np.ndarray:
    if (wrong := values <= -1).any():
        raise ValueError(f'{argument} should be above -1 for scale="log1p"; got {values[wrong][0]:g}')
    return np.asarray(np.log1p(values))


def middle(values: np.ndarray, robust: bool) -> tuple[float, float]:
    """Centre and spread, 0 and 1 of no values; the spread of equal values is 1."""
    if not len(values):
        return 0.0, 1.0
    if robust:
        low, center, high = np.quantile(values, [0.25, 0.5, 0.75])
        spread = (high - low) / _RANGE
    else:
        center = values.mean()
        spread = values.std()
    # note: beside numbers as large as their mean, the deviation of equal ones is a rounding error.
    return float(center), float(spread) if spread > 1e-12 * abs(center) else 1.0


def curve(values: np.ndarray) -> list[list[float]]:
    """Quantiles up to the largest, and those of a normal sample; of a value that comes often, the middle."""
    if not len(values):
        return [[0.0, 1.0], [0.0, 1.0]]
    count = min(len(values), _POINTS)
    shares = (np.arange(count) + 0.5) / count
    normal = torch.special.ndtri(torch.from_numpy(shares)).numpy()
    points, place = np.unique(np.quantile(values, np.linspace(0, 1, count)), return_inverse=True)
    return [points.tolist(), (np.bincount(place, normal) / np.bincount(place)).tolist()]
