"""How much trouble an estimator takes: one network, members that share most of their weights, an ensemble."""

import pickle

import numpy as np
import polytask as pt
import pytest
from polytask.sklearn import fitting
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
    assert len(fitting._held_out(made(), there, 0)) == held_out
    assert len(fitting._held_out(made(quality="good"), there, 0)) == rows // 10
    assert len(fitting._held_out(made(validation_fraction=0.05), there, 0)) == rows // 20


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
    with pytest.raises(ValueError, match='`X` should be dense with quality="best"'):
        made().fit(sparse.csr_matrix(X), BOTH)


def test_a_second_fit_is_checked_too():
    found = made(quality="fast", warm_start=True, epochs=1).fit(X, BOTH)
    with pytest.raises(ValueError, match="`warm_start` should be left out with quality='best'"):
        found.set_params(quality="best").fit(X, BOTH)
    with pytest.raises(ValueError, match="`quality` should be one of"):
        found.set_params(quality=["best"]).fit(X, BOTH)
