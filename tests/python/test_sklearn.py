"""Estimators of scikit-learn: its own checks, its pipelines and searches, labels of every kind, and what is refused."""

import pickle
import subprocess
import sys
from collections.abc import Iterator

import joblib
import numpy as np
import pandas as pd
import polars as pl
import polytask as pt
import polytask.sklearn
import pytest
import torch
from scipy import sparse
from sklearn.base import BaseEstimator, clone
from sklearn.compose import ColumnTransformer
from sklearn.inspection import permutation_importance
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    RandomizedSearchCV,
    cross_val_predict,
    cross_val_score,
    train_test_split,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.estimator_checks import check_estimator

Classifier = pt.sklearn.MultiTaskClassifier
Regressor = pt.sklearn.MultiTaskRegressor
Mixed = pt.sklearn.MultiTaskEstimator

#: What no training by batches meets: a row of weight 2 is one row of its batch, and the same row twice is two.
EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": "rows are drawn into batches whatever they weigh",
    "check_sample_weight_equivalence_on_sparse_data": "rows are drawn into batches whatever they weigh",
}


@pytest.fixture
def own_numpy() -> Iterator[None]:
    """For what draws from NumPy's global generator, as scikit-learn does where no `random_state` is given."""
    state = np.random.get_state()
    yield
    np.random.set_state(state)


class Rows:
    """Targets that can be learned: two of classes, two of numbers; a frame of them with a city among the features."""

    def __init__(self, rows: int = 400) -> None:
        rng = np.random.default_rng(0)
        self.x = rng.normal(size=(rows, 5))
        self.side = (self.x[:, 0] > 0).astype(int)
        self.level = (self.x[:, 1] > -0.5).astype(int) + (self.x[:, 1] > 0.5)
        self.classes = np.column_stack([self.side, self.level])
        self.values = np.column_stack([self.x[:, 0] + self.x[:, 2], 100 * self.x[:, 1] + 1000])
        self.hidden = rng.random((rows, 2)) < 0.3
        city = rng.choice(["A", "B", "C"], rows)
        self.frame = pd.DataFrame({"size": self.x[:, 0], "city": city, "noise": self.x[:, 3]}, index=range(7, rows + 7))
        side = np.where(city == "A", "in", "out")
        self.mixed = pd.DataFrame({"side": side, "price": 2 * self.x[:, 0] + 3 * (city == "B")}, index=self.frame.index)


@pytest.fixture(scope="module")
def rows() -> Rows:
    return Rows()


def quick(kind: type, **more: object) -> BaseEstimator:
    return kind(**{"epochs": 15, "lr": 0.01, "random_state": 0, **more})


@pytest.mark.usefixtures("own_numpy")
@pytest.mark.parametrize("kind", [Classifier, Regressor, Mixed])
def test_the_checks_of_scikit_learn(kind):
    results = check_estimator(kind(), expected_failed_checks=EXPECTED, on_skip=None, on_fail=None)
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    assert failed == {}
    assert {result["check_name"] for result in results if result["status"] == "xfail"} == set(EXPECTED)
    assert sum(result["status"] == "passed" for result in results) > 40


def test_scikit_learn_is_not_imported_and_not_needed_unless_asked_for():
    code = """
import sys
import polytask as pt
assert "sklearn" not in sys.modules
sys.modules["sklearn"] = None
try:
    pt.sklearn
except ImportError as error:
    print(error)
"""
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert told.strip() == "polytask.sklearn needs scikit-learn 1.6 or later: pip install 'polytask[sklearn]'"


