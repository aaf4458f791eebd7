"""A customer frame with gaps, imputing and encoding in a pipeline, a randomized search over the network, labels missing."""

import numpy as np
import pandas as pd
from scipy.stats import loguniform
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import RandomizedSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from polytask.sklearn import MultiTaskEstimator

rng = np.random.default_rng(0)
n = 500
X = pd.DataFrame({"plan": rng.choice(["free", "pro", None], n), "visits": rng.poisson(5, n).astype(float), "age": rng.normal(40, 9, n)})
X.loc[rng.random(n) < 0.1, "age"] = np.nan
churn = pd.Series(np.where(X["visits"] < 5, "yes", "no"), dtype=object)
churn[rng.random(n) < 0.2] = None
y = pd.DataFrame({"churn": churn, "spend": 20.0 * X["visits"] + 50 * (X["plan"] == "pro") + rng.normal(0, 3, n)})
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=0)

prepare = make_column_transformer(
    (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_include=object)),
    (SimpleImputer(strategy="median"), make_column_selector(dtype_include=float)),
)
pipe = make_pipeline(prepare, MultiTaskEstimator(epochs=20, random_state=0))
space = {
    "multitaskestimator__lr": loguniform(1e-3, 1e-2),
    "multitaskestimator__hidden_layer_sizes": [(32,), (32, 16)],
    "multitaskestimator__weighting": ["equal", "uncertainty"],
}
search = RandomizedSearchCV(pipe, space, n_iter=4, cv=3, random_state=0).fit(X_train, y_train)
assert search.score(X_test, y_test) > 0.8
predicted = search.predict(X_test)
assert list(predicted.columns) == ["churn", "spend"] and predicted.index.equals(X_test.index)
known = y_test["churn"].notna()
assert (predicted["churn"][known] == y_test["churn"][known]).mean() > 0.85
