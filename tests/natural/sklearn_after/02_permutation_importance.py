"""Which features matter, over both targets and for each: permutation_importance with a scorer of one's own."""

import numpy as np
import pandas as pd
from sklearn.inspection import permutation_importance
from sklearn.metrics import r2_score

import polytask as pt

rng = np.random.default_rng(0)
X = pd.DataFrame(rng.normal(size=(400, 5)), columns=["rooms", "size", "noise1", "year", "noise2"])
y = pd.DataFrame({"price": 100 * X["size"] + 20 * X["rooms"], "energy": -5 * X["year"] + rng.normal(0, 0.5, 400)})
model = pt.sklearn.MultiTaskRegressor(hidden_layer_sizes=(32,), dropout=0.0, lr=1e-2, random_state=0)
model.fit(X, y)
assert model.score(X, y) > 0.9

both = permutation_importance(model, X, y, n_repeats=3, random_state=0)
ranking = X.columns[np.argsort(-both.importances_mean)]
assert set(ranking[:2]) == {"year", "size"}
assert set(ranking[-2:]) == {"noise1", "noise2"}


def energy_only(estimator, X, y):
    return r2_score(y["energy"], estimator.predict(X)["energy"])


energy = permutation_importance(model, X, y, scoring=energy_only, n_repeats=3, random_state=0)
assert X.columns[energy.importances_mean.argmax()] == "year"
raw = permutation_importance(model, X, y, scoring=["r2", "neg_mean_squared_error"], n_repeats=2, random_state=0)
assert set(raw) == {"r2", "neg_mean_squared_error"}
assert raw["r2"].importances_mean.argmax() in (1, 3)