def test_a_classifier_of_several_tasks(rows):
    x, other, y, truth = train_test_split(rows.x, rows.classes, random_state=0)
    classifier = quick(Classifier).fit(x, y)
    predicted = classifier.predict(other)
    assert predicted.shape == truth.shape
    assert predicted.dtype == truth.dtype
    each = [accuracy_score(truth[:, j], predicted[:, j]) for j in range(2)]
    assert min(each) > 0.85
    assert classifier.score(other, truth) == pytest.approx(np.mean(each))
    assert [labels.tolist() for labels in classifier.classes_] == [[0, 1], [0, 1, 2]]
    probabilities = classifier.predict_proba(other)
    assert [p.shape for p in probabilities] == [(100, 2), (100, 3)]
    np.testing.assert_allclose(probabilities[1].sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(probabilities[1].argmax(axis=1), predicted[:, 1])
    assert isinstance(classifier.model_, pt.MultiTaskModel)
    assert [task.name for task in classifier.model_.tasks] == ["task1", "task2"]
    assert len(classifier.history_["task2/accuracy"]) == classifier.n_iter_ == 15


def test_a_classifier_of_one_task_gives_arrays(rows):
    labels = np.array(["no", "yes"])[rows.side]
    classifier = quick(Classifier).fit(rows.x, labels)
    assert classifier.classes_.tolist() == ["no", "yes"]
    assert classifier.predict_proba(rows.x).shape == (400, 2)
    assert accuracy_score(labels, classifier.predict(rows.x)) == classifier.score(rows.x, labels) > 0.9
    scores = cross_val_score(classifier, rows.x, labels, cv=3, scoring="roc_auc")
    assert scores.min() > 0.9


def test_a_regressor_predicts_in_the_units_of_the_targets(rows):
    regressor = quick(Regressor).fit(rows.x[:300], rows.values[:300])
    predicted = regressor.predict(rows.x[300:])
    assert predicted.shape == (100, 2)
    expected = np.mean([r2_score(rows.values[300:, j], predicted[:, j]) for j in range(2)])
    assert regressor.score(rows.x[300:], rows.values[300:]) == pytest.approx(expected)
    assert expected > 0.9
    assert not hasattr(regressor, "predict_proba")
    assert regressor.fit(rows.x, rows.values[:, 1]).predict(rows.x).shape == (400,)
    again = quick(Mixed).fit(rows.x, rows.side).fit(rows.x, rows.values)
    assert not hasattr(again, "classes_"), "nothing of an earlier fit is left"
    assert not hasattr(again, "predict_proba")


def test_mixed_tasks_of_a_frame_come_back_as_a_frame(rows):
    x = rows.frame.assign(city=rows.frame["city"].eq("A"), b=rows.frame["city"].eq("B")).astype(float)
    estimator = quick(Mixed).fit(x, rows.mixed)
    predicted = estimator.predict(x)
    assert isinstance(predicted, pd.DataFrame)
    assert predicted.columns.tolist() == ["side", "price"]
    assert predicted.index.equals(x.index)
    each = accuracy_score(rows.mixed["side"], predicted["side"]), r2_score(rows.mixed["price"], predicted["price"])
    assert estimator.score(x, rows.mixed) == pytest.approx(np.mean(each))
    assert min(each) > 0.9
    assert estimator.score(x, rows.mixed[["price", "side"]]) == estimator.score(x, rows.mixed), "columns go by name"
    assert estimator.classes_[0].tolist() == ["in", "out"]
    assert estimator.classes_[1] is None
    assert estimator.predict_proba(x)[1] is None
    assert estimator.feature_names_in_.tolist() == ["size", "city", "noise", "b"]
    polars = quick(Mixed).fit(pl.from_pandas(x), pl.from_pandas(rows.mixed)).predict(pl.from_pandas(x))
    assert isinstance(polars, pl.DataFrame)
    assert polars["side"].to_list() == predicted["side"].tolist()
    array = quick(Mixed).fit(x, rows.mixed.to_numpy()).predict(x)
    assert array.dtype == object
    assert array[:, 0].tolist() == predicted["side"].tolist()


@pytest.mark.parametrize(
    ("column", "classified"),
    [
        (["a", "b", "a", "b"], True),
        ([True, False, None, True], True),
        (pd.Categorical(["x", None, "y", "x"]), True),
        ([3, 0, -1, 4], True),
        (pd.array([1, None, 2, 2], "Int64"), True),
        ([0.0, 1.0, np.nan, 1.0], True),
        ([0.0, 2.0, np.nan, 3.0], False),
        ([0.5, 1.0, 2.0, 1.0], False),
        ([-3, 2, 1, 0], False),
        (range(4), True),
    ],
)
def test_what_a_column_is_taken_for(column, classified):
    estimator = quick(Mixed, epochs=1).fit(np.eye(4), pd.DataFrame({"y": column}))
    assert (estimator.model_.kinds == ["classes"]) is classified


def test_more_than_twenty_whole_numbers_are_no_classes():
    x = np.arange(42.0)[:, None]
    assert quick(Mixed, epochs=1).fit(x, np.arange(42) // 2).model_.kinds == ["values"]
    assert len(quick(Mixed, epochs=1).fit(x, np.arange(42) % 20).classes_) == 20


def marked(rows: Rows, how: str) -> object:
    """The classes with some of them missing, in some form."""
    floats = np.where(rows.hidden, np.nan, rows.classes)
    if how == "Int64":
        return pd.DataFrame(floats, columns=["a", "b"]).astype("Int64")
    if how == "polars":
        return pl.DataFrame(floats, ["a", "b"]).fill_nan(None).cast(pl.Int64)
    strings = np.where(rows.hidden, None, np.array(["zero", "one", "two"], object)[rows.classes])
    forms = {
        "NaN": floats,
        "-1": np.where(rows.hidden, -1, rows.classes),
        "masked": np.ma.masked_array(rows.classes, rows.hidden),
        "strings": pd.DataFrame(strings, columns=["a", "b"]),
        "categories": pd.DataFrame(strings, columns=["a", "b"]).astype("category"),
    }
    return forms[how]


@pytest.mark.parametrize("how", ["NaN", "-1", "masked", "Int64", "polars", "strings", "categories"])
def test_missing_labels_in_every_form(rows, how):
    y = marked(rows, how)
    classifier = quick(Classifier).fit(rows.x, y)
    places = {"zero": 0, "one": 1, "two": 2}
    labels = classifier.predict(rows.x).ravel().tolist()
    predicted = np.array([places.get(label, label) for label in labels]).reshape(-1, 2)
    known = ~rows.hidden
    each = [np.mean((predicted == rows.classes)[known[:, j], j]) for j in range(2)]
    assert classifier.score(rows.x, y) == pytest.approx(np.mean(each)), "labels that are missing do not count"
    assert (predicted == rows.classes).mean() > 0.9
    assert cross_val_score(classifier, rows.x, y, cv=KFold(3)).min() > 0.8


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
def test_an_integer_cv_stratifies_by_labels_and_so_wants_to_see_them(rows):
    assert cross_val_score(quick(Classifier), rows.x, marked(rows, "-1"), cv=3).min() > 0.8
    assert cross_val_score(quick(Mixed), rows.x, marked(rows, "NaN"), cv=3).min() > 0.8, "is no classifier"
    for how, error in (("NaN", ValueError), ("Int64", ValueError), ("strings", TypeError)):
        with pytest.raises(error):
            cross_val_score(quick(Classifier), rows.x, marked(rows, how), cv=3)


def test_missing_numbers(rows):
    y = np.where(rows.hidden, np.nan, rows.values)
    assert cross_val_score(quick(Regressor), rows.x, y, cv=3).min() > 0.9
    none = np.full_like(y, np.nan)
    none[:, 0] = rows.values[:, 0]
    regressor = quick(Regressor).fit(rows.x, y)
    only = r2_score(rows.values[:, 0], regressor.predict(rows.x)[:, 0])
    assert regressor.score(rows.x, none) == pytest.approx(only), "a task without a label does not count"


def test_minus_one_beside_one_alone_is_a_class(rows):
    signs = 2 * rows.side - 1
    assert quick(Classifier).fit(rows.x, signs).classes_.tolist() == [-1, 1]
    both = np.column_stack([signs, np.where(rows.hidden[:, 0], -1, rows.level)])
    with pytest.raises(ValueError, match=r"task `task1` can be read in two ways: .* in task `task2` -1 is a missing"):
        quick(Classifier).fit(rows.x, both)
    tasks = [pt.Task("sign", classes=[-1, 1]), pt.Task("level", classes=3)]
    classifier = quick(Classifier, tasks=tasks).fit(rows.x, both)
    assert classifier.classes_[0].tolist() == [-1, 1]
    assert classifier.score(rows.x, both) > 0.9


def test_a_task_of_one_class_is_always_that(rows):
    y = np.column_stack([rows.side, np.full(400, 7)])
    classifier = quick(Classifier).fit(rows.x, y)
    assert (classifier.predict(rows.x)[:, 1] == 7).all()
    assert (classifier.predict_proba(rows.x)[1] == np.ones((400, 1))).all()
    assert classifier.score(rows.x, y) > 0.9


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_pipelines_with_columns_of_categories(rows, kind):
    columns = ColumnTransformer(
        [("city", OneHotEncoder(), ["city"]), ("numbers", StandardScaler(), ["size", "noise"])],
        sparse_threshold=1.0 if kind == "sparse" else 0.0,
    )
    assert sparse.issparse(columns.fit_transform(rows.frame)) is (kind == "sparse")
    pipeline = make_pipeline(columns, quick(Mixed)).fit(rows.frame[:300], rows.mixed[:300])
    assert pipeline.score(rows.frame[300:], rows.mixed[300:]) > 0.9
    found = permutation_importance(pipeline, rows.frame[300:], rows.mixed[300:], n_repeats=2, random_state=0)
    assert found.importances_mean.argmin() == 2
    assert found.importances_mean[:2].min() > 0.1


@pytest.mark.parametrize("more", [{}, {"early_stopping": True}, {"standardize": False}])
def test_sparse_features_train_and_predict(rows, more):
    x = sparse.csr_array(np.where(np.abs(rows.x) > 0.3, rows.x, 0))
    weights = np.ones(400)
    weights[rows.side == 1] = 0
    estimator = quick(Classifier, **more).fit(x, rows.classes)
    assert estimator.score(x, rows.classes) > 0.85
    np.testing.assert_array_equal(estimator.predict(x.tocsc()), estimator.predict(x.toarray()))
    np.testing.assert_array_equal(clone(estimator).fit(x, rows.classes).predict(x), estimator.predict(x))
    weighted = clone(estimator).fit(x, rows.side, sample_weight=weights)
    assert (weighted.predict(x) == 0).all(), "rows of the other class weigh nothing"


def test_rows_in_parts_and_in_any_order_have_the_same_bits(rows):
    regressor = quick(Regressor).fit(rows.x, rows.values)
    whole = regressor.predict(rows.x)
    order = np.random.default_rng(1).permutation(400)
    np.testing.assert_array_equal(regressor.predict(rows.x[order]), whole[order])
    one_by_one = [regressor.predict(rows.x[row : row + 1]) for row in range(20)]
    np.testing.assert_array_equal(np.concatenate(one_by_one), whole[:20])


def test_searches_over_components_and_their_arguments(rows):
    found = GridSearchCV(
        quick(Classifier, optimizer=pt.optim.AdamW()),
        {
            "encoder": [None, pt.encoder.MLP([8])],
            "weighting": ["equal", pt.weighting.CAGrad(c=0.2)],
            "optimizer__lr": [1e-7, 0.01],
        },
        cv=2,
    )
    found.set_params(estimator__lr=None).fit(rows.x, rows.classes)  # which would count more than the optimizer's
    assert found.best_params_["optimizer__lr"] == 0.01
    assert found.best_estimator_.optimizer == pt.optim.AdamW(lr=0.01)
    assert found.score(rows.x, rows.classes) > 0.85
    space = {"hidden_layer_sizes": [(8,), (16, 8)], "sharing": ["hard", "mmoe"]}
    drawn = RandomizedSearchCV(quick(Regressor), space, n_iter=2, cv=2, random_state=0)
    assert drawn.fit(rows.x, rows.values).best_score_ > 0.8


def test_parameters_of_components():
    estimator = Classifier(encoder=pt.encoder.MLP([8], dropout=0.3), sharing="mmoe")
    assert estimator.get_params()["encoder__dropout"] == 0.3
    assert "encoder__dropout" not in estimator.get_params(deep=False)
    encoder = estimator.encoder
    estimator.set_params(encoder__hidden=[4, 4], sharing__experts=3, lr=0.5)
    assert estimator.encoder == pt.encoder.MLP([4, 4], dropout=0.3)
    assert encoder == pt.encoder.MLP([8], dropout=0.3), "made anew"
    assert estimator.sharing == pt.sharing.MMoE(experts=3)
    assert estimator.set_params(sharing="ple", sharing__levels=1).sharing == pt.sharing.PLE(levels=1)
    with pytest.raises(TypeError, match=r"`encoder`: MLP: unknown argument `widths`; .*`hidden`"):
        estimator.set_params(encoder__widths=[4])
    with pytest.raises(ValueError, match="`encoder__hidden` is an argument of a component; `encoder` should be one of"):
        Classifier().set_params(encoder__hidden=[4])
    with pytest.raises(ValueError, match="Invalid parameter 'nonsense'"):
        estimator.set_params(nonsense=1)


def test_a_learning_rate_counts_more_than_the_optimizers_own(rows):
    slow = pt.optim.AdamW(lr=1e-9)
    assert quick(Regressor, optimizer=slow).fit(rows.x, rows.values).history_["lr"][0] > 1e-3
    assert quick(Regressor, optimizer=slow, lr=None).fit(rows.x, rows.values).history_["lr"][0] < 1e-8


@pytest.mark.usefixtures("own_seed")
def test_clones_keep_components_tasks_and_modules(rows):
    module = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.ReLU())
    tasks = [pt.Task("side", classes=2, head=pt.head.Tower(8)), pt.Task("level", classes=3, weight=0.5)]
    original = quick(Classifier, encoder=module, tasks=tasks, regularizers=["l2", pt.regularizer.L1(1e-5)])
    twin = clone(clone(original))
    assert twin.regularizers == original.regularizers
    assert not hasattr(twin, "model_")
    first, second = (each.fit(rows.x, rows.classes) for each in (original, twin))
    np.testing.assert_array_equal(first.predict_proba(rows.x)[1], second.predict_proba(rows.x)[1])
    assert first.model_.tasks[1].weight == 0.5
    assert second.score(rows.x, rows.classes) > 0.8


@pytest.mark.usefixtures("own_seed")
def test_fit_leaves_the_head_of_all_tasks_as_it_was_given(rows):
    head = torch.nn.Linear(8, 1)
    before = {name: x.clone() for name, x in head.state_dict().items()}
    estimator = quick(Regressor, hidden_layer_sizes=(8,), head=head)
    first = estimator.fit(rows.x, rows.values[:, 0]).predict(rows.x)
    assert all(torch.equal(x, before[name]) for name, x in head.state_dict().items())
    np.testing.assert_array_equal(estimator.fit(rows.x, rows.values[:, 0]).predict(rows.x), first)


def test_no_schedule_is_a_constant_one(rows):
    first, second = (quick(Regressor, schedule=schedule).fit(rows.x, rows.values) for schedule in (None, "constant"))
    np.testing.assert_array_equal(first.predict(rows.x), second.predict(rows.x))
    np.testing.assert_array_equal(clone(first).fit(rows.x, rows.values).predict(rows.x), first.predict(rows.x))


@pytest.mark.usefixtures("own_seed")
@pytest.mark.parametrize("said", [False, True])
def test_fit_leaves_modules_and_weightings_as_they_were_given(rows, said):
    class Counting:
        def __init__(self):
            self.calls = 0

        def weigh(self, losses):
            self.calls += 1
            return [1.0 + 1.0 / self.calls] * len(losses)

    module = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU())
    head, weighting = torch.nn.Linear(8, 2), Counting()
    encoder, own = (pt.encoder.Torch(module), pt.head.Torch(head)) if said else (module, head)
    tasks = [pt.Task("side", classes=2, head=own), pt.Task("level", classes=3)]
    before = {**module.state_dict(prefix="e."), **head.state_dict(prefix="h.")}
    before = {name: x.clone() for name, x in before.items()}
    estimator = quick(Classifier, encoder=encoder, tasks=tasks, weighting=weighting)
    first = estimator.fit(rows.x, rows.classes).predict_proba(rows.x)
    after = {**module.state_dict(prefix="e."), **head.state_dict(prefix="h.")}
    assert all(torch.equal(before[name], x) for name, x in after.items())
    assert weighting.calls == 0
    second = estimator.fit(rows.x, rows.classes).predict_proba(rows.x)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_large_labels_stay_apart_beside_missing_ones(rows, library):
    labels = [None if k < 9 else 2**60 + int(side) for k, side in enumerate(rows.side)]
    y = pd.Series(labels, dtype="Int64") if library == "pandas" else pl.Series(labels)
    estimator = quick(Classifier).fit(rows.x, y)
    assert estimator.classes_.tolist() == [2**60, 2**60 + 1]
    assert estimator.score(rows.x, y) > 0.8


