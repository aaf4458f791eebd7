"""Mixed columns: scaled numbers and sparse one-hot categories, then a multi-task regressor."""

import numpy as np
import pandas as pd
from polytask.sklearn import MultiTaskRegressor
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

rng = np.random.default_rng(0)
frame = pd.DataFrame(
    {"age": rng.integers(18, 80, 300), "income": rng.normal(3e4, 1e4, 300), "city": rng.choice(list("abcdefgh"), 300)}
)
y = np.column_stack([frame["age"] / 10, (frame["city"] == "a") * 3.0])
columns = ColumnTransformer(
    [("numbers", StandardScaler(), ["age", "income"]), ("city", OneHotEncoder(handle_unknown="ignore"), ["city"])],
    sparse_threshold=1.0,
)
pipeline = Pipeline([("columns", columns), ("model", MultiTaskRegressor(epochs=60, lr=1e-2, random_state=0))])
pipeline.fit(frame, y)
assert pipeline.predict(frame).shape == (300, 2)
assert pipeline.score(frame, y) > 0.3
