"""What estimators of scikit-learn refuse, in words: parameters by name, targets, misuse."""

import numpy as np
import pandas as pd
import polytask as pt
import polytask.sklearn
import pytest
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

Classifier = pt.sklearn.MultiTaskClassifier
Regressor = pt.sklearn.MultiTaskRegressor
Mixed = pt.sklearn.MultiTaskEstimator

X = np.random.default_rng(0).normal(size=(60, 5))
CLASSES = (X[:, :2] > 0).astype(int)
MIXED = pd.DataFrame({"side": np.where(X[:, 0] > 0, "in", "out"), "price": X[:, 1]})


def quick(kind: type, **more: object) -> BaseEstimator:
    return kind(**{"epochs": 1, "random_state": 0, **more})


@pytest.mark.parametrize(
    ("kind", "more", "says"),
    [
        (Classifier, {"epochs": 1.5}, "`epochs` should be a whole number of at least 1; got 1.5"),
        (Classifier, {"batch_size": "big"}, "`batch_size` should be \"auto\" or a whole number .*; got 'big'"),
        (Classifier, {"hidden_layer_sizes": (8, 0)}, "`hidden_layer_sizes` should be a whole number .*; got 0"),
        (Classifier, {"dropout": 2.0}, r"argument `dropout` should be at least 0 and below 1; got 2.0"),
        (Classifier, {"encoder": "mlp", "dropout": 0.5}, "`dropout` should be left out where there is an `encoder`"),
        (Classifier, {"weighting": "upgrda"}, 'unknown weighting "upgrda"; did you mean `upgrad`'),
        (Classifier, {"early_stopping": True, "validation_fraction": 2}, "`validation_fraction` should be .*; got 2"),
        (Classifier, {"early_stopping": True, "tol": -1}, "`tol` should be a number of at least 0; got -1"),
        (Classifier, {"early_stopping": True, "n_iter_no_change": -1}, "`n_iter_no_change` should be .*; got -1"),
        (Classifier, {"tasks": ["a"]}, r"`tasks` should be a list of pt.Task; got \['a'\]"),
        (Classifier, {"tasks": [pt.Task("a", classes=2)]}, r"`y` should have 1 column\(s\), for the tasks `a`; got 2"),
        (Classifier, {"tasks": [pt.Task("a", classes=2, outputs=2)]}, "one column of `y` each|outputs"),
        (Classifier, {"tasks": [pt.Task("a"), pt.Task("b")]}, "should all be of classes; `a`, `b` are not"),
        (Regressor, {"tasks": [pt.Task("a", classes=2), pt.Task("b")]}, "should all be of values; `a` are not"),
    ],
)
def test_wrong_parameters_are_refused_by_name(kind, more, says):
    with pytest.raises((TypeError, ValueError), match=says):
        quick(kind, **more).fit(X, CLASSES)


@pytest.mark.parametrize(
    ("kind", "y", "says"),
    [
        (Classifier, None, "requires y to be passed, but the target y is None"),
        (Classifier, np.linspace(0, 1, 6), "Unknown label type: continuous; `y` of task `task1` .*; got 0.2"),
        (Classifier, np.zeros((6, 2, 2)), r"`y` should have shape \[rows\] or \[rows, tasks\]; got \[6, 2, 2\]"),
        (Classifier, np.array(["a", 1] * 3, object), "task `task1` should hold labels of one type; got 'a' and 1"),
        (Classifier, np.zeros(6, "M8[D]"), r"should hold numbers or strings; got dtype datetime64\[D\]"),
        (Classifier, pd.DataFrame({"b": [-1] * 6}), "task `b` should have at least one label; none of 6 rows has one"),
        (Classifier, pd.DataFrame([[1, 2]] * 6, columns=["a", "a"]), "`y` has several columns `a`"),
        (Regressor, pd.Series(["x"] * 6, name="price"), "`y` of task `price` should hold numbers; got 'x'"),
        (Regressor, [1, 2, np.inf, 1, 2, 3], "task `task1` should hold finite numbers; got inf at row 2"),
        (Regressor, [1, 2, 3], "inconsistent numbers of samples"),
    ],
)
def test_wrong_targets_are_refused(kind, y, says):
    with pytest.raises((TypeError, ValueError), match=says):
        quick(kind).fit(np.eye(6), y)


def test_other_misuse_is_refused():
    with pytest.raises(TypeError, match="MultiTaskClassifier: unknown argument `max_iter`; here it is called `epochs`"):
        Classifier(max_iter=3)
    with pytest.raises(NotFittedError):
        Mixed().predict(X)
    with pytest.raises(ValueError, match=r"weights? .*zero"):
        quick(Classifier).fit(X, CLASSES[:, 0], sample_weight=np.zeros(60))
    fitted = quick(Mixed).fit(X, MIXED)
    with pytest.raises(ValueError, match="`y` should have a column `price` for its task; got `side`"):
        fitted.score(X, MIXED[["side"]])
    with pytest.raises(ValueError, match="X has 2 features, but MultiTaskEstimator is expecting 5"):
        fitted.predict(X[:, :2])
    with pytest.raises(ValueError, match="`y` should have a label for at least one task"):
        fitted.score(X, MIXED.assign(side=None, price=np.nan))
