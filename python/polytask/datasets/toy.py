"""Two objectives of two parameters whose gradients conflict and differ in length: the toy problem of CAGrad.

    f_1 = c_1 (log max(|(-x_1 - 7) / 2 - tanh(-x_2)|, 5e-6) + 6) + c_2 (((x_1 - 7)^2 + (x_2 + 8)^2 / 10) / 10 - 20)
    f_2 = c_1 (log max(|(3 - x_1) / 2 + tanh(-x_2) + 2|, 5e-6) + 6) + c_2 (((x_1 + 7)^2 + (x_2 + 8)^2 / 10) / 10 - 20)
    c_1 = max(tanh(x_2 / 2), 0), c_2 = max(tanh(-x_2 / 2), 0)

Liu, Liu, Jin, Stone and Liu, NeurIPS 2021, appendix; Navon et al., ICML 2022, multiply `f_1` by 0.1 and start from five
points. The Pareto front lies near `x_2 = -8.36`, `-7 <= x_1 <= 7`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float64]

#: The five points from which Navon et al. (ICML 2022) start, `[5, 2]`.
STARTS: _Floats = np.array([[-8.5, 7.5], [0.0, 0.0], [9.0, 9.0], [-7.5, -0.5], [9.0, -1.0]])

#: Their factor on the first objective; CAGrad's own is 1.
SCALE = 0.1

_LOWER = 5e-6


def losses(x: npt.ArrayLike, scale: float = SCALE) -> _Floats:
    """Both objectives at points `[..., 2]`: `[..., 2]`, the first times `scale`."""
    return _values_and_jacobians(x, scale)[0]


def jacobian(x: npt.ArrayLike, scale: float = SCALE) -> _Floats:
    """Both gradients at points `[..., 2]`: `[..., objective, parameter]`.

    On `x_2 = 0` both one-sided derivatives are added, as automatic differentiation of the published code does.
    """
    return _values_and_jacobians(x, scale)[1]


def stationarity(jacobian: npt.ArrayLike) -> Any:
    """Length of the shortest convex combination of two gradients `[..., 2, 2]`: zero at Pareto-stationary points."""
    a, b = np.moveaxis(np.asarray(jacobian, dtype=float), -2, 0)
    apart = ((b - a) ** 2).sum(-1)
    share = np.clip(-(a * (b - a)).sum(-1) / np.where(apart > 0, apart, 1), 0, 1)[..., None]
    return np.linalg.norm(a + share * (b - a), axis=-1)


def _values_and_jacobians(x: npt.ArrayLike, scale: float) -> tuple[_Floats, _Floats]:
    x1, x2 = np.moveaxis(np.asarray(x, dtype=float), -1, 0)
    bend = np.tanh(x2)
    curve = 1 - bend**2
    upper = np.maximum(np.tanh(x2 / 2), 0)
    lower = np.maximum(np.tanh(-x2 / 2), 0)
    upper_slope = (x2 >= 0) * (1 - upper**2) / 2
    lower_slope = (x2 <= 0) * (lower**2 - 1) / 2

    def objective(inside: _Floats, tilt: float, centre: float) -> tuple[_Floats, _Floats, _Floats]:
        steep = np.where(np.abs(inside) > _LOWER, 1 / np.where(inside == 0, 1, inside), 0)
        above = np.log(np.maximum(np.abs(inside), _LOWER)) + 6
        below = ((x1 - centre) ** 2 + (x2 + 8) ** 2 / 10) / 10 - 20
        return (
            above * upper + below * lower,
            -0.5 * steep * upper + 0.2 * (x1 - centre) * lower,
            tilt * curve * steep * upper + above * upper_slope + 0.02 * (x2 + 8) * lower + below * lower_slope,
        )

    first = objective(-(x1 + 7) / 2 + bend, 1, 7)
    second = objective((3 - x1) / 2 - bend + 2, -1, -7)
    values = np.stack([scale * first[0], second[0]], axis=-1)
    rows = [np.stack(each[1:], axis=-1) for each in (first, second)]
    return values, np.stack([scale * rows[0], rows[1]], axis=-2)
