"""joblib dump and load of a fitted pipeline."""

import tempfile
from pathlib import Path

import joblib
import numpy as np
from polytask.sklearn import MultiTaskClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

rng = np.random.default_rng(0)
x = rng.normal(size=(120, 4))
y = np.column_stack([x[:, 0] > 0, x[:, 1] > 0]).astype(int)
pipeline = make_pipeline(StandardScaler(), MultiTaskClassifier(epochs=10, batch_size=32, random_state=0)).fit(x, y)
with tempfile.TemporaryDirectory() as folder:
    joblib.dump(pipeline, Path(folder) / "model.joblib")
    loaded = joblib.load(Path(folder) / "model.joblib")
assert np.array_equal(loaded.predict(x), pipeline.predict(x))
for a, b in zip(loaded.predict_proba(x), pipeline.predict_proba(x), strict=True):
    assert np.array_equal(a, b)
