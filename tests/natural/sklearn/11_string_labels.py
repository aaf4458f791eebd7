"""Labels are strings, several columns of different numbers of classes."""

import numpy as np
import pandas as pd
from polytask.sklearn import MultiTaskClassifier

rng = np.random.default_rng(0)
x = rng.normal(size=(200, 4))
y = pd.DataFrame(
    {
        "mood": np.where(x[:, 0] > 0, "happy", "sad"),
        "colour": np.array(["red", "green", "blue"])[x[:, 1:4].argmax(axis=1)],
    }
)
model = MultiTaskClassifier(epochs=40, lr=1e-2, random_state=0).fit(x, y)
prediction = np.asarray(model.predict(x))
assert set(prediction[:, 0]) <= {"happy", "sad"}
assert set(prediction[:, 1]) <= {"red", "green", "blue"}
assert [list(classes) for classes in model.classes_] == [["happy", "sad"], ["blue", "green", "red"]]
assert (prediction == y.to_numpy()).mean() > 0.7
