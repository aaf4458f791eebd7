"""Out-of-fold probabilities of two tasks with cross_val_predict, a confusion matrix, and an AUC a task."""

import numpy as np
from sklearn.metrics import confusion_matrix, log_loss, roc_auc_score
from sklearn.model_selection import KFold, cross_val_predict, cross_val_score
from sklearn.multioutput import MultiOutputClassifier
from sklearn.linear_model import LogisticRegression

import polytask as pt

rng = np.random.default_rng(5)
X = rng.normal(size=(450, 6))
stage = np.digitize(X[:, 0] + 0.3 * rng.normal(size=450), [-0.5, 0.5])
relapse = (X[:, 0] + X[:, 1] > 0).astype(int)
y = np.c_[stage, relapse]
net = pt.sklearn.MultiTaskClassifier(sharing=pt.sharing.MMoE(experts=3), hidden_layer_sizes=(16,), epochs=25, lr=5e-3, random_state=0)
cv = KFold(3, shuffle=True, random_state=0)
proba = cross_val_predict(net, X, y, cv=cv, method="predict_proba")
assert isinstance(proba, list) and [p.shape for p in proba] == [(450, 3), (450, 2)]
assert roc_auc_score(relapse, proba[1][:, 1]) > 0.95
assert roc_auc_score(stage, proba[0], multi_class="ovr") > 0.85
assert log_loss(stage, proba[0]) < 0.7
hard = cross_val_predict(net, X, y, cv=cv)
table = confusion_matrix(y[:, 0], hard[:, 0])
assert table.shape == (3, 3) and table.trace() > 330
assert (hard[:, 1] == proba[1].argmax(1)).all()

linear = MultiOutputClassifier(LogisticRegression())
ours = cross_val_score(net, X, y, cv=cv).mean()
theirs = cross_val_score(linear, X, y, cv=cv, scoring=lambda e, X, y: (e.predict(X) == y).mean()).mean()
assert ours > theirs - 0.05, (ours, theirs)
