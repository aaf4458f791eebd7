"""Metrics against scikit-learn and by hand: on labelled rows only, NaN where undefined."""

import numpy as np
import polytask as pt
import pytest
import torch
import torchmetrics
from conftest import make_model, make_tasks
from polytask.metrics import DEFAULTS, LABELS, VALUES, read
from sklearn import metrics as sk


def score(name, kind, predicted, known):
    return read([name], "t")[0].score(kind, np.asarray(predicted), np.asarray(known))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


BINARY = {
    "accuracy": lambda y, p: sk.accuracy_score(y, p > 0.5),
    "auroc": sk.roc_auc_score,
    "average_precision": sk.average_precision_score,
    "f1": lambda y, p: sk.f1_score(y, p > 0.5),
    "precision": lambda y, p: sk.precision_score(y, p > 0.5),
    "recall": lambda y, p: sk.recall_score(y, p > 0.5),
}
MULTICLASS = {
    "accuracy": lambda y, p: sk.accuracy_score(y, p.argmax(1)),
    "auroc": lambda y, p: sk.roc_auc_score(y, p, multi_class="ovr"),
    "average_precision": lambda y, p: sk.average_precision_score(np.eye(4)[y], p),
    "f1": lambda y, p: sk.f1_score(y, p.argmax(1), average="macro"),
    "precision": lambda y, p: sk.precision_score(y, p.argmax(1), average="macro"),
    "recall": lambda y, p: sk.recall_score(y, p.argmax(1), average="macro"),
}
NUMBERS = {
    "mae": sk.mean_absolute_error,
    "mse": sk.mean_squared_error,
    "rmse": sk.root_mean_squared_error,
    "r2": sk.r2_score,
    "explained_variance": sk.explained_variance_score,
    "pearson": lambda y, p: np.corrcoef(y, p)[0, 1],
    "spearman": lambda y, p: np.corrcoef(y.argsort().argsort(), p.argsort().argsort())[0, 1],
}


def test_every_metric_is_tested():
    assert set(BINARY) == set(MULTICLASS) == set(LABELS)
    assert set(NUMBERS) == set(VALUES)


@pytest.mark.parametrize("name", LABELS)
def test_binary_labels_and_two_classes(name, rng):
    p = rng.random((200, 1)).astype(np.float32)
    y = (rng.random(200) < 0.3 + 0.4 * p[:, 0]).astype(float)
    want = pytest.approx(BINARY[name](y[:150], p[:150, 0].astype(float)), abs=1e-6)
    y[150:] = np.nan
    assert score(name, "binary", p, y[:, None]) == want
    classes = np.nan_to_num(y, nan=-1).astype(int)
    assert score(name, "classes", np.hstack([1 - p, p]), classes) == want


@pytest.mark.parametrize("name", LABELS)
def test_several_classes(name, rng):
    p = rng.dirichlet(np.ones(4), 300).astype(np.float32)
    y = np.array([rng.choice(4, p=row / row.sum()) for row in p.astype(float)])
    want = MULTICLASS[name](y[:200], (p[:200].astype(float)) / p[:200].sum(1, keepdims=True, dtype=float))
    y[200:] = -1
    assert score(name, "classes", p, y) == pytest.approx(want, abs=1e-5)


@pytest.mark.parametrize("name", VALUES)
def test_numbers_far_from_zero_keep_their_digits(name, rng):
    y = 1e4 + rng.normal(size=200)
    p = (y + 0.5 * rng.normal(size=200)).astype(np.float32)
    assert score(name, "values", p[:, None], y[:, None]) == pytest.approx(NUMBERS[name](y, p.astype(float)), rel=1e-4)


