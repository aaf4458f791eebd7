"""Sensor readings of machines: GroupKFold, cross_validate with several scorers, per-target errors with make_scorer."""

import numpy as np
from sklearn.metrics import make_scorer, mean_absolute_error
from sklearn.model_selection import GroupKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from polytask.sklearn import MultiTaskRegressor

rng = np.random.default_rng(3)
machines = np.repeat(np.arange(12), 40)
X = rng.normal(size=(480, 4))
y = np.c_[X[:, 0] * X[:, 1], 10 + 4 * X[:, 2], 1000 * X[:, 3]] + rng.normal(0, 0.05, (480, 3))


def mae_of(k):
    return make_scorer(lambda t, p: mean_absolute_error(t[:, k], p[:, k]), greater_is_better=False)


pipe = make_pipeline(StandardScaler(), PolynomialFeatures(2), MultiTaskRegressor(hidden_layer_sizes=(64,), lr=3e-3, random_state=0))
scoring = {"r2": "r2", "evs": "explained_variance", "wear": mae_of(0), "heat": mae_of(1), "load": mae_of(2)}
result = cross_validate(
    pipe, X, y, groups=machines, cv=GroupKFold(4), scoring=scoring, return_train_score=True, return_estimator=True
)
assert result["test_r2"].min() > 0.85, result["test_r2"]
assert (result["test_heat"] > -1.5).all() and (result["test_load"] > -300).all()
assert len(result["estimator"]) == 4
first = result["estimator"][0][-1]
assert first.n_features_in_ == 15 and first.n_iter_ == 60
assert len(first.history_["loss"]) == 60
