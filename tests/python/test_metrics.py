"""Metrics against scikit-learn and by hand: on labelled rows only, NaN where undefined."""

import subprocess
import sys

import numpy as np
import polytask as pt
import pytest
import torch
import torchmetrics
from conftest import make_model, make_tasks
from polytask.metrics import COUNTED, CURVES, DECISIONS, DEFAULTS, LABELS, VALUES, Sums, read
from polytask.model.scoring import Scores
from sklearn import metrics as sk
from torchmetrics.functional import classification as functional


def score(name, kind, predicted, known):
    return read([name], "t")[0].score(kind, np.asarray(predicted), np.asarray(known))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


BINARY = {
    "accuracy": lambda y, p: sk.accuracy_score(y, p > 0.5),
    "auroc": sk.roc_auc_score,
    "average_precision": sk.average_precision_score,
    "balanced_accuracy": lambda y, p: sk.balanced_accuracy_score(y, p > 0.5),
    "f1": lambda y, p: sk.f1_score(y, p > 0.5),
    "log_loss": sk.log_loss,
    "ordinal_mae": lambda y, p: sk.mean_absolute_error(y, p > 0.5),
    "precision": lambda y, p: sk.precision_score(y, p > 0.5),
    "quadratic_kappa": lambda y, p: sk.cohen_kappa_score(y, p > 0.5),
    "recall": lambda y, p: sk.recall_score(y, p > 0.5),
}
MULTICLASS = {
    "accuracy": lambda y, p: sk.accuracy_score(y, p.argmax(1)),
    "auroc": lambda y, p: sk.roc_auc_score(y, p, multi_class="ovr"),
    "average_precision": lambda y, p: sk.average_precision_score(np.eye(4)[y], p),
    "balanced_accuracy": lambda y, p: sk.balanced_accuracy_score(y, p.argmax(1)),
    "f1": lambda y, p: sk.f1_score(y, p.argmax(1), average="macro"),
    "log_loss": sk.log_loss,
    "ordinal_mae": lambda y, p: sk.mean_absolute_error(y, p.argmax(1)),
    "precision": lambda y, p: sk.precision_score(y, p.argmax(1), average="macro"),
    "quadratic_kappa": lambda y, p: sk.cohen_kappa_score(y, p.argmax(1), weights="quadratic"),
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


@pytest.mark.parametrize("kind", ["classes", "binary"])
def test_classes_that_do_not_occur_and_probabilities_of_nothing(kind):
    """As scikit-learn: balanced accuracy is of the classes that occur, and no probability counts as 0."""
    p = np.float32([[1, 0, 0], [0, 1, 0], [1, 0, 0]]) if kind == "classes" else np.float32([[0], [1], [0]])
    y = np.array([0, 1, 1])
    known = y if kind == "classes" else y[:, None].astype(float)
    assert score("balanced_accuracy", kind, p, known) == sk.balanced_accuracy_score(y, [0, 1, 0]) == 0.75
    want = sk.log_loss(y, p if kind == "classes" else p[:, 0], labels=range(3) if kind == "classes" else None)
    assert score("log_loss", kind, p, known) == pytest.approx(want, rel=1e-6)
    assert score("balanced_accuracy", kind, p[1:], known[1:]) == 0.5


def test_metrics_that_add_up_over_batches_and_say_which_way_is_better(data):
    tasks = [pt.Task("kind", classes=3, metrics=["balanced_accuracy", "log_loss"])]
    trainer = pt.Trainer(pt.MultiTaskModel(8, tasks=tasks), callbacks=[pt.EarlyStopping("kind/log_loss", patience=1)])
    kind = np.digitize(data.x[:, 0], [-0.5, 0.5])
    parts = [(data.x[i : i + 50], kind[i : i + 50]) for i in range(0, 160, 50)]
    trainer.fit(parts, validation=(data.x, kind), epochs=3, progress=False)
    p = trainer.model.predict(data.x)["kind"]
    for given in ((data.x, kind), parts):
        found = trainer.evaluate(given)["kind"]
        assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(kind, p.argmax(1)))
        assert found["log_loss"] == pytest.approx(sk.log_loss(kind, p), rel=1e-6)
        assert found["log_loss"] == pytest.approx(found["loss"], rel=1e-5)
    assert [metric.higher_is_better for metric in tasks[0].metrics] == [True, False]


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
        ("quadratic_kappa", "classes", [[0.4, 0.6, 0.0], [0.1, 0.7, 0.2]], [1, 1]),
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


