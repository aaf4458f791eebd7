"""One estimator for a binary, a multi-class and a regression column of one frame."""

import numpy as np
import pandas as pd
import polytask as pt
from polytask.sklearn import MultiTaskEstimator

rng = np.random.default_rng(0)
x = pd.DataFrame(rng.normal(size=(250, 5)), columns=list("abcde"))
y = pd.DataFrame(
    {
        "churn": (x["a"] > 0).astype(int),
        "segment": np.array(["gold", "silver", "bronze"])[x[["b", "c", "d"]].to_numpy().argmax(axis=1)],
        "spend": 100 + 20 * x["e"],
    }
)
tasks = [
    pt.Task("churn", loss="binary_cross_entropy"),
    pt.Task("segment", classes=3),
    pt.Task("spend", scale="standardize"),
]
model = MultiTaskEstimator(tasks, epochs=40, lr=1e-2, random_state=0).fit(x, y)
prediction = model.predict(x)
assert set(prediction["segment"]) <= {"gold", "silver", "bronze"}
assert np.corrcoef(prediction["spend"], y["spend"])[0, 1] > 0.5
assert np.isfinite(model.score(x, y))
