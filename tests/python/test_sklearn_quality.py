"""How much trouble an estimator takes: one network, members that share most of their weights, an ensemble."""

import pickle
import re

import numpy as np
import pandas as pd
import polytask as pt
import pytest
from polytask.sklearn import fitting, labels
from scipy import sparse
from sklearn.base import clone

X = np.random.default_rng(0).normal(size=(160, 4)) * [1, 10, 0.1, 1] + [0, 5, 0, 0]
SIGN = np.where(X[:, 0] * X[:, 3] > 0, "yes", "no")
VALUE = 30 + X[:, 1] + np.random.default_rng(1).normal(size=160)
BOTH = np.column_stack([SIGN.astype(object), VALUE])


def made(**how):
    said = {"quality": "best", "trials": 3, "epochs": 4, "random_state": 0, **how}
    return pt.sklearn.MultiTaskEstimator(**said)


def test_the_best_is_an_ensemble():
    found = made().fit(X, BOTH)
    assert isinstance(found.model_, pt.GreedyEnsemble)
    assert found.n_iter_ == len(found.history_) == 4
    assert "task1/single" in found.history_.columns
    p = found.predict_proba(X)
    assert p[0].shape == (160, 2)
    assert p[1] is None
    assert np.allclose(p[0].sum(1), 1)
    predicted = found.predict(X)
    assert set(predicted[:, 0]) <= {"yes", "no"}
    assert abs(predicted[:, 1].astype(float).mean() - VALUE.mean()) < 5
    assert np.array_equal(pickle.loads(pickle.dumps(found)).predict(X), predicted)
    again = clone(found).fit(X, BOTH)
    assert all(np.array_equal(a, b) for a, b in zip(again.predict_proba(X)[:1], p[:1], strict=True))