def test_ones_own_metrics_see_the_memory_of_predictions_and_the_units_of_targets(data):
    seen = {}

    def looks(name):
        def look(predictions, targets):
            seen.setdefault(name, []).append((predictions, targets))
            return 0.0

        return {name: look}

    tasks = [
        pt.Task("income", classes=2, metrics=[looks("one"), looks("other")]),
        pt.Task("age", scale="standardize", metrics=[looks("years")]),
        pt.Task("topics", loss="binary_cross_entropy", outputs=3, metrics=[looks("topic")]),
    ]
    trainer = pt.Trainer(pt.MultiTaskModel(8, tasks=tasks))
    years = 40 + 10 * data.age
    trainer.fit((data.x, data.income, years, data.topics), epochs=1, progress=False, train_metrics=False)
    trainer.evaluate((data.x, data.income, years, data.topics))
    predicted = trainer.model.predict(data.x)
    ((one, _),), ((other, _),) = seen["one"], seen["other"]
    assert one.data_ptr() == other.data_ptr()
    np.testing.assert_array_equal(one.numpy(), predicted["income"])
    ((p, y),) = seen["years"]
    assert p.dtype == y.dtype == torch.float64
    np.testing.assert_allclose(p.numpy(), predicted["age"], rtol=1e-6)
    np.testing.assert_allclose(y.numpy(), years, rtol=1e-6)
    # Column by column, with the labels of each.
    assert len(seen["topic"]) == 3
    for (p, y), want, labels in zip(seen["topic"], predicted["topics"].T, data.topics.T, strict=True):
        np.testing.assert_allclose(p.numpy(), want, rtol=1e-6)
        np.testing.assert_array_equal(y.numpy(), labels)


def test_a_metric_that_gives_no_number_is_said(data):
    model = pt.MultiTaskModel(8, tasks=[pt.Task("age", metrics=[lambda p, y: p])])
    with pytest.raises(ValueError, match="metric `<lambda>` should give one number; got tensor"):
        pt.Trainer(model).evaluate((data.x, data.age))


