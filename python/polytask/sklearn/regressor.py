"""The regressor: tasks that are all of numbers."""

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin

from .estimator import MultiTaskEstimator, side_by_side


class MultiTaskRegressor(RegressorMixin, MultiTaskEstimator):  # type: ignore[misc]
    """Several regressions in one network, as a regressor of scikit-learn.

    `y` is `[rows]` or `[rows, tasks]` of numbers, of which NaN are missing; `predict` gives an array of that shape.
    Arguments and attributes are those of `MultiTaskEstimator`.
    """

    _kind = "values"
    score = MultiTaskEstimator.score

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Numbers, `[rows]` or `[rows, tasks]`, in the units of `y`."""
        each = self._predict(X)
        return each[0] if self._flat else side_by_side(each)
