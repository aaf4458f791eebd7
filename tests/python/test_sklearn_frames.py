"""Estimators of scikit-learn on tables as people have them: strings, categories, dates, booleans, missing cells."""

import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import polytask as pt
import polytask.sklearn
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags

Classifier = pt.sklearn.MultiTaskClassifier
Regressor = pt.sklearn.MultiTaskRegressor
Mixed = pt.sklearn.MultiTaskEstimator

ROWS = 160


def table() -> pd.DataFrame:
    """Columns of every kind that is no plain number, and one that is, with missing cells in several."""
    rng = np.random.default_rng(0)
    size = rng.normal(size=ROWS)
    return pd.DataFrame(
        {
            "size": np.where(np.arange(ROWS) % 7 == 0, np.nan, size),
            "city": rng.choice(np.array(["A", "B", None], object), ROWS),
            "grade": pd.Categorical(rng.choice(["low", "high"], ROWS)),
            "member": rng.random(ROWS) > 0.5,
            "visits": pd.array(rng.choice(np.array([1, 2, None], object), ROWS), "Int64"),
            "when": pd.date_range("2020-01-01", periods=ROWS),
        }
    )


FRAME = table()
PRICE = np.where(FRAME["member"], 30.0, 0.0) + np.where(FRAME["size"].isna(), 60.0, 0.0)
TARGETS = pd.DataFrame({"rich": np.where(FRAME["city"].isna(), "yes", "no"), "price": PRICE})


def quick(kind: type, **more: object) -> object:
    return kind(**{"epochs": 15, "lr": 0.02, "random_state": 0, **more})


def forms() -> dict[str, object]:
    """The same table in every form."""
    polars = pl.from_pandas(FRAME)
    return {
        "pandas": FRAME,
        "polars": polars,
        "lazy": polars.lazy(),
        "arrow": polars.to_arrow(),
        "dict": FRAME.to_dict("list"),
        "records": FRAME.to_dict("records"),
    }


@pytest.mark.parametrize("form", ["pandas", "polars", "lazy", "arrow", "dict", "records"])
def test_a_table_is_taken_as_it_is(form):
    x = forms()[form]
    estimator = quick(Mixed).fit(x, TARGETS)
    assert estimator.feature_names_in_.tolist() == FRAME.columns.tolist()
    assert estimator.n_features_in_ == 6
    said = str(estimator.inputs_)
    assert "numbers: `size`, `visits`; days since 1970-01-01: `when`; whether missing: `size`, `visits`" in said
    assert "`city` (3 values), `grade` (2 values), `member` (2 values)" in said
    assert estimator.score(x, TARGETS) > 0.9, "what is missing says it: of the city the class, of the size the price"
    other = quick(Mixed).fit(FRAME, TARGETS)
    np.testing.assert_array_equal(estimator.predict(FRAME)["price"], other.predict(FRAME)["price"])
    whole = estimator.model_.predict(FRAME)["price"]
    np.testing.assert_allclose(whole, estimator.predict(x)["price"], rtol=1e-5, err_msg="the model takes frames too")


@pytest.mark.parametrize(
    ("quality", "more"), [("fast", {}), ("good", {"epochs": 6}), ("best", {"epochs": 3, "trials": 2, "lr": None})]
)
def test_every_quality_takes_a_table_and_what_it_has_not_seen(quality, more):
    estimator = quick(Mixed, quality=quality, **more).fit(FRAME, TARGETS)
    fresh = FRAME.iloc[:4].assign(city=["new", None, "A", "B"], size=np.nan, visits=pd.array([None] * 4, "Int64"))
    predicted = estimator.predict(fresh)
    assert predicted["rich"].isin(["yes", "no"]).all()
    assert np.isfinite(predicted["price"]).all()
    assert estimator.predict_proba(fresh)[0].shape == (4, 2)
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(estimator)).predict(fresh), predicted)
    pd.testing.assert_frame_equal(clone(estimator).fit(FRAME, TARGETS).predict(fresh), predicted)
    one_by_one = [estimator.predict(FRAME.iloc[[row]])["price"].item() for row in range(3)]
    np.testing.assert_array_equal(one_by_one, estimator.predict(FRAME)["price"][:3])


