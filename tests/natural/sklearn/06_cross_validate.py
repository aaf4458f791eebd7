"""cross_validate with two scorers, train scores and the fitted estimators."""

import numpy as np
from polytask.sklearn import MultiTaskRegressor
from sklearn.model_selection import cross_validate

rng = np.random.default_rng(1)
x = rng.normal(size=(120, 4))
y = np.column_stack([x.sum(axis=1), x[:, 0] - x[:, 1]])
result = cross_validate(
    MultiTaskRegressor(hidden_layer_sizes=(32,), epochs=20, random_state=0),
    x,
    y,
    cv=3,
    scoring=["r2", "neg_mean_absolute_error"],
    return_train_score=True,
    return_estimator=True,
    error_score="raise",
)
assert result["test_r2"].shape == (3,)
assert (result["test_neg_mean_absolute_error"] < 0).all()
assert all(estimator.n_features_in_ == 4 for estimator in result["estimator"])
