"""Row weights through a pipeline and through metadata routing, early stopping, and more rows later with warm_start."""

import numpy as np
import sklearn
from sklearn.feature_selection import VarianceThreshold
from sklearn.model_selection import cross_validate
from sklearn.pipeline import Pipeline

from polytask.sklearn import MultiTaskEstimator

rng = np.random.default_rng(0)
X = rng.normal(size=(600, 5))
y = np.empty((600, 2), dtype=object)
y[:, 0] = np.where(X[:, 0] > 0, "up", "down")
y[:, 1] = X[:, 1] * 2.0
bad = np.arange(600) % 3 == 0
y[bad, 1] = 50.0 * rng.normal(size=bad.sum())
weight = np.where(bad, 0.0, 1.0)

net = MultiTaskEstimator(hidden_layer_sizes=(32,), lr=5e-3, early_stopping=True, n_iter_no_change=5, random_state=0)
pipe = Pipeline([("filter", VarianceThreshold()), ("net", net)])
pipe.fit(X, y, net__sample_weight=weight)
assert pipe["net"].n_iter_ <= 60
predicted = pipe.predict(X)
assert np.corrcoef(predicted[~bad, 1].astype(float), y[~bad, 1].astype(float))[0, 1] > 0.9
assert pipe.score(X, y, sample_weight=weight) > 0.8

with sklearn.config_context(enable_metadata_routing=True):
    routed = Pipeline([("filter", VarianceThreshold()), ("net", net.set_fit_request(sample_weight=True).set_score_request(sample_weight=True))])
    result = cross_validate(routed, X, y, cv=3, params={"sample_weight": weight})
assert result["test_score"].min() > 0.6, result["test_score"]

warm = MultiTaskEstimator(epochs=3, warm_start=True, random_state=0).fit(X[~bad][:200], y[~bad][:200])
before = warm.score(X[~bad], y[~bad])
for _ in range(5):
    warm.fit(X[~bad], y[~bad])
assert warm.score(X[~bad], y[~bad]) > before
