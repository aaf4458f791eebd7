"""Permutation importance: as scikit-learn has it, column by column in every kind of data, and for several models."""

import copy
import pickle

import matplotlib.pyplot as pyplot
import numpy as np
import pandas as pd
import polytask as pt
import pytest
import scipy.stats
import torch
from conftest import Data, make_model, make_tasks
from polytask.data.inputs import Inputs
from polytask.results.importance import Importance
from sklearn.inspection import permutation_importance
from sklearn.metrics import r2_score, roc_auc_score


@pytest.fixture(scope="module")
def trained():
    model = make_model()
    pt.Trainer(model, lr=0.02).fit(Data(200).whole, epochs=8, progress=False)
    return model


def test_by_hand(trained):
    """Each loss is that of the metric on rows with one column of others."""
    data = Data(80, 1)
    topics = data.topics.copy()
    topics[::3, 1] = np.nan
    found = pt.importance(trained, (data.x, {**data.targets, "topics": topics}), repeats=3, seed=5)
    assert list(found) == ["income", "age", "topics"]
    assert found.metrics == {"income": "auroc", "age": "mae", "topics": "auroc"}
    assert found.columns == tuple(f"x[{i}]" for i in range(8))

    def scores(x):
        p = trained.predict(x)
        there = ~np.isnan(topics)
        each = [roc_auc_score(topics[there[:, j], j], p["topics"][there[:, j], j]) for j in range(3)]
        return np.array([
            roc_auc_score(data.income, p["income"][:, 1]), np.abs(data.age - p["age"]).mean(), np.mean(each)
        ])  # fmt: skip

    plain = scores(data.x)
    np.testing.assert_allclose(list(found.scores.values()), plain, rtol=1e-5)
    for i in (0, 2, 7):
        lost = []
        for repeat in range(3):
            order = np.random.default_rng([5, i, repeat]).permutation(80)
            x = data.x.copy()
            x[:, i] = x[order, i]
            lost.append((plain - scores(x)) * [1, -1, 1])
        lost = np.array(lost)
        for at, task in enumerate(found):
            np.testing.assert_allclose(found.losses[task][i], lost[:, at], atol=1e-6)
            each = found[task][f"x[{i}]"]
            assert each.mean == pytest.approx(lost[:, at].mean(), abs=1e-6)
            assert each.error == pytest.approx(lost[:, at].std(ddof=1) / np.sqrt(3), abs=1e-6)
            error = max(each.error, np.median([other.error for other in found[task].values()]))
            p = 2 * scipy.stats.t.sf(abs(each.mean) / error, 2)
            assert p <= each.p + 1e-9
            assert each.p <= min(1, 8 * p) + 1e-9
    # What made the labels matters, and first of all.
    assert set(found.ranked("income")[:2]) == {"x[0]", "x[1]"}
    assert np.array_equal(data.x, Data(80, 1).x)


def importance(losses):
    losses = np.asarray(losses, float)
    names = [f"x{i}" for i in range(len(losses))]
    return Importance(names, {"kind": "accuracy"}, {"kind": 0.8}, {"kind": losses})["kind"]


def test_a_column_whose_few_permutations_cost_the_same_is_not_sure():
    row = 1 / 40  # what one row of 40 counts in accuracy
    rows = [[1, 1, 1, 1, 1], [0, 1, -1, 2, 0], [0, 0, 1, -1, -1], [9, 8, 11, 9, 10]]
    found = importance(row * np.array(rows))
    assert not found["x0"].sure
    assert found["x0"].error == pytest.approx(0, abs=1e-12)
    assert found["x3"].sure
    alone = importance([[row] * 5])
    assert alone["x0"].p == pytest.approx(2**-4)
    assert importance([[0.0] * 5])["x0"].p == 1
    assert np.isnan(importance([[row]])["x0"].p)