def test_pickles_and_joblib(rows, tmp_path):
    estimator = quick(Mixed).fit(rows.x, rows.mixed)
    joblib.dump(estimator, tmp_path / "estimator")
    for twin in (pickle.loads(pickle.dumps(estimator)), joblib.load(tmp_path / "estimator")):
        pd.testing.assert_frame_equal(twin.predict(rows.x), estimator.predict(rows.x))
        assert twin.history_["loss"] == estimator.history_["loss"]
    assert type(estimator).__module__ == "polytask.sklearn"


def test_predictions_of_folds_come_together(rows):
    each = cross_val_predict(quick(Classifier), rows.x, rows.classes, cv=3, method="predict_proba")
    assert [p.shape for p in each] == [(400, 2), (400, 3)]
    assert (each[1].argmax(axis=1) == rows.level).mean() > 0.85


def test_tasks_of_the_callers_own(rows):
    tasks = [
        pt.Task("price", loss="gaussian_nll", scale="standardize"),
        pt.Task("side", classes=["out", "in"]),
    ]
    estimator = quick(Mixed, tasks=tasks).fit(rows.x, rows.mixed.assign(more=1))
    assert estimator.predict(rows.x).columns.tolist() == ["price", "side"]
    assert estimator.classes_[1].tolist() == ["out", "in"]
    assert r2_score(rows.mixed["price"], estimator.predict(rows.x)["price"]) > 0.5
    binary = quick(Classifier, tasks=[pt.Task("side", loss="binary_cross_entropy")]).fit(rows.x, rows.side)
    assert binary.predict_proba(rows.x).shape == (400, 2)
    assert binary.classes_.tolist() == [0, 1]
    assert binary.score(rows.x, rows.side) > 0.9


