"""How many rows are enough, and how much dropout: learning_curve and validation_curve, two jobs, missing labels as -1."""

import numpy as np
from sklearn.datasets import make_classification
from sklearn.model_selection import ShuffleSplit, learning_curve, validation_curve

from polytask.sklearn import MultiTaskClassifier

X, kind = make_classification(n_samples=500, n_features=8, n_informative=5, n_classes=3, random_state=0)
side = (X[:, 0] > 0).astype(int)
y = np.column_stack([kind, side])
rng = np.random.default_rng(0)
y[rng.random(500) < 0.25, 0] = -1
y[rng.random(500) < 0.25, 1] = -1

clf = MultiTaskClassifier(hidden_layer_sizes=(32,), epochs=15, lr=5e-3, batch_size=32, random_state=0)
cv = ShuffleSplit(2, test_size=0.3, random_state=0)
sizes, train, test = learning_curve(clf, X, y, train_sizes=[0.2, 1.0], cv=cv, n_jobs=2)
assert sizes.tolist() == [70, 350]
assert test[1].mean() > test[0].mean()
assert test[1].mean() > 0.7
train, test = validation_curve(clf, X, y, param_name="dropout", param_range=[0.0, 0.9], cv=cv)
assert train[0].mean() > train[1].mean()
train, test = validation_curve(clf, X, y, param_name="optimizer__weight_decay", param_range=[0.0, 0.1], cv=3)
assert test.shape == (2, 3) and np.isfinite(test).all()