def test_columns_of_no_use_are_never_that_sure():
    """Of accuracy on few rows, which moves by whole rows; by errors of their own 3 in 100 times one had a p of 0."""
    rng = np.random.default_rng(0)
    times = 400
    least = [min(each.p for each in importance(rng.integers(-1, 2, (10, 5)) / 40).values()) for _ in range(times)]
    for level in (0.001, 0.01, 0.05):
        assert np.mean(np.array(least) < level) <= level


class Alone:
    """A model's task as scikit-learn sees an estimator."""

    def __init__(self, model, task):
        self.model, self.task = model, task

    def fit(self, x, y):
        return self

    def predict(self, x):
        return self.model.predict(x.astype(np.float32))[self.task]


def test_as_scikit_learn_has_it(trained):
    data = Data(100, 2)
    ours = pt.importance(trained, data.whole, {"age": "r2"}, tasks="age", repeats=30)["age"]
    score = {"scoring": lambda model, x, y: r2_score(y, model.predict(x))}
    theirs = permutation_importance(Alone(trained, "age"), data.x, data.age, n_repeats=30, random_state=0, **score)
    for i in range(8):
        errors = np.hypot(ours[f"x[{i}]"].error, theirs.importances_std[i] / np.sqrt(30))
        assert abs(ours[f"x[{i}]"].mean - theirs.importances_mean[i]) <= 4 * errors + 1e-6


def frame_of(rows=150, seed=0):
    rng = np.random.default_rng(seed)
    number = rng.normal(size=rows)
    number[::10] = np.nan
    frame = pd.DataFrame({"number": number, "city": rng.choice(["a", "b", "c"], rows),
                          "tags": rng.choice(["u", "v", "u|v", ""], rows), "noise": rng.normal(size=rows)})  # fmt: skip
    frame["y"] = 2.0 * (frame.city == "a") + frame.tags.str.contains("u") + np.nan_to_num(number)
    return frame


def test_columns_of_a_frame_are_whole():
    frame = frame_of()
    inputs = pt.Inputs.from_frame(frame, bags=["tags"], exclude=["y"], bins=4, indicators=True)
    model = pt.MultiTaskModel(inputs, tasks=[pt.Task("y")], encoder=pt.encoder.MLP([16]))
    pt.Trainer(model, lr=0.02).fit(frame, epochs=15, progress=False)
    found = pt.importance(model, frame, repeats=2, seed=1)
    assert found.columns == ("number", "noise", "city", "tags")
    for i, name in enumerate(found.columns):
        order = np.random.default_rng([1, i, 1]).permutation(len(frame))
        other = frame.assign(**{name: frame[name].to_numpy()[order]})
        lost = np.abs(frame.y - model.predict(other)["y"]).mean() - np.abs(frame.y - model.predict(frame)["y"]).mean()
        assert found.losses["y"][i, 1] == pytest.approx(lost, abs=1e-5)
    assert found["y"]["city"].mean > 10 * abs(found["y"]["noise"].mean)
    assert pt.importance(model, frame, repeats=2, seed=1, columns=["number"]).columns == ("number",)
    with pytest.raises(ValueError, match="no column 'nmber'; did you mean `number`"):
        pt.importance(model, frame, columns=["nmber"])