@pytest.mark.parametrize(("rows", "held_out"), [(400, 100), (1000, 250), (2000, 250), (5000, 500)])
def test_few_rows_hold_out_more_to_choose_an_ensemble_by(rows, held_out):
    there = fitting.Rows(np.zeros((rows, 1)), {"y": np.arange(rows) % 2}, None)
    for settings, wanted in (
        (made(), held_out),
        (made(quality="good"), rows // 10),
        (made(validation_fraction=0.05), rows // 20),
    ):
        parts = [part.x.shape[0] for part in fitting._parted(settings, there, None, 0)]
        assert parts == [rows - wanted, wanted]


def frames(x, price):
    mixed = pd.DataFrame(x, columns=list("abcd")).assign(city=np.where(x[:, 2] > 0, "Rome", "Oslo"))
    return mixed, pd.DataFrame({"sign": np.where(x[:, 0] * x[:, 3] > 0, "yes", "no"), "price": price})


@pytest.mark.parametrize("quality", ["fast", "good", "best"])
@pytest.mark.parametrize("table", [False, True])
def test_validation_rows_of_the_callers_own(quality, table):
    """They alone say when to stop and what to choose: nothing of the others is held out, and they are not learned."""
    rng = np.random.default_rng(2)
    other = rng.normal(size=(90, 4)) * [1, 10, 0.1, 1] + [0, 5, 0, 0]
    x, y = frames(X, VALUE) if table else (X, BOTH)
    x_val, y_val = frames(other, 30 + other[:, 1]) if table else (other, BOTH[:90])
    seen = {}
    said = made(quality=quality, early_stopping=quality == "fast", validation_fraction=0.5)
    fit, search = pt.Trainer.fit, fitting.search

    def kept(data, validation):
        seen["rows"] = [len(part[1]["sign" if table else "task1"]) for part in (data, validation)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pt.Trainer, "fit", lambda *a, **k: (kept(a[1], k["validation"]), fit(*a, **k))[1])
        patch.setattr(fitting, "search", lambda *a, **k: (kept(a[1], k["validation"]), search(*a, **k))[1])
        found = said.fit(x, y, X_val=x_val, y_val=y_val)
    assert seen["rows"] == [160, 90]
    assert found.predict(x_val).shape == (90, 2)
    if quality == "fast":
        judged = pt.Trainer(found.model_).evaluate((found._scaling.whole(found._x(x_val)), {
            target.task.name: target.read(column)
            for target, column in zip(found._targets, labels.read(y_val).columns, strict=True)}))  # fmt: skip
        assert judged.loss == pytest.approx(min(found.history_["validation/loss"]), rel=1e-5)


@pytest.mark.parametrize(
    ("how", "given", "says"),
    [
        ({}, {"X_val": X}, "`X_val` should come with `y_val`; got none"),
        ({}, {"y_val": BOTH}, "`y_val` should come with `X_val`; got none"),
        ({"quality": "fast"}, {"X_val": X, "y_val": BOTH}, "`X_val` is looked at with early_stopping=True, or"),
        ({}, {"X_val": X[:, :3], "y_val": BOTH}, "X has 3 features, but MultiTaskEstimator is expecting 4 features"),
        ({}, {"X_val": X[:9], "y_val": BOTH}, "of `X_val` and `y_val`: Found input variables with inconsistent"),
        ({}, {"X_val": X, "y_val": SIGN}, "`y_val` should have 2 column(s), for the tasks `task1`, `task2`; got 1"),
        ({}, {"X_val": X, "y_val": np.where(BOTH == "yes", "maybe", BOTH)},
         "`y_val` of task `task1` should be one of the classes `'no'`, `'yes'`; got 'maybe' at row"),
        ({}, {"X_val": sparse.csr_matrix(X), "y_val": BOTH}, "`X` and `X_val` should be dense with quality"),
    ],
)  # fmt: skip
def test_validation_rows_that_cannot_be(how, given, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        made(**how).fit(X, BOTH, **given)


def test_the_good_one_is_members_that_stop_in_time():
    found = made(quality="good", epochs=3, dropout=0.2).fit(X, BOTH)
    described = found.model_._core.description["encoder"]
    assert described["name"] == "tab_m"
    assert described["dropout"] == 0.2
    assert "validation/loss" in found.history_.columns
    assert found.predict_proba(X)[0].shape == (160, 2)


def test_one_column_and_row_weights():
    weights = np.arange(160) % 3
    found = pt.sklearn.MultiTaskClassifier(quality="best", trials=2, epochs=2, random_state=0).fit(X, SIGN, weights)
    assert found.predict(X).shape == (160,)
    assert list(found.classes_) == ["no", "yes"]
    regressor = pt.sklearn.MultiTaskRegressor(quality="best", trials=2, epochs=2, random_state=0).fit(X, VALUE)
    assert regressor.predict(X).shape == (160,)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"quality": "great"}, "`quality` should be one of .*; got 'great'"),
        ({"encoder": "tab_m"}, "`encoder` should be left out with quality='best'"),
        ({"lr": 0.1}, "`lr` should be left out with quality='best'"),
        (
            {"quality": "good", "hidden_layer_sizes": (8,)},
            "`hidden_layer_sizes` should be left out with quality='good'",
        ),
        ({"trials": 0}, "`trials` should be"),
    ],
)
def test_what_a_quality_says_itself_is_not_said_twice(how, says):
    with pytest.raises(ValueError, match=says):
        made(**how).fit(X, BOTH)


def test_sparse_features_are_for_one_network():
    with pytest.raises(ValueError, match='`X` and `X_val` should be dense with quality="best"'):
        made().fit(sparse.csr_matrix(X), BOTH)


def test_a_second_fit_is_checked_too():
    found = made(quality="fast", warm_start=True, epochs=1).fit(X, BOTH)
    with pytest.raises(ValueError, match="`warm_start` should be left out with quality='best'"):
        found.set_params(quality="best").fit(X, BOTH)
    with pytest.raises(ValueError, match="`quality` should be one of"):
        found.set_params(quality=["best"]).fit(X, BOTH)
