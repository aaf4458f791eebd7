"""Thresholds: the best ones by trying all, ties, labels on one side, and what decides by them."""

import copy

import numpy as np
import polytask as pt
import pytest
import torch
from conftest import Data, make_model, same_bits
from polytask.model import thresholds
from sklearn import metrics

THEIRS = {
    "f1": lambda y, d, w: metrics.f1_score(y, d, sample_weight=w),
    "accuracy": lambda y, d, w: metrics.accuracy_score(y, d, sample_weight=w),
    "balanced_accuracy": lambda y, d, w: metrics.balanced_accuracy_score(y, d, sample_weight=w),
    "youden": lambda y, d, w: metrics.balanced_accuracy_score(y, d, sample_weight=w, adjusted=True),
}


@pytest.fixture(scope="module")
def trained():
    model = make_model()
    pt.Trainer(model, lr=0.01).fit(Data(200).whole, epochs=3, progress=False)
    return model


def noisy(rows=60, seed=1):
    data = Data(rows, seed)
    rng = np.random.default_rng(seed)
    data.income = np.where(rng.random(rows) < 0.3, 1, data.income)
    data.topics[rng.random(data.topics.shape) < 0.2] = np.nan
    return data


@pytest.mark.parametrize("metric", THEIRS)
def test_no_threshold_is_better(trained, metric):
    data = noisy()
    weights = np.random.default_rng(2).integers(0, 3, 60).astype(float)
    found = trained.thresholds((data.x, data.targets, weights), metric)
    p = trained.predict(data.x)
    columns = [("income", 0, p["income"][:, 1], data.income.astype(float))]
    columns += [("topics", at, p["topics"][:, at], data.topics[:, at]) for at in range(3)]
    for name, at, p_one, y in columns:
        there = ~np.isnan(y) & (weights > 0)
        tried = np.concatenate([p_one[there], np.nextafter(p_one[there], np.float32(2)), [0.5]])
        tried = tried[tried <= 1]
        score = [THEIRS[metric](y[there], p_one[there] >= t, weights[there]) for t in tried]
        ours = found[name] if name == "income" else found[name][at]
        assert found.scores[name][at] == pytest.approx((max(score), score[-1]))
        assert THEIRS[metric](y[there], p_one[there] >= ours, weights[there]) == pytest.approx(max(score))
        assert found.labels[name][at] == there.sum()


def test_the_model_decides_by_them(trained):
    data = noisy()
    found = trained.thresholds(data.whole)
    p = trained.predict(data.x)
    decided = trained.classes(p, threshold=found)
    assert np.array_equal(decided["income"], p["income"][:, 1] >= found["income"])
    assert np.array_equal(decided["topics"], p["topics"] >= np.array(found["topics"]))
    assert trained.kept_thresholds == {}
    assert np.array_equal(trained.classes(p)["topics"], p["topics"] >= 0.5)
    trained.thresholds(data.whole, keep=True)
    try:
        assert trained.kept_thresholds == dict(found)
        assert np.array_equal(trained.classes(p)["topics"], decided["topics"])
        # What is said goes before what was kept, which goes before 0.5.
        said = trained.classes(p, threshold={"income": 0.5})
        assert np.array_equal(said["income"], p["income"][:, 1] >= 0.5)
        assert np.array_equal(said["topics"], decided["topics"])
        assert np.array_equal(trained.classes(p, threshold=0.5)["topics"], p["topics"] >= 0.5)
    finally:
        trained.temperatures = {"income": 2.0}
        trained.temperatures = {}
    assert trained.kept_thresholds == {}


def best(metric, p, y, weights=None):
    p, y = np.array(p, np.float32), np.array(y, float)
    return thresholds.best(metric, p, y, np.ones(len(p)) if weights is None else np.array(weights))


def test_ties_ends_and_neighbours():
    # The middle between the two.
    assert best("accuracy", [0.75, 0.875], [0, 1]).threshold == 0.8125
    # Equal probabilities stay together: two of three labels are right at best.
    found = best("accuracy", [0.75, 0.75, 0.25], [0, 1, 0])
    assert found.score == pytest.approx((2 / 3, 2 / 3))
    assert found.threshold == 0.5
    # Of equally good ones that nearest to 0.5: deciding for 1 always, or never.
    assert best("accuracy", [0.25, 0.375], [1, 0]).threshold == 0.5
    # All are ones by the first, and none by the last.
    assert best("f1", [0.25, 0.75, 0.75], [1, 0, 1]).threshold == 0.0
    assert best("accuracy", [0.875, 0.75, 0.75, 0.75], [0, 0, 0, 1]).threshold > 0.875
    # Between neighbours of single precision there is nothing: the upper one.
    low = np.float32(0.75)
    high = np.nextafter(low, np.float32(1))
    assert best("accuracy", [low, high], [0, 1]).threshold == high
    # Nothing is above 1.
    assert best("accuracy", [1.0, 1.0, 1.0], [0, 0, 1]).threshold <= 1


@pytest.mark.parametrize("metric", [*THEIRS, lambda d, y: (d == y).float().mean()])
def test_one_side_says_nothing(metric):
    for y in ([1, 1, 1], [0, 0, 0], [np.nan] * 3, []):
        found = best(metric, [0.2, 0.3, 0.4][: len(y)], y)
        assert found.threshold == 0.5
        assert np.isnan(found.score).all()
    # Rows of weight 0 are none.
    assert best(metric, [0.2, 0.3, 0.4], [1, 1, 0], [1.0, 1, 0]).threshold == 0.5


