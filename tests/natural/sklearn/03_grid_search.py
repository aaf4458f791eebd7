"""A grid over learning rate and weighting with three folds."""

import numpy as np
from polytask.sklearn import MultiTaskRegressor
from sklearn.model_selection import GridSearchCV

rng = np.random.default_rng(0)
x = rng.normal(size=(150, 6))
y = x @ rng.normal(size=(6, 3))
grid = {"lr": [1e-3, 1e-2], "weighting": ["equal", "uncertainty"]}
search = GridSearchCV(MultiTaskRegressor(epochs=15, random_state=0), grid, cv=3, error_score="raise")
search.fit(x, y)
assert set(search.best_params_) == {"lr", "weighting"}
assert np.isfinite(search.cv_results_["mean_test_score"]).all()
assert search.predict(x).shape == (150, 3)