def test_several_labels_are_averaged_over_those_that_are_defined(rng):
    p, y = rng.random((50, 3)), (rng.random((50, 3)) < 0.5).astype(float)
    y[:, 1] = 1
    y[::4, 0] = np.nan
    seen = ~np.isnan(y[:, 0])
    want = (sk.roc_auc_score(y[seen, 0], p[seen, 0]) + sk.roc_auc_score(y[:, 2], p[:, 2])) / 2
    assert score("auroc", "binary", p, y) == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "kind", "predicted", "known"),
    [
        *[(name, "binary", [[0.4], [0.6]], [[np.nan], [np.nan]]) for name in LABELS],
        *[(name, "classes", [[0.4, 0.6]], [-1]) for name in LABELS],
        *[(name, "values", [[1.0], [2.0]], [[np.nan], [np.nan]]) for name in VALUES],
        ("auroc", "binary", [[0.4], [0.6]], [[1.0], [1.0]]),
        ("auroc", "classes", [[0.4, 0.6], [0.5, 0.5]], [0, 0]),
        ("average_precision", "binary", [[0.4], [0.6]], [[0.0], [0.0]]),
        ("recall", "binary", [[0.4], [0.6]], [[0.0], [0.0]]),
        ("precision", "binary", [[0.4], [0.4]], [[1.0], [0.0]]),
        ("f1", "binary", [[0.4], [0.4]], [[0.0], [0.0]]),
        ("r2", "values", [[1.0], [2.0]], [[3.0], [3.0]]),
        ("r2", "values", [[1.0]], [[3.0]]),
        ("pearson", "values", [[1.0], [1.0]], [[3.0], [4.0]]),
        ("spearman", "values", [[1.0], [2.0]], [[3.0], [3.0]]),
    ],
)
def test_nan_where_undefined(name, kind, predicted, known):
    assert np.isnan(score(name, kind, predicted, known))


def test_defaults_by_the_kind_of_labels():
    tasks = [
        *make_tasks()[1:],
        pt.Task("kind", classes=3),
        pt.Task("clicked", loss="focal"),
        pt.Task("n", loss="poisson"),
    ]
    model = pt.MultiTaskModel(8, tasks=tasks)
    assert [[metric.name for metric in metrics] for metrics in model.metrics] == [
        ["mae", "r2"], ["auroc"], ["accuracy"], ["auroc"], ["mae", "r2"]]  # fmt: skip
    assert set(DEFAULTS) == {"classes", "binary", "values"}


def test_ones_own_metrics_see_labelled_rows_as_tensors(data):
    seen = {}

    def spread(predictions, targets):
        seen["shapes"] = predictions.shape, targets.shape, targets.dtype
        return predictions.std()

    spread.higher_is_better = True
    torchmetric = torchmetrics.classification.MulticlassAccuracy(num_classes=2, average="micro")
    task = pt.Task("income", classes=2, metrics=[spread, torchmetric, "accuracy"])
    model = pt.MultiTaskModel(8, tasks=[task])
    income = np.where(np.arange(160) < 100, data.income, -1)
    trainer = pt.Trainer(model)
    for _ in range(2):
        result = trainer.evaluate((data.x, income))["income"]
    assert seen["shapes"] == ((100, 2), (100,), torch.int64)
    assert result["MulticlassAccuracy"] == pytest.approx(result["accuracy"])
    assert result["spread"] > 0
    assert [metric.higher_is_better for metric in task.metrics] == [True, True, True]


def test_a_metric_that_gives_no_number_is_said(data):
    model = pt.MultiTaskModel(8, tasks=[pt.Task("age", metrics=[lambda p, y: p])])
    with pytest.raises(ValueError, match="metric `<lambda>` should give one number; got tensor"):
        pt.Trainer(model).evaluate((data.x, data.age))


@pytest.mark.parametrize(
    ("metrics", "error", "message"),
    [
        (["acuracy"], ValueError, "unknown metric 'acuracy'; did you mean `accuracy`. there are `accuracy`"),
        (["mae"], ValueError, "metric `mae` does not suit its labels; there are `accuracy`"),
        (["auroc", "auroc"], ValueError, "should have names that differ"),
        ([3], TypeError, "a metric should be a name or a callable; got 3"),
        (3, TypeError, "should be a list of names or callables; got 3"),
    ],
)
def test_wrong_metrics(metrics, error, message):
    with pytest.raises(error, match=message):
        pt.MultiTaskModel(8, tasks=[pt.Task("kind", classes=3, metrics=metrics)])