def test_a_metric_of_ones_own(trained):
    data = noisy()

    def cost(decided, labels):
        assert decided.dtype == labels.dtype == torch.int64
        return -(5 * (labels > decided).sum() + (decided > labels).sum())

    found = trained.thresholds(data.whole, cost, tasks=["income"])
    assert list(found) == ["income"]
    assert found.metric == "cost"
    p = trained.predict(data.x)["income"][:, 1]
    each = [float(cost(torch.tensor(p >= t).long(), torch.tensor(data.income))) for t in [*p, 0.5]]
    assert found.scores["income"][0] == (max(each), each[-1])
    # More rows than thresholds that are tried: 0.5 is among them.
    rng = np.random.default_rng(0)
    p, y = rng.random(2000), rng.random(2000)
    counted = []
    many = best(lambda d, y: counted.append(1) or (d == y).float().mean(), p, y > p)
    assert len(counted) <= 258
    assert many.score[0] >= many.score[1] > 0


def test_what_is_shown(trained):
    found = trained.thresholds(noisy().whole)
    assert repr(found).splitlines()[0].split() == ["task", "label", "threshold", "f1", "with", "0.5", "labels"]
    assert len(found.to_frame()) == 4
    assert "<table>" in found._repr_html_()


def test_wrong_input_is_refused(trained):
    data = noisy(20)
    p = trained.predict(data.x)
    for call, says in [
        (lambda: trained.thresholds(data.whole, "f2"), "unknown metric 'f2'; .*there are `f1`, `accuracy`"),
        (
            lambda: trained.thresholds(data.whole, tasks="age"),
            "no task 'age'.*tasks of two sides are `income`, `topics`",
        ),
        (lambda: trained.thresholds((data.x, {"age": data.age})), "no targets of two sides"),
        (lambda: trained.thresholds(data.whole, lambda d, y: "much"), "should give one number; got 'much'"),
        (lambda: trained.classes(p, threshold={"topics": [0.5]}), "a number, or one a label, 3; got"),
        (lambda: trained.classes(p, threshold={"topics": [0.5, 2.0, 0.1]}), "between 0 and 1; got 2.0"),
        (lambda: trained.classes(p, threshold={"income": [0.5, 0.5]}), "task `income` should be a number"),
    ]:
        with pytest.raises(ValueError, match=says):
            call()
    with pytest.raises(TypeError, match="`metric` should be a name or a callable; got 3"):
        trained.thresholds(data.whole, 3)
    with pytest.raises(KeyError, match="no task 'age'"):
        trained.thresholds(data.whole)["age"]


def test_several_models_together(trained, tmp_path):
    data = noisy()
    other = make_model(1)
    both = pt.Ensemble([trained, other])
    found = both.thresholds(data.whole, "youden")
    p = both.predict(data.x)
    there = ~np.isnan(data.topics[:, 0])
    expected = thresholds.best("youden", p["topics"][there, 0], data.topics[there, 0], np.ones(there.sum()))
    assert found["topics"][0] == expected.threshold
    assert np.array_equal(both.classes(p, threshold=found)["topics"], p["topics"] >= np.array(found["topics"]))
    # What a member keeps for itself is not for the mean.
    member = copy.deepcopy(trained)
    member.thresholds(data.whole, keep=True)
    mean = pt.Ensemble([member, other])
    for said in (0.5, {"income": 0.3}, {}):
        assert np.array_equal(mean.classes(p, threshold=said)["topics"], p["topics"] >= 0.5)
    # What the ensemble keeps is, and files have it; another temperature makes it void.
    kept = mean.thresholds(data.whole, "youden", keep=True)
    assert mean.kept_thresholds == dict(kept)
    expected = mean.classes(p, threshold=kept)
    assert same_bits(mean.classes(p), expected)
    assert not same_bits(mean.classes(p), mean.classes(p, threshold=0.5))
    assert np.array_equal(mean.classes(p, threshold={"income": 0.5})["topics"], expected["topics"])
    mean.save(tmp_path / "models")
    again = pt.Ensemble.load(tmp_path / "models")
    assert again.kept_thresholds == mean.kept_thresholds
    assert same_bits(again.classes(p), expected)
    mean.temperatures = {"income": 2.0}
    assert mean.kept_thresholds == {}
    # Batches in an order that is drawn are read once.
    whole = torch.utils.data.TensorDataset(torch.tensor(data.x), torch.tensor(data.income), torch.tensor(data.age),
                                           torch.tensor(data.topics))  # fmt: skip
    loader = torch.utils.data.DataLoader(whole, batch_size=32, shuffle=True, generator=torch.Generator())
    assert both.thresholds(loader, "youden")["income"] == pytest.approx(found["income"], abs=1e-5)
    with pytest.raises(TypeError, match="one data set"):
        both.thresholds({"income": (data.x, data.income), "topics": (data.x, data.topics)})
    with pytest.raises((TypeError, ValueError)):
        both.thresholds([data.x, data.income, data.age, data.topics])
