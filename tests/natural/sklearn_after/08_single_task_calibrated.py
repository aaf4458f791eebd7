"""One task alone as any binary classifier: roc_auc search, calibration, a threshold, voting with a logistic regression."""

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score
from sklearn.model_selection import GridSearchCV, TunedThresholdClassifierCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from polytask.sklearn import MultiTaskClassifier

X, y = load_breast_cancer(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
net = MultiTaskClassifier(hidden_layer_sizes=(16,), epochs=15, lr=5e-3, random_state=0)
search = GridSearchCV(net, {"activation": ["relu", "tanh"], "early_stopping": [False, True]}, scoring="roc_auc", cv=3)
search.fit(X_train, y_train)
best = search.best_estimator_
proba = best.predict_proba(X_test)
assert proba.shape == (len(X_test), 2) and np.allclose(proba.sum(axis=1), 1)
assert roc_auc_score(y_test, proba[:, 1]) > 0.97

calibrated = CalibratedClassifierCV(best, method="isotonic", cv=3).fit(X_train, y_train)
assert brier_score_loss(y_test, calibrated.predict_proba(X_test)[:, 1]) < 0.08
careful = TunedThresholdClassifierCV(net, scoring="balanced_accuracy", cv=3).fit(X_train, y_train)
assert 0 <= careful.best_threshold_ <= 1
logistic = make_pipeline(StandardScaler(), LogisticRegression())
vote = VotingClassifier([("net", net), ("logistic", logistic)], voting="soft").fit(X_train, y_train)
assert vote.score(X_test, y_test) > 0.93
stack = StackingClassifier([("net", net), ("logistic", logistic)], cv=3).fit(X_train, y_train)
assert stack.score(X_test, y_test) > 0.93