def test_pipelines_folds_and_searches():
    named = FunctionTransformer(lambda frame: frame.assign(size=frame["size"] * 2))
    pipeline = make_pipeline(named, quick(Classifier))
    assert cross_val_score(pipeline, FRAME, TARGETS["rich"], cv=2).min() > 0.8
    found = GridSearchCV(quick(Mixed), {"sharing": ["hard", "mmoe"], "epochs": [2, 15]}, cv=2).fit(FRAME, TARGETS)
    assert found.best_params_["epochs"] == 15
    assert found.best_estimator_.inputs_ is not None


def test_missing_numbers_keep_their_mean_and_are_told():
    rng = np.random.default_rng(0)
    x = rng.normal(5, 2, (ROWS, 3))
    hidden = rng.random(ROWS) < 0.4
    x[hidden, 1] = np.nan
    y = np.where(hidden, 10.0, 0.0)
    for given in (x, x.astype(np.float32), x.tolist(), pd.DataFrame(x, columns=list("abc")), x.astype(object)):
        regressor = quick(Regressor).fit(given, y)
        assert regressor.score(given, y) > 0.9, "whether a number is missing is all that the target depends on"
        assert regressor.inputs_ is None
    np.testing.assert_allclose(regressor.center_, np.nanmean(x, axis=0))
    mean = np.where(np.isnan(x), np.nanmean(x, axis=0), x)
    assert regressor.model_.inputs.numeric == 4
    seen = np.column_stack([(mean - regressor.center_) / regressor.scale_, hidden])
    np.testing.assert_allclose(regressor.model_.predict(seen)["task1"], regressor.predict(x), rtol=1e-4, atol=1e-4)
    plain = quick(Regressor).fit(mean, y)
    np.testing.assert_array_equal(plain.predict(mean[:5]), plain.predict(mean[:5].astype(object)))
    gone = mean[:5].copy()
    gone[:, 0] = np.nan
    there = np.where(np.isnan(gone), plain.center_, gone)
    np.testing.assert_array_equal(plain.predict(gone), plain.predict(there), "missing at predict alone: the mean")


@pytest.mark.parametrize("standardize", [True, False])
def test_missing_numbers_where_nothing_is_scaled_and_in_sparse_rows(standardize):
    rng = np.random.default_rng(0)
    x = np.where(rng.random((ROWS, 3)) < 0.5, 0.0, rng.normal(size=(ROWS, 3)))
    hidden = rng.random(ROWS) < 0.4
    x[hidden, 1] = np.nan
    for given in (x, sparse.csr_array(x)):
        regressor = quick(Regressor, standardize=standardize).fit(given, 10.0 * hidden)
        assert regressor.score(given, 10.0 * hidden) > 0.9
    empty = np.column_stack([x, np.full(ROWS, np.nan)])
    assert quick(Regressor, standardize=standardize).fit(empty, 10.0 * hidden).n_features_in_ == 4
    frame = FRAME.drop(columns="when")
    estimator = quick(Mixed, standardize=standardize).fit(frame, TARGETS)
    mean = frame["size"].mean()
    number = estimator.inputs_.columns.numbers[0]
    assert (number.mean, number.deviation, number.fill) == pytest.approx(
        (mean, frame["size"].std(ddof=0), 0) if standardize else (0, 1, mean)
    )


def test_arrays_of_objects_and_strings_are_tables_without_names():
    x = FRAME.drop(columns="when").to_numpy(dtype=object)
    estimator = quick(Classifier).fit(x, TARGETS["rich"])
    assert estimator.score(x, TARGETS["rich"]) > 0.9
    assert "numbers: `x0`, `x4`" in str(estimator.inputs_)
    assert not hasattr(estimator, "feature_names_in_")
    np.testing.assert_array_equal(quick(Classifier).fit(x.tolist(), TARGETS["rich"]).predict(x), estimator.predict(x))
    words = np.where(FRAME["city"].isna(), "none", FRAME["city"])[:, None].astype(str)
    assert quick(Classifier).fit(words, TARGETS["rich"]).score(words, TARGETS["rich"]) == 1.0
    with pytest.raises(ValueError, match="X has 4 features, but MultiTaskClassifier is expecting 5 features as input"):
        estimator.predict(x[:, :4])


