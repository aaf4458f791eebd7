"""The classifier: tasks that are all of classes."""

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin

from .estimator import MultiTaskEstimator, side_by_side


class MultiTaskClassifier(ClassifierMixin, MultiTaskEstimator):  # type: ignore[misc]
    """Several classifications in one network, as a classifier of scikit-learn.

    `y` is `[rows]`, or `[rows, tasks]` with labels of one type a column: whole numbers, strings, true and false.
    `predict` gives an array of labels of that shape, `predict_proba` an array `[rows, classes]`, or a list of one a
    task. Arguments, attributes and missing labels are those of `MultiTaskEstimator`.

    Where `cv` is a number, scikit-learn looks at a classifier's labels to stratify, and fails itself where some are
    missing by anything but -1 (NaN, None, a frame's NA): mark them by -1, give a splitter, `cv=KFold(5)`, or take
    `MultiTaskEstimator`, which is no classifier to scikit-learn.
    """

    _kind = "classes"
    score = MultiTaskEstimator.score

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """The likeliest classes, as labels: `[rows]` or `[rows, tasks]`."""
        each = self._predict(X)
        return each[0] if self._flat else side_by_side(each)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
