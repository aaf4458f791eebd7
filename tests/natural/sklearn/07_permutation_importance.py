"""Which features matter? Permutation importance of a fitted regressor."""

import numpy as np
from polytask.sklearn import MultiTaskRegressor
from sklearn.inspection import permutation_importance

rng = np.random.default_rng(0)
x = rng.normal(size=(300, 5))
y = np.column_stack([4 * x[:, 2], -4 * x[:, 2]])
model = MultiTaskRegressor(epochs=60, lr=1e-2, random_state=0).fit(x, y)
result = permutation_importance(model, x, y, n_repeats=3, random_state=0)
assert result.importances_mean.shape == (5,)
assert result.importances_mean.argmax() == 2