def test_names_are_checked_as_scikit_learn_does():
    estimator = quick(Classifier, epochs=1).fit(FRAME, TARGETS["rich"])
    with pytest.raises(ValueError, match=r"(?s)feature names should match .* now missing:\n- city"):
        estimator.predict(FRAME.drop(columns="city"))
    with pytest.raises(ValueError, match=r"(?s)feature names should match .* now missing:\n`city`"):
        estimator.predict(FRAME.drop(columns="city").to_dict("list"))
    with pytest.raises(ValueError, match="must be in the same order as they were in fit"):
        estimator.predict(FRAME[FRAME.columns[::-1]])
    backwards = FRAME[FRAME.columns[::-1]].to_dict("list")
    np.testing.assert_array_equal(estimator.predict(backwards), estimator.predict(FRAME), "a dict goes by names")
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        np.testing.assert_array_equal(estimator.predict(FRAME.to_numpy(dtype=object)), estimator.predict(FRAME))
    estimator.fit(FRAME.to_numpy(dtype=object), TARGETS["rich"])
    with pytest.warns(UserWarning, match="X has feature names, but MultiTaskClassifier was fitted without"):
        estimator.predict(FRAME)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"size": np.inf}, "`X`: column `size` should hold finite numbers; got an infinite one"),
        ({"more": [[1, 2]] * ROWS}, r"`X`: column `more` holds several values a row, as \[1, 2\]"),
        ({"more": [{"a": 1}] * ROWS}, r"`X`: column `more` should hold strings or numbers; got {'a': 1}"),
    ],
)
def test_what_no_column_may_hold_is_refused(change, says):
    with pytest.raises((TypeError, ValueError), match=says):
        quick(Classifier).fit(FRAME.assign(**change), TARGETS["rich"])


def test_a_column_of_another_kind_is_refused_at_predict():
    estimator = quick(Classifier, epochs=1).fit(FRAME, TARGETS["rich"])
    for change, says in (({"size": "big"}, "`size` should hold numbers"), ({"when": 3}, "`when` should hold dates")):
        with pytest.raises(TypeError, match=says):
            estimator.predict(FRAME.assign(**change))
    with pytest.raises(ValueError, match="while a minimum of 1 is required by MultiTaskClassifier"):
        estimator.predict(FRAME[:0])


def test_ranges_and_periods_of_pandas():
    frame = pd.DataFrame({"range": pd.cut(FRAME["size"], 3), "month": FRAME["when"].dt.to_period("M")})
    estimator = quick(Classifier, epochs=1).fit(frame, TARGETS["rich"])
    assert "days since 1970-01-01: `month`; categories: `range` (4 values)" in str(estimator.inputs_)
    estimator.predict(frame)


def test_several_targets_as_a_dict_come_back_as_one():
    y = {"rich": TARGETS["rich"].tolist(), "price": PRICE}
    estimator = quick(Mixed).fit(FRAME, y)
    predicted = estimator.predict(FRAME)
    assert list(predicted) == ["rich", "price"]
    assert estimator.score(FRAME, {"price": PRICE, "rich": y["rich"]}) == estimator.score(FRAME, TARGETS) > 0.9


def test_a_warm_start_goes_on_with_the_columns_it_has():
    estimator = quick(Classifier, warm_start=True, epochs=8).fit(FRAME, TARGETS["rich"])
    inputs = estimator.inputs_
    again = estimator.fit(FRAME.assign(city=FRAME["city"].fillna("new")), TARGETS["rich"])
    assert again.inputs_ is inputs


def test_a_column_of_the_targets_is_no_feature():
    estimator = quick(Classifier, epochs=1).fit(FRAME.assign(rich=TARGETS["rich"]), TARGETS["rich"])
    assert "rich" not in estimator.inputs_.names
    assert estimator.n_features_in_ == 7


def test_tags_say_what_is_taken():
    for kind in (Classifier, Regressor, Mixed):
        tags = get_tags(kind()).input_tags
        assert tags.allow_nan
        assert tags.categorical
        assert tags.string
        assert tags.sparse


def test_nothing_is_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick(Mixed, epochs=1).fit(FRAME, TARGETS).score(FRAME, TARGETS)


@pytest.mark.parametrize(
    ("make", "value"),
    [(np.asarray, 2025.0), (np.asarray, 0.1), (np.asarray, 0.0), (np.asarray, np.nan), (sparse.csr_matrix, 0.0)],
)
def test_a_feature_that_was_level_says_nothing_whatever_comes_later(make, value):
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.normal(size=(80, 2)), np.full(80, value)])
    model = pt.sklearn.MultiTaskRegressor(epochs=2, random_state=0).fit(make(x), x[:, :2])
    wanted = model.predict(make(x))
    later = x.copy()
    later[:, 2] = 2030.0
    np.testing.assert_array_equal(model.predict(make(later)), wanted)
