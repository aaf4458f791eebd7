"""Not every row has every label: NaN in y of a regressor and of a classifier."""

import numpy as np
from polytask.sklearn import MultiTaskClassifier, MultiTaskRegressor

rng = np.random.default_rng(0)
x = rng.normal(size=(300, 5))
y = x[:, :2] * 2
holes = rng.random(y.shape) < 0.4
y_missing = np.where(holes, np.nan, y)
regressor = MultiTaskRegressor(epochs=60, lr=1e-2, random_state=0).fit(x, y_missing)
prediction = regressor.predict(x)
assert np.isfinite(prediction).all()
assert np.square(prediction - y)[holes].mean() < y.var()

labels = np.where(holes, np.nan, (y > 0).astype(float))
classifier = MultiTaskClassifier(epochs=40, lr=1e-2, random_state=0).fit(x, labels)
assert set(np.unique(classifier.predict(x))) <= {0.0, 1.0}
assert np.isfinite(classifier.score(x, labels))
