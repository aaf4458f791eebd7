"""Probabilities per task as a list of arrays, like MultiOutputClassifier; score is between 0 and 1."""

import numpy as np
from polytask.sklearn import MultiTaskClassifier
from sklearn.metrics import roc_auc_score

rng = np.random.default_rng(0)
x = rng.normal(size=(250, 6))
y = np.column_stack([(x[:, 0] > 0), x[:, 1:4].argmax(axis=1)]).astype(int)
model = MultiTaskClassifier(epochs=40, lr=1e-2, random_state=0).fit(x, y)
probabilities = model.predict_proba(x)
assert len(probabilities) == 2
assert probabilities[0].shape == (250, 2)
assert probabilities[1].shape == (250, 3)
assert all(np.allclose(p.sum(axis=1), 1, atol=1e-5) for p in probabilities)
assert roc_auc_score(y[:, 0], probabilities[0][:, 1]) > 0.8
assert 0 <= model.score(x, y) <= 1
