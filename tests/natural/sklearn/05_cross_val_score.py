"""Five-fold R2 of a regressor, as I would do with Ridge."""

import numpy as np
from polytask.sklearn import MultiTaskRegressor
from sklearn.datasets import make_regression
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

x, y = make_regression(n_samples=250, n_features=8, n_targets=2, noise=5.0, random_state=0)
model = make_pipeline(StandardScaler(), MultiTaskRegressor(epochs=60, lr=1e-2, random_state=0))
scores = cross_val_score(model, x, y / 100, cv=KFold(5, shuffle=True, random_state=0), scoring="r2")
assert scores.shape == (5,)
assert np.mean(scores) > 0.5
