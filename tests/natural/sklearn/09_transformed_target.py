"""Targets are prices, so I take logs with TransformedTargetRegressor."""

import numpy as np
from polytask.sklearn import MultiTaskRegressor
from sklearn.compose import TransformedTargetRegressor

rng = np.random.default_rng(0)
x = rng.normal(size=(250, 4))
y = np.exp(np.column_stack([x[:, 0] + 3, x[:, 1] + 6]))
model = TransformedTargetRegressor(
    MultiTaskRegressor(epochs=80, lr=1e-2, random_state=0), func=np.log, inverse_func=np.exp
)
model.fit(x, y)
prediction = model.predict(x)
assert prediction.shape == (250, 2)
assert (prediction > 0).all()
assert model.score(x, y) > 0.5
