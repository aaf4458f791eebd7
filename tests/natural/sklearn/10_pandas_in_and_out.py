"""Data frames in; I want a data frame with the same index and columns back."""

import numpy as np
import pandas as pd
from polytask.sklearn import MultiTaskRegressor

rng = np.random.default_rng(0)
index = pd.date_range("2024-01-01", periods=100, freq="D")
x = pd.DataFrame(rng.normal(size=(100, 3)), index=index, columns=["wind", "rain", "sun"])
y = pd.DataFrame({"load": x["wind"] * 2, "price": x["sun"] - x["rain"]}, index=index)
model = MultiTaskRegressor(epochs=30, lr=1e-2, random_state=0).fit(x, y)
assert list(model.feature_names_in_) == ["wind", "rain", "sun"]
prediction = model.predict(x)
assert isinstance(prediction, pd.DataFrame)
assert list(prediction.columns) == ["load", "price"]
assert prediction.index.equals(index)
