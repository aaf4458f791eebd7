"""Trains, dumps with joblib, loads in another process, and predicts one row as a dict of JSON would be."""

import subprocess
import sys
import tempfile

import joblib
import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

import polytask as pt

rng = np.random.default_rng(0)
X = pd.DataFrame({"city": rng.choice(["Bern", "Oslo"], 200), "size": rng.normal(size=200)})
y = pd.DataFrame({"sold": X["size"] > 0, "days": rng.integers(0, 90, 200) * 1.0, "rooms": (X["city"] == "Oslo") + 1})
prepare = make_column_transformer((OrdinalEncoder(), ["city"]), remainder="passthrough")
pipe = make_pipeline(prepare, pt.sklearn.MultiTaskEstimator(epochs=15, random_state=7)).fit(X, y)
again = clone(pipe).fit(X, y)
pd.testing.assert_frame_equal(again.predict(X), pipe.predict(X))
assert pipe.predict(X)["sold"].dtype == bool
assert pipe[-1].classes_[0].tolist() == [False, True]

with tempfile.TemporaryDirectory() as folder:
    joblib.dump(pipe, f"{folder}/pipe.joblib", compress=3)
    code = f"""
import joblib, pandas as pd
pipe = joblib.load({folder + "/pipe.joblib"!r})
row = pd.DataFrame([{{"city": "Oslo", "size": 1.5}}])
print(pipe.predict(row).to_json(orient="records"))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
here = pipe.predict(pd.DataFrame([{"city": "Oslo", "size": 1.5}])).to_json(orient="records")
assert out.strip() == here and '"sold":true' in here