@pytest.mark.parametrize(
    ("metrics", "error", "message"),
    [
        (["acuracy"], ValueError, "unknown metric 'acuracy'; did you mean `accuracy`. there are `accuracy`"),
        (["roc_auc"], ValueError, "unknown metric 'roc_auc'; here it is called `auroc`; there are `accuracy`"),
        (["neg_log_loss"], ValueError, "unknown metric 'neg_log_loss'; here it is called `log_loss`; there are"),
        (["balanced_accuracy_score"], ValueError, "here it is called `balanced_accuracy`"),
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


#: torchmetrics on tensors of labelled rows of one column, in double precision.
ORACLE = {
    "accuracy": lambda p, y: functional.binary_accuracy(p, y),
    "auroc": lambda p, y: functional.binary_auroc(p, y) if 0 < y.sum() < len(y) else NAN,
    "average_precision": lambda p, y: functional.binary_average_precision(p, y) if y.any() else NAN,
    "mae": torchmetrics.functional.mean_absolute_error,
    "mse": torchmetrics.functional.mean_squared_error,
    "rmse": lambda p, y: torchmetrics.functional.mean_squared_error(p, y, squared=False),
    "r2": lambda p, y: torchmetrics.functional.r2_score(p, y) if len(y.unique()) > 1 else NAN,
}
NAN = torch.tensor(float("nan"))


def oracle(name, kind, predicted, known):
    """A metric of what `predict` gives, `[rows, width]`, by torchmetrics alone; the mean over columns where defined."""
    p, y = torch.as_tensor(predicted).double(), torch.as_tensor(known)
    if kind == "classes":
        p, y = p[y >= 0], y[y >= 0].long()
        if name == "accuracy":
            return float(functional.multiclass_accuracy(p, y, num_classes=p.shape[1], average="micro"))
        each = [(p[:, k], (y == k).long()) for k in ([1] if p.shape[1] == 2 else range(p.shape[1]))]
    else:
        each = [(p[~y[:, k].isnan(), k], y[~y[:, k].isnan(), k].double()) for k in range(p.shape[1])]
        each = [(p, (y >= 0.5).long()) for p, y in each] if kind == "binary" else each
    values = torch.stack([ORACLE[name](p, y) if len(y) else NAN for p, y in each])
    return float(values.nanmean())


COUNTED_TASKS = {
    "kind": {"classes": 4, "metrics": list(COUNTED["classes"])},
    "two": {"classes": 2, "metrics": list(COUNTED["classes"])},
    "degree": {"classes": 4, "loss": "ordinal", "metrics": list(COUNTED["classes"])},
    "degrees_of_two": {"classes": 2, "loss": "ordinal", "metrics": list(COUNTED["classes"])},
    "label": {"loss": "binary_cross_entropy", "metrics": list(COUNTED["binary"])},
    "labels": {"loss": "focal", "outputs": 3, "metrics": list(COUNTED["binary"])},
    "number": {"metrics": list(COUNTED["values"])},
    "numbers": {"loss": "huber", "outputs": 2, "metrics": list(COUNTED["values"])},
    "mean": {"loss": "gaussian_nll", "outputs": 2, "metrics": list(COUNTED["values"])},
    "median": {"loss": pt.loss.Quantile([0.1, 0.5, 0.9]), "metrics": list(COUNTED["values"])},
    "count": {"loss": "poisson", "metrics": list(COUNTED["values"])},
    "scaled": {"scale": "standardize", "outputs": 2, "metrics": list(COUNTED["values"])},
    "logarithm": {"scale": "log1p", "loss": "huber", "metrics": list(COUNTED["values"])},
    "spread": {"scale": "robust", "loss": "gaussian_nll", "metrics": list(COUNTED["values"])},
}


def counted_data(x, rng):
    rows = len(x)
    y = {
        "kind": np.where(rng.random(rows) < 0.2, -1, rng.integers(0, 4, rows)),
        "two": (x[:, 0] + rng.normal(size=rows) > 0).astype(int),
        "degree": np.where(rng.random(rows) < 0.2, -1, np.digitize(x[:, 0], [-1, 0, 1])),
        "degrees_of_two": (x[:, 2] + rng.normal(size=rows) > 0).astype(int),
        "label": np.where(rng.random(rows) < 0.2, -1, x[:, 1] > 0.5),
        "labels": np.where(rng.random((rows, 3)) < 0.3, np.nan, rng.random((rows, 3)) < 0.3),
        "number": np.float32(1e4) + rng.normal(size=rows).astype(np.float32),
        "numbers": np.where(rng.random((rows, 2)) < 0.3, np.nan, x[:, :2]),
        "mean": np.where(rng.random((rows, 2)) < 0.3, np.nan, x[:, :2]),
        "median": np.where(rng.random(rows) < 0.3, np.nan, x[:, 3]),
        "count": rng.integers(0, 5, rows).astype(float),
    }
    y["scaled"] = np.where(rng.random((rows, 2)) < 0.3, np.nan, [0.01, 1e4] * (3 + x[:, :2])).astype(np.float32)
    y["logarithm"] = np.exp(3 * x[:, 4]).astype(np.float32)
    y["spread"] = (10 * x[:, 5]).astype(np.float32)
    # A class that is never there, and a label that is never 1.
    y["kind"][y["kind"] == 2] = 3
    y["labels"][:, 2] = np.where(np.isnan(y["labels"][:, 2]), np.nan, 0)
    return y


@pytest.mark.parametrize("batch_size", [7, 64, 160])
def test_what_the_core_counts_is_what_torchmetrics_says(data, rng, batch_size):
    tasks = [pt.Task(name, **how) for name, how in COUNTED_TASKS.items()]
    model = pt.MultiTaskModel(8, tasks=tasks, seed=1)
    # Features of few values give the same score to many rows.
    x = np.round(data.x)
    y = counted_data(data.x, rng)
    weights = {name: (rng.random(160) < 0.9) * rng.random(160) for name in y}
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit((x, y), epochs=1, progress=False)
    results = trainer.evaluate((x, y), weights=weights, batch_size=batch_size)
    assert not Scores(model).keeps
    predicted = model.predict(x)
    for task, kind in zip(model.tasks, model.kinds, strict=True):
        points = predicted[task.name]
        if task.name == "mean":
            points = points[:, :, 0]
        elif task.name in ("median", "spread"):
            points = points[:, {"median": 1, "spread": 0}[task.name]]
        known = y[task.name].astype(np.float64 if kind != "classes" else np.int64)
        known[weights[task.name] == 0] = -1 if kind == "classes" else np.nan
        if kind == "binary":
            known[known == -1] = np.nan
        if kind != "classes":
            points, known = points.reshape(160, -1), known.reshape(160, -1)
        for metric in model.metrics[model.tasks.index(task)]:
            want = oracle(metric.name, kind, points, known)
            found = results[task.name][metric.name]
            assert found == pytest.approx(want, rel=1e-6, nan_ok=True), (task, metric)
            # The same on predictions that are at hand.
            assert metric.score(kind, points, known) == pytest.approx(want, rel=1e-6), (task, metric)
            assert np.isfinite(found)


def test_what_the_core_counts_is_what_torchmetrics_says_of_ties_and_absent_sides(rng):
    for rows in (1, 2, 7, 300):
        p = rng.integers(0, 4, (rows, 3)) / 4
        for known in (np.zeros((rows, 3)), np.ones((rows, 3)), rng.integers(0, 2, (rows, 3)).astype(float)):
            known[rng.random((rows, 3)) < 0.3] = np.nan
            for name in COUNTED["binary"]:
                want = oracle(name, "binary", p, known)
                assert score(name, "binary", p, known) == pytest.approx(want, abs=1e-6, nan_ok=True), (name, known)
        classes = rng.integers(-1, 3, rows)
        p /= p.sum(1, keepdims=True).clip(0.1)
        for name in COUNTED["classes"] if (classes >= 0).any() else ():
            want = oracle(name, "classes", p, classes)
            assert score(name, "classes", p, classes) == pytest.approx(want, abs=1e-6, nan_ok=True), name


def test_r2_of_targets_far_from_zero(data):
    x, noise = data.x[:, :2], np.random.default_rng(1).normal(size=160)
    y = (2.0**23 + np.round(20 * (x[:, 0] + 0.1 * noise))).astype(np.float32)
    model = pt.MultiTaskModel(2, tasks=[pt.Task("y", metrics=["r2"])], encoder=pt.encoder.MLP([]))
    state = {name: np.zeros_like(array) for name, array in model.state_dict().items()}
    state["heads.y.weight"][0, 0], state["heads.y.bias"][0] = 20, 2.0**23
    model.load_state_dict(state)
    result = pt.Trainer(model).evaluate((x, y), batch_size=16)["y"]["r2"]
    assert result == pytest.approx(sk.r2_score(y, model.predict(x)["y"].astype(float)), abs=1e-9)
    assert 0.9 < result < 1


def test_metrics_of_training_are_counted_step_by_step(data, rng):
    def row(shuffle, accumulate, form):
        tasks = [pt.Task(name, **how) for name, how in COUNTED_TASKS.items()]
        model = pt.MultiTaskModel(8, tasks=tasks, seed=1)
        trainer = pt.Trainer(model, "sgd", lr=1e-12, accumulate=accumulate)
        given = (data.x, y) if form == "rows" else parts
        how = {"epochs": 2, "batch_size": 25, "shuffle": shuffle, "progress": False}
        history = trainer.fit(given, **how)
        last = {name: value for name, value in history[-1].items() if name.count("/") == 1 and "loss" not in name}
        # Nothing was learned but the scales, so these are the metrics of the model as it is.
        return last, trainer.evaluate((data.x, y))

    y = counted_data(data.x, rng)
    parts = [(data.x[i : i + 25], {k: v[i : i + 25] for k, v in y.items()}) for i in range(0, 160, 25)]
    for shuffle, accumulate, form in [(False, 1, "rows"), (True, 3, "rows"), (False, 3, "loader")]:
        found, results = row(shuffle, accumulate, form)
        assert set(found) == {f"{name}/{metric}" for name, how in COUNTED_TASKS.items() for metric in how["metrics"]}
        for name, value in found.items():
            task, metric = name.split("/")
            assert value == pytest.approx(results[task][metric], rel=1e-5), name


@pytest.mark.parametrize("name", [*DECISIONS, *CURVES])
@pytest.mark.parametrize("kind", ["binary", "two", "classes", "values"])
def test_metrics_of_parts_are_those_of_the_whole(name, kind, rng):
    if (name in CURVES) != (kind == "values"):
        return
    metric = read([name], "t")[0]
    width = {"two": 2, "classes": 4}.get(kind, 3)
    p = rng.dirichlet(np.ones(width), 90) if kind != "binary" else rng.random((90, 3))
    known = rng.integers(-1, width, 90) if kind in ("two", "classes") else (rng.random((90, 3)) < p).astype(float)
    if kind in ("binary", "values"):
        known[:, 0] += 100 * (kind == "values")
        known[rng.random((90, 3)) < 0.3] = np.nan
        known[:30, 1] = np.nan
    kind = "classes" if kind == "two" else kind
    sums = Sums(metric, kind, width)
    for part in (slice(0, 1), slice(1, 31), slice(31, 90)):
        sums.add(p[part], known[part])
    assert sums.value() == pytest.approx(metric.score(kind, p, known), abs=1e-6)
    assert 0 < abs(sums.value()) < 1


@pytest.mark.parametrize("form", ["rows", "loader"])
def test_objects_of_torchmetrics_are_given_parts_and_callables_all_rows(form, rng):
    seen = []

    class Confusion(torchmetrics.Metric):
        def __init__(self):
            super().__init__()
            self.add_state("right", torch.tensor(0), dist_reduce_fx="sum")

        def update(self, p, y):
            seen.append(len(y))
            self.right += (p.argmax(1) == y).sum()

        def compute(self):
            return self.right

    def whole(p, y):
        assert p.shape == (8000, 3)
        return (p.argmax(1) == y).sum()

    x, y = rng.normal(size=(10_000, 4)).astype("f4"), rng.integers(0, 3, 10_000)
    y[::5] = -1
    own = Confusion()
    tasks = [
        pt.Task("a", classes=3, metrics=["accuracy", own, "f1"]),
        pt.Task("b", classes=3, metrics=["accuracy", whole]),
    ]
    trainer = pt.Trainer(pt.MultiTaskModel(4, tasks=tasks), "sgd", lr=1e-12)
    data = (
        (x, (y, y)) if form == "rows" else [(x[i : i + 1000], (y[i : i + 1000],) * 2) for i in range(0, 10_000, 1000)]
    )
    row = trainer.fit(data, epochs=1, batch_size=1000, progress=False)[-1]
    parts = [4096 - 820, 4096 - 819, 8000 - 8192 + 1639] if form == "rows" else [4000, 4000]
    assert seen == parts
    seen.clear()
    result = trainer.evaluate(data, batch_size=1000)
    assert seen == [4000, 4000]
    for found in (result, {"a": {n[2:]: v for n, v in row.items() if n[:2] == "a/"},
                           "b": {n[2:]: v for n, v in row.items() if n[:2] == "b/"}}):  # fmt: skip
        assert found["a"]["Confusion"] == pytest.approx(8000 * found["a"]["accuracy"])
        assert found["b"]["whole"] == pytest.approx(8000 * found["b"]["accuracy"])
    assert int(own.right) == 0


MANY_CLASSES = """
import resource, sys
import numpy as np, polytask as pt

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

classes, rows = 5000, 10_000
rng = np.random.default_rng(0)
x, y = rng.normal(size=(rows, 8)).astype("f4"), rng.integers(0, classes, rows)

def trainer(metrics):
    task = pt.Task("k", classes=classes, metrics=metrics)
    return pt.Trainer(pt.MultiTaskModel(8, tasks=[task], encoder=pt.encoder.MLP([16])))

trainer([]).fit((x, y), epochs=1, batch_size=64, progress=False)
before = peak()
measured = trainer(["accuracy"])
measured.fit((x, y), epochs=1, batch_size=64, progress=False)
measured.evaluate((x, y), batch_size=64)
trainer([]).evaluate((x, y), batch_size=64)
print(peak() - before)
"""


def test_metrics_of_many_classes_take_no_memory_of_all_outputs():
    done = subprocess.run([sys.executable, "-c", MANY_CLASSES], capture_output=True, text=True, check=True)
    # All raw outputs would be 190 MB.
    assert float(done.stdout) < 30


def test_only_metrics_that_need_them_keep_raw_outputs(data):
    seen = {}

    def own(predicted, targets):
        seen["rows"] = len(predicted)
        return (predicted - targets).abs().mean()

    y = {"kind": (data.x[:, 0] > 0).astype(int), "age": data.x[:, 1]}
    model = pt.MultiTaskModel(8, tasks=[pt.Task("kind", classes=2), pt.Task("age", metrics=["mae", own, "spearman"])])
    scores = Scores(model)
    assert [each["keep"] for each in scores.wanted] == [False, True]
    history = pt.Trainer(model, "sgd", lr=1e-12).fit((data.x, y), epochs=1, batch_size=50, progress=False)
    assert seen["rows"] == 160
    assert list(history.columns)[:6] == ["epoch", "loss", "kind/loss", "kind/accuracy", "age/loss", "age/mae"]
    assert history["age/own"] == pytest.approx(history["age/mae"], rel=1e-6)
    rows = model.reader.rows((data.x, y))
    meters = model._core.meters(scores.wanted)
    _, _, raw = model._core.evaluate(rows.core(), 64, meters)
    assert [len(each) for each in raw] == [0, 160]


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


def test_masked_labels_count_in_no_metric(data):
    """What stands below a mask is nothing, for metrics that the core counts, torchmetrics' and one's own."""

    def own(p, y):
        return (p - y).abs().max()

    tasks = [
        pt.Task("income", loss="binary_cross_entropy", metrics=["auroc", "f1", own]),
        pt.Task("age", metrics=["mae", "explained_variance", own], scale="quantile"),
        pt.Task("topics", loss="binary_cross_entropy", outputs=3, metrics=["accuracy", "recall", own]),
    ]
    rng = np.random.default_rng(0)

    def evaluated(hide):
        trainer = pt.Trainer(pt.MultiTaskModel(8, tasks=tasks, encoder=pt.encoder.MLP([4])))
        targets = {name: hide(np.asarray(y, "f8"), hidden[name]) for name, y in data.targets.items()}
        history = trainer.fit((data.x, targets), epochs=1, batch_size=40, shuffle=False, progress=False)
        return {k: v for k, v in history[-1].items() if k != "seconds"}, trainer.evaluate((data.x, targets))

    hidden = {name: rng.random(y.shape) < 0.4 for name, y in data.targets.items()}
    row, results = evaluated(lambda y, where: np.ma.masked_array(np.where(where, 1 - y, y), where))
    want, wanted = evaluated(lambda y, where: np.where(where, np.nan, y))
    assert row == want
    assert {task: dict(each) for task, each in results.items()} == {task: dict(each) for task, each in wanted.items()}


def test_metrics_of_another_task_may_be_taken():
    def gap(p, y):
        return (p - y).abs().mean()

    first = pt.Task("a", metrics=["rmse", {"gap": gap}])
    second = pt.Task("b", metrics=first.metrics)
    model = pt.MultiTaskModel(2, tasks=[first, second])
    x = np.random.default_rng(0).normal(size=(30, 2))
    found = model.evaluate((x, {"a": x[:, 0], "b": x[:, 0]}))
    assert list(found["a"]) == list(found["b"]) == ["loss", "rmse", "gap"]


@pytest.mark.parametrize("function", [sk.mean_absolute_percentage_error, sk.r2_score, sk.explained_variance_score])
def test_metrics_of_scikit_learn_take_labels_first(function, rng):
    """Which their argument `y_true` says; others are called with predictions first."""
    x = rng.normal(size=(80, 2))
    y = 3 + x[:, 0]

    def mine(p, y):
        return float((p - 2 * y).mean())

    model = pt.MultiTaskModel(2, tasks=[pt.Task("y", metrics=[function, mine])])
    found = model.evaluate((x, y))["y"]
    p = model.predict(x)["y"].astype(np.float64)
    assert found[function.__name__] == pytest.approx(function(y, p), rel=1e-5)
    assert function(y, p) != pytest.approx(function(p, y), rel=1e-2)
    assert found["mine"] == pytest.approx((p - 2 * y).mean(), rel=1e-5)


@pytest.mark.parametrize(("far", "wide"), [(1e8, 1.0), (1.7e9, 10.0), (-3e8, 1.0)])
def test_explained_variance_of_numbers_far_from_zero(far, wide, rng):
    y = far + wide * rng.normal(size=(300, 1))
    p = y + 0.3 * wide * rng.normal(size=(300, 1))
    assert score("explained_variance", "values", p, y) == pytest.approx(sk.explained_variance_score(y, p), abs=1e-6)
