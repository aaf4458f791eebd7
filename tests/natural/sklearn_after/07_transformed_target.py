"""Skewed targets through TransformedTargetRegressor, and a forest, a multi-task network and a ridge compared."""

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import BaggingRegressor, RandomForestRegressor
from sklearn.linear_model import MultiTaskLasso, Ridge
from sklearn.model_selection import cross_val_score

import polytask as pt

rng = np.random.default_rng(0)
X = rng.uniform(-1, 1, size=(400, 6))
y = np.exp(np.c_[2 * X[:, 0] + X[:, 1], X[:, 1] - 2 * X[:, 2]] + rng.normal(0, 0.1, (400, 2)))

net = pt.sklearn.MultiTaskRegressor(hidden_layer_sizes=(32, 32), dropout=0, lr=5e-3, epochs=40, random_state=0)
logged = TransformedTargetRegressor(net, func=np.log, inverse_func=np.exp)
models = {
    "lasso": MultiTaskLasso(0.1),
    "ridge": TransformedTargetRegressor(Ridge(), func=np.log, inverse_func=np.exp),
    "forest": RandomForestRegressor(30, random_state=0),
    "net": logged,
}
scores = {name: cross_val_score(model, X, y, cv=3, scoring="r2").mean() for name, model in models.items()}
print(scores)
assert scores["net"] > 0.8 and scores["net"] > scores["lasso"]
logged.fit(X, y)
assert (logged.predict(X) > 0).all() and logged.regressor_.n_features_in_ == 6
bag = BaggingRegressor(net.set_params(epochs=15), n_estimators=3, random_state=0).fit(X, np.log(y))
assert bag.predict(X).shape == y.shape