@pytest.mark.parametrize("form", ["rows", "loader"])
def test_rows_of_weight_0_count_in_no_metric(data, form):
    rng = np.random.default_rng(0)
    there = rng.random(160) < 0.5
    y = {"label": (data.x[:, 0] > 0).astype(int), "kind": rng.integers(0, 3, 160), "number": data.x[:, 1],
         "several": np.where(rng.random((160, 2)) < 0.2, np.nan, data.x[:, 2:4])}  # fmt: skip
    tasks = [
        pt.Task("label", loss="binary_cross_entropy", metrics=["auroc", "accuracy"]),
        pt.Task("kind", classes=3, metrics=["accuracy", "auroc"]),
        pt.Task("number", metrics=["mse", "r2", "spearman"]),
        pt.Task("several", outputs=2, metrics=["mae"]),
    ]
    filled = {name: np.where(there.reshape(-1, *[1] * (a.ndim - 1)), a, 0) for name, a in y.items()}
    missing = {name: a.astype(float) for name, a in y.items()}
    for array in missing.values():
        array[~there] = np.nan
    weights = there.astype(float)

    def made():
        return pt.Trainer(pt.MultiTaskModel(8, tasks=tasks, seed=1), "sgd", lr=0.1)

    def given(targets, *more):
        if form == "rows":
            return (data.x, targets, *more)
        parts = [slice(i, i + 50) for i in range(0, 160, 50)]
        return [(data.x[s], {k: v[s] for k, v in targets.items()}, *(m[s] for m in more)) for s in parts]

    one, other = made(), made()
    how = {"epochs": 2, "batch_size": 50, "shuffle": False, "progress": False}
    with_weights = one.fit(given(filled, weights), validation=given(filled, weights), **how)
    without = other.fit(given(missing), validation=given(missing), **how)
    for name in without.columns:
        if name != "seconds":
            assert with_weights[name] == pytest.approx(without[name], rel=1e-6, nan_ok=True), name


def test_results_are_a_mapping_and_a_table(data, model):
    results = pt.Trainer(model).evaluate(data.whole)
    assert list(results) == ["income", "age", "topics"]
    assert len(results) == 3
    assert list(results["age"]) == ["loss", "mae", "r2"]
    assert results.loss == pytest.approx(
        results["income"]["loss"] + 0.5 * results["age"]["loss"] + results["topics"]["loss"]
    )
    lines = repr(results).splitlines()
    assert lines[0].split() == ["task", "loss", "auroc", "accuracy", "mae", "r2"]
    assert len(lines) == 4
    assert "<td>income</td>" in results._repr_html_()
    mse = ((model.predict(data.x)["age"] - data.age) ** 2).mean()
    assert results["age"]["loss"] == pytest.approx(mse, rel=1e-5)


def test_an_evaluation_weighs_batches_by_their_labels_and_rows_as_told(data):
    """Unequal batches, a task without labels in one of them, and row weights: as all rows at once."""
    trainer = pt.Trainer(make_model())
    targets = {**data.targets, "income": np.where(np.arange(len(data.x)) < 30, np.nan, data.income)}
    whole = trainer.evaluate((data.x, targets))
    parts = [slice(0, 30), slice(30, 37), slice(37, None)]
    batches = [(data.x[part], {name: y[part] for name, y in targets.items()}) for part in parts]
    weights = np.linspace(0, 3, len(data.x)) ** 2
    weighted = trainer.evaluate((data.x, targets), weights=weights)
    assert trainer.evaluate((data.x, targets, weights)).loss == weighted.loss
    weighed = [(*batch, weights[part]) for batch, part in zip(batches, parts, strict=True)]
    for got, want in [(trainer.evaluate(batches), whole), (trainer.evaluate(weighed), weighted)]:
        assert got.loss == pytest.approx(want.loss, rel=1e-6)
        for task in want:
            assert dict(got[task]) == pytest.approx(dict(want[task]), rel=1e-6)
    errors = (trainer.model.predict(data.x)["age"] - data.age) ** 2
    assert whole["age"]["loss"] == pytest.approx(errors.mean(), rel=1e-5)
    assert weighted["age"]["loss"] == pytest.approx((weights * errors).sum() / weights.sum(), rel=1e-5)
    assert weighted["age"]["loss"] != pytest.approx(whole["age"]["loss"], rel=1e-3)