def test_codes_arrays_and_positions():
    rng = np.random.default_rng(0)
    y = rng.normal(size=40)
    bags = Inputs(numeric=2, categorical=[4, pt.Bag(5, length=3)])
    x = {"numeric": rng.normal(size=(40, 2)), "categorical": rng.integers(0, 4, (40, 4))}
    model = pt.MultiTaskModel(bags, tasks=[pt.Task("y")])
    found = pt.importance(model, (x, {"y": y}), repeats=1)
    assert found.columns == ("numeric[0]", "numeric[1]", "categorical[0]", "categorical[1]")
    order = np.random.default_rng([0, 3, 0]).permutation(40)
    codes = np.concatenate([x["categorical"][:, :1], x["categorical"][order, 1:]], axis=1)
    p = model.predict({**x, "categorical": codes})["y"]
    lost = np.abs(p - y).mean() - np.abs(model.predict(x)["y"] - y).mean()
    assert found.losses["y"][3, 0] == pytest.approx(lost, abs=1e-6)
    assert np.isnan(found["y"]["numeric[0]"].error)
    assert "was permuted once, which says nothing of chance" in repr(found)

    class Net(torch.nn.Module):
        def forward(self, image, table, one):
            return torch.cat([image.flatten(1).mean(1, keepdim=True), table, one[:, None]], 1)

    arrays = {"image": (1, 4, 4), "table": 2, "one": ()}
    model = pt.MultiTaskModel(arrays, tasks=[pt.Task("y")], encoder=Net())
    x = {"image": rng.normal(size=(40, 1, 4, 4)), "table": rng.normal(size=(40, 2)), "one": rng.normal(size=40)}
    found = pt.importance(model, (x, {"y": y}), repeats=1)
    assert found.columns == ("image", "table[0]", "table[1]", "one")
    for at, name in enumerate(["image", "table", None, "one"]):
        if name is not None:
            order = np.random.default_rng([0, at, 0]).permutation(40)
            other = {**x, name: x[name].copy()}
            if name == "table":
                other[name][:, 0] = x[name][order, 0]
            else:
                other[name] = x[name][order]
            lost = np.abs(model.predict(other)["y"] - y).mean() - np.abs(model.predict(x)["y"] - y).mean()
            assert found.losses["y"][at, 0] == pytest.approx(lost, abs=1e-6)

    tokens = [rng.integers(0, 6, n).tolist() for n in rng.integers(0, 5, 40)]
    inputs = pt.Inputs(numeric=1, positions={"tokens": pt.Inputs(categorical=[6])})
    model = pt.MultiTaskModel(inputs, tasks=[pt.Task("y"), pt.Task("tag", classes=2, per="tokens")])
    x = {"numeric": rng.normal(size=(40, 1)), "tokens": tokens}
    found = pt.importance(model, (x, {"y": y}), repeats=1)
    assert found.columns == ("numeric[0]", "tokens")
    order = np.random.default_rng([0, 1, 0]).permutation(40)
    p = model.predict({**x, "tokens": [tokens[i] for i in order]})["y"]
    lost = np.abs(p - y).mean() - np.abs(model.predict(x)["y"] - y).mean()
    assert found.losses["y"][1, 0] == pytest.approx(lost, abs=1e-6)


def test_several_models_and_estimators(trained):
    data = Data(60, 3)
    twice = pt.importance(pt.Ensemble([trained, copy.deepcopy(trained)]), data.whole, repeats=2)
    once = pt.importance(trained, data.whole, repeats=2)
    for task in once:
        np.testing.assert_allclose(twice.losses[task], once.losses[task], atol=1e-6)
    other = make_model(3)
    both = pt.Ensemble([trained, other])
    found = pt.importance(both, data.whole, "mae", tasks=["age"], repeats=1)
    assert found.scores["age"] == pytest.approx(np.abs(both.predict(data.x)["age"] - data.age).mean(), rel=1e-5)
    # Models count what the ensemble says that they do, and temperatures are those of the mean.
    both = pt.Ensemble([trained, other], weights={"age": [0, 1], "income": [1, 4]})
    both.temperatures = {"income": 3.0}
    found = pt.importance(both, data.whole, {"age": "mae", "income": "log_loss"}, tasks=["age", "income"], repeats=1)
    p = both.predict(data.x)
    expected = -np.log(p["income"][np.arange(60), data.income]).mean()
    assert found.scores["income"] == pytest.approx(expected, rel=1e-5)
    assert found.scores["age"] == pytest.approx(np.abs(other.predict(data.x)["age"] - data.age).mean(), rel=1e-5)
    # A loader whose order is drawn, and batches.
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(*map(torch.tensor, (data.x, data.income, data.age, data.topics))),
        batch_size=25, shuffle=True, generator=torch.Generator(),
    )  # fmt: skip
    assert pt.importance(trained, loader, repeats=1).scores == pytest.approx(once.scores, rel=1e-5)
    from polytask.sklearn import MultiTaskRegressor

    estimator = MultiTaskRegressor([8], epochs=3, random_state=0).fit(data.x, data.age)
    scaled = (data.x - estimator.center_) / estimator.scale_
    found = pt.importance(estimator.model_, (scaled, data.age), repeats=1)
    assert len(found.columns) == 8
    with pytest.raises(TypeError, match=r"got MultiTaskRegressor: give its `model_`"):
        pt.importance(estimator, (data.x, data.age))


