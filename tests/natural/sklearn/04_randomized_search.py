"""Random search over the depth of the encoder and lr, inside a pipeline."""

import numpy as np
import polytask as pt
from polytask.sklearn import MultiTaskClassifier
from scipy.stats import loguniform
from sklearn.model_selection import RandomizedSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler

rng = np.random.default_rng(0)
x = rng.normal(size=(160, 5))
y = np.column_stack([x[:, 0] > 0, x[:, 1:4].argmax(axis=1)]).astype(int)
pipeline = Pipeline([("scale", MinMaxScaler()), ("net", MultiTaskClassifier(epochs=10, random_state=0))])
space = {"net__lr": loguniform(1e-3, 1e-1), "net__encoder": [pt.encoder.MLP([16]), pt.encoder.MLP([32, 16])]}
search = RandomizedSearchCV(pipeline, space, n_iter=4, cv=2, random_state=0, error_score="raise").fit(x, y)
assert 0 <= search.best_score_ <= 1
assert search.best_estimator_.predict(x).shape == (160, 2)