def test_early_stopping_keeps_the_best_epoch(rows):
    stopped = quick(Classifier, epochs=200, early_stopping=True, n_iter_no_change=3, schedule="constant")
    stopped.fit(rows.x, rows.classes)
    losses = stopped.history_["validation/loss"]
    assert stopped.n_iter_ == len(losses) < 200
    assert int(np.argmin(losses)) == len(losses) - 4


def test_rows_are_held_out_by_the_shares_of_classes(rows):
    rare = (np.arange(100) % 10 == 0).astype(int)
    tasks = [pt.Task("rare", classes=2, metrics=["auroc"])]
    for seed in range(4):
        stopped = quick(Classifier, epochs=1, early_stopping=True, tasks=tasks, random_state=seed)
        known = stopped.fit(rows.x[:100], rare).history_["validation/rare/auroc"]
        assert not np.isnan(known).any(), "one of ten rows is of the rare class"


def test_a_warm_start_goes_on(rows):
    once = quick(Classifier, epochs=2, warm_start=True).fit(rows.x, rows.classes)
    before, center = once.score(rows.x, rows.classes), once.center_
    again = once.fit(rows.x[:200] + 1, rows.classes[:200])
    np.testing.assert_array_equal(again.center_, center)
    for _ in range(5):
        again.fit(rows.x, rows.classes)
    assert again.score(rows.x, rows.classes) > before
    with pytest.raises(ValueError, match=r"task `task1` should be one of the classes `0`, `1`; got [67] at row 0"):
        again.fit(rows.x, rows.classes + 5)


def test_features_are_standardised_and_the_model_sees_them_so(rows):
    shifted = 1e3 * rows.x + 1e5
    regressor = quick(Regressor).fit(shifted, rows.values)
    assert regressor.score(shifted, rows.values) > 0.9
    seen = (shifted - regressor.center_) / regressor.scale_
    np.testing.assert_allclose(regressor.model_.predict(seen)["task2"], regressor.predict(shifted)[:, 1], rtol=1e-3)
    plain = quick(Regressor, standardize=False).fit(rows.x, rows.values)
    assert plain.center_ is plain.scale_ is None


def test_the_same_random_state_gives_the_same_bits(rows):
    def fitted(seed: object) -> np.ndarray:
        return quick(Regressor, random_state=seed).fit(rows.x, rows.values).predict(rows.x)

    np.testing.assert_array_equal(fitted(3), fitted(3))
    np.testing.assert_array_equal(fitted(np.random.RandomState(3)), fitted(3))
    assert (fitted(3) != fitted(4)).any()