def test_what_is_shown(trained):
    found = pt.importance(trained, Data(60, 3).whole, repeats=3)
    lines = repr(found).splitlines()
    assert lines[0].split() == ["column", "income", "(auroc)", "age", "(mae)", "topics", "(auroc)"]
    assert "±" in lines[1]
    assert found.sentences[0].startswith("`income` (auroc ")
    assert " depends on `x[" in found.sentences[0]
    page = found._repr_html_()
    assert page.count("<svg") == 3
    assert "<table>" in page
    frame = found.to_frame()
    assert len(frame) == 24
    assert frame.iloc[0]["column"] == found.ranked("income")[0]
    axes = found.plot()
    assert [axis.get_title() for axis in axes] == ["income", "age", "topics"]
    width = axes[0].patches[0].get_width()
    assert width == found["income"][found.ranked("income")[0]].mean
    pyplot.close("all")
    assert pickle.loads(pickle.dumps(found)).scores == found.scores


def test_metrics(trained):
    data = Data(60, 3)

    def own(p, y):
        return ((p - y) ** 2).mean()

    own.higher_is_better = False
    found = pt.importance(trained, data.whole, {"age": own, "income": "accuracy"}, repeats=2)
    assert found.metrics == {"income": "accuracy", "age": "own", "topics": "auroc"}
    assert found["age"][found.ranked("age")[0]].mean > 0
    named = pt.importance(trained, data.whole, {"mine": own}, tasks="age", repeats=2)
    assert named.metrics == {"age": "mine"}
    np.testing.assert_array_equal(named.losses["age"], found.losses["age"])


def test_wrong_input_is_refused(trained):
    data = Data(20, 3)
    nothing = pt.MultiTaskModel(8, tasks=[pt.Task("age", metrics=[])])
    for call, says in [
        (lambda: pt.importance(trained, data.whole, "auorc"), "unknown metric 'auorc'; did you mean `auroc`"),
        (lambda: pt.importance(trained, data.whole, "auroc"), "task `age`: metric `auroc` does not suit its labels"),
        (
            lambda: pt.importance(trained, data.whole, {"agee": "mae"}),
            "`metric`: unknown task 'agee'; did you mean `age`",
        ),
        (lambda: pt.importance(trained, data.whole, ["mae", "r2"], tasks="age"), "should be one for task `age`; got 2"),
        (lambda: pt.importance(trained, data.whole, repeats=0), "`repeats` should be"),
        (lambda: pt.importance(trained, (data.x, {"age": data.age}), tasks="income"), "no label for task `income`"),
        (lambda: pt.importance(nothing, (data.x, {"age": data.age})), "has no metric: say one by `metric`"),
    ]:
        with pytest.raises(ValueError, match=says):
            call()
    for call, says in [
        (lambda: pt.importance(make_tasks(), data.whole), "`model` should be a pt.MultiTaskModel or a pt.Ensemble"),
        (lambda: pt.importance(trained, {"age": (data.x, data.age)}), "one data set"),
        (lambda: pt.importance(trained, data.whole, n_repeats=3), "`n_repeats`; here it is called `repeats`"),
    ]:
        with pytest.raises(TypeError, match=says):
            call()
    with pytest.raises(KeyError, match="no task 'agee'"):
        pt.importance(trained, data.whole, repeats=1)["agee"]
