"""clone, get_params and set_params; the clone is unfitted and fits to the same predictions."""

import numpy as np
import pytest
from polytask.sklearn import MultiTaskRegressor
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

rng = np.random.default_rng(0)
x, y = rng.normal(size=(80, 3)), rng.normal(size=(80, 2))
model = MultiTaskRegressor(lr=1e-2, epochs=5, batch_size=16, random_state=42).fit(x, y)
copy = clone(model)
assert copy.get_params() == model.get_params()
with pytest.raises(NotFittedError):
    copy.predict(x)
assert np.array_equal(copy.fit(x, y).predict(x), model.predict(x))
copy.set_params(epochs=1)
assert copy.epochs == 1
assert model.epochs == 5
assert "MultiTaskRegressor" in repr(copy)
