"""What is recommended for tasks that help each other, and for those that do not."""

import pickle
from functools import partial

import numpy as np
import pandas as pd
import polytask as pt
import pytest
import sklearn.ensemble  # noqa: F401, which says something to OpenMP in the environment when it is imported
import torch
from polytask.results.recommendation import Candidate
from polytask.studies import recommend as module
from polytask.studies.budget import seconds
from polytask.studies.study import Study


def helping(rows=160, held_out=2000, noise=1.0, seed=0):
    """Four tasks that are one function with noise of its own each."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows + held_out, 20)).astype(np.float32)
    common = np.tanh(x[:, :5] @ rng.normal(size=5))
    targets = {f"t{i}": common + noise * rng.normal(size=len(x)) for i in range(4)}
    parts = [(x[part], {name: y[part] for name, y in targets.items()}) for part in (slice(rows), slice(rows, None))]
    return parts[0], parts[1]


def tasks(data):
    return [pt.Task(name) for name in data[1]]


def asked(data, held_out, **more):
    settings = {"budget": 60, "seeds": 3, "epochs": 20, "batch_size": 32, "lr": 3e-3, "progress": False, **more}
    model = pt.MultiTaskModel(20, tasks=tasks(data), encoder=pt.encoder.MLP([32, 16]))
    return pt.recommend(model, data, validation=held_out, **settings)


def test_tasks_that_help_each_other_are_trained_together():
    data, held_out = helping()
    found = asked(data, held_out)
    assert found.choice != "one each"
    assert max(map(len, found.groups)) > 1
    assert "lower a task on average than that of one network each" in repr(found)
    assert "p = " in repr(found)
    assert found.relatedness.method == "transfer"
    assert list(found.candidates)[:2] == ["one each", "all in one"]
    evaluated = pt.Trainer(found.model).evaluate(held_out)
    alone, chosen = (found.candidates[name].losses for name in ("one each", found.choice))
    best = int(np.argmin(np.mean([chosen[name] / alone[name].mean() for name in found.tasks], axis=0)))
    for name in found.tasks:
        assert set(evaluated[name]) == {"loss", "mae", "r2"}
        assert evaluated[name]["loss"] == pytest.approx(found.candidates[found.choice].losses[name][best], rel=1e-5)
    frame = found.to_frame()
    assert frame["candidate"].tolist() == list(found.candidates)
    assert frame.loc[frame["choice"], "candidate"].tolist() == [found.choice]
    assert "<p>" in found._repr_html_()


def test_the_budget_is_kept_and_what_is_left_out_is_said():
    data, held_out = helping()
    found = asked(data, held_out, budget=1e-3)
    assert len(found.gains("one each")) == 2
    assert found.skipped
    assert "There was no time for" in repr(found)
    assert found.relatedness is None
    assert found.choice in found.candidates


def test_groups_become_one_model_that_predicts_as_they_do(monkeypatch):
    data, held_out = helping()
    kept = {}
    joined = module.joined

    def keeping(study, networks):
        kept["networks"] = networks
        kept["model"] = joined(study, networks)
        return kept["model"]

    monkeypatch.setattr(module, "joined", keeping)
    monkeypatch.setattr(pt.Recommendation, "gains", lambda self, name: np.zeros(3) - (name != "one each"))
    found = asked(data, held_out, epochs=2)
    assert found.choice == "one each"
    assert found.model is kept["model"]
    predicted = found.model.predict(held_out[0])
    for network in kept["networks"]:
        for name, values in network.model.predict(held_out[0]).items():
            assert np.allclose(values, predicted[name], atol=1e-6)


def test_groups_keep_tables_of_their_own(monkeypatch):
    rng = np.random.default_rng(0)
    x = {"numeric": rng.normal(size=(300, 3)).astype(np.float32), "categorical": rng.integers(0, 4, (300, 2))}
    targets = {"a": x["numeric"][:, 0] + x["categorical"][:, 0], "b": x["categorical"][:, 1] - 1.0}
    model = pt.MultiTaskModel(pt.Inputs(numeric=3, categorical=[4, 4]), tasks=[pt.Task("a"), pt.Task("b")])
    monkeypatch.setattr(pt.Recommendation, "gains", lambda self, name: np.zeros(2) - (name != "one each"))
    found = pt.recommend(model, (x, targets), budget=20, seeds=2, epochs=3, batch_size=32, progress=False)
    assert isinstance(found.model, pt.Ensemble)
    for part in found.model:
        assert np.allclose(part.predict(x)[part.tasks[0].name], found.model.predict(x)[part.tasks[0].name])
    assert [task.name for task in found.model.tasks] == ["a", "b"]


def recommendation(losses):
    candidates = {}
    for name, each in losses.items():
        candidates[name] = Candidate(
            name, f"what is called {name}", [["a", "b"]], {k: np.array(v) for k, v in each.items()}
        )
    return pt.Recommendation(["a", "b"], candidates, None, None, (100, 50))


def test_a_gain_that_may_be_chance_is_said():
    alone = {"a": [1.0, 1.1, 0.9], "b": [2.0, 2.1, 1.9]}
    chance = "That may be chance: as far as these seeds and rows can tell, one network each is as good."
    for gains, said in ([0.9, 1.02, 1.0], True), ([0.9, 0.91, 0.89], False):
        found = recommendation({"one each": alone, "all": {name: np.array(y) * gains for name, y in alone.items()}})
        assert found.choice == "all"
        assert (chance in found.sentences) == said


def test_when_nothing_helps_it_says_so():
    alone = {"a": [1.0, 1.1, 0.9], "b": [2.0, 2.1, 1.9]}
    worse = {name: np.array(values) * [1.05, 1.06, 1.04] for name, values in alone.items()}
    found = recommendation({"one each": alone, "all in one": worse})
    assert found.choice == "one each"
    assert "Nothing that shares helps: the best of it, what is called all in one, has 5.00 % more" in repr(found)


def test_who_loses_and_what_is_as_good_is_said(tmp_path):
    alone = {"a": [1.0, 1.1, 0.9], "b": [2.0, 2.1, 1.9]}
    mixed = {"a": np.array(alone["a"]) * [0.8, 0.81, 0.79], "b": np.array(alone["b"]) * [1.02, 1.021, 1.019]}
    close = {"a": np.array(alone["a"]) * [0.8, 0.80, 0.80], "b": np.array(alone["b"]) * [1.02, 1.05, 1.0]}
    found = recommendation({"one each": alone, "first": mixed, "second": close})
    assert found.choice == "first"
    assert "`b` loses by it: its loss is 2.00 % higher than alone" in repr(found)
    assert "Within one standard error of it are: what is called second" in repr(found)
    assert found.gains_of("first", "a") == pytest.approx([0.2, 0.19, 0.21])
    found.save(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "What to train for a, b" in page
    assert "loses by it: its loss is 2.00 % higher than alone" in page
    assert page.count("<table") == 1


def frame(rows=240, seed=0):
    rng = np.random.default_rng(seed)
    x = pd.DataFrame(rng.normal(size=(rows, 3)), columns=list("abc"))
    return x.assign(price=2000 + 300 * x.a + 20 * rng.normal(size=rows), kind=np.where(x.b > 0, "yes", "no"))


@pytest.mark.parametrize("quality", ["fast", "good", "best"])
def test_regressions_of_tasks_alone_train_in_units_of_their_own(quality):
    """Else they would not come from their start to targets in the thousands."""
    tasks = [pt.Task("price", metrics=["r2"]), pt.Task("kind", classes=["no", "yes"])]
    how = {"budget": 4, "seeds": 2, "quality": quality, "progress": False}
    found = pt.recommend(tasks, frame(), validation=frame(120, 1), **how)
    model = found.model
    judged = model if isinstance(model, pt.Ensemble) else pt.Trainer(model)
    assert judged.evaluate(frame(200, 2))["price"]["r2"] > 0.5
    if quality != "good":  # which has no time for them
        assert found.trees["price"]["metric"] == "r2"
    alone = pt.recommend(tasks[0], frame().drop(columns="kind"), **how)
    assert list(alone.candidates) == ["one each"]
    assert alone.sentences[0].startswith("There is one task and nothing to share. This is by 2 seeds on 60 held-out")


def spied(monkeypatch):
    """What networks are trained with, by their training."""
    seen = []
    run = Study.run

    def spying(self, networks, **more):
        stop = more["callbacks"](networks[0])[0].patience if "callbacks" in more else None
        model = networks[0].model
        encoder = model._plain.description["encoder"]["name"]
        seen.append((encoder, self.batch_size, stop, len(model.inputs.tabular.bins)))
        return run(self, networks, **more)

    monkeypatch.setattr(Study, "run", spying)
    return seen


@pytest.mark.parametrize("quality", ["fast", "good", "best"])
def test_quality_says_what_networks_train_with(monkeypatch, quality):
    seen = spied(monkeypatch)
    times = []
    fit = module._Recommending._fit_into_budget

    def timed(self, epochs):
        times.append(self.budget)
        fit(self, epochs)

    monkeypatch.setattr(module._Recommending, "_fit_into_budget", timed)
    monkeypatch.setattr("polytask.studies.packed.NETWORKS", 4)
    task, data = pt.Task("kind", classes=["no", "yes"]), frame(3200).drop(columns="price")
    how = {"budget": 20, "seeds": 2, "epochs": 2, "trees": None, "progress": False}
    pt.recommend(task, data, quality=quality, **how)
    encoder, patience = ("tab_m", 16) if quality == "good" else ("mlp", 6)
    # Twice to see how long an epoch takes, then the candidate; networks of ensembles are trained elsewhere.
    bins = 3 if quality == "best" else 0
    assert seen == [(encoder, 64, None, bins), (encoder, 64, None, bins), (encoder, 64, patience, bins)]
    assert times == [10.0 if quality == "best" else 20.0]
    seen.clear()
    pt.recommend(task, data[:300], batch_size=50, **how)
    assert {size for _, size, *_ in seen} == {50}


def test_good_networks_take_a_learning_rate_of_the_callers():
    losses = []
    for epochs, lr in ((1, 1e-9), (4, 1e-9), (4, None)):
        task = pt.Task("kind", classes=["no", "yes"])
        found = pt.recommend(task, frame(), validation=frame(120, 1), lr=lr, budget=20, seeds=2, epochs=epochs,
                             quality="good", trees=None, progress=False)  # fmt: skip
        losses.append(found.candidates["one each"].losses["kind"])
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert (losses[2] < losses[1] - 0.05).all()


def test_an_ensemble_of_groups_is_judged_in_the_scales_of_tasks(monkeypatch):
    """Also where the networks of a group train in another."""
    monkeypatch.setattr(pt.Recommendation, "gains", lambda self, name: np.zeros(2) - (name != "one each"))
    monkeypatch.setattr("polytask.studies.packed.NETWORKS", 4)

    def space(trainer, rows):
        scales = {"scale/price": ["log1p"]} if trainer.model.tasks[0].name == "price" else {}
        return {"lr": [1e-3, 3e-3], **scales}

    monkeypatch.setattr("polytask.studies.tabular.space", space)
    rows, held_out = frame(), frame(120, 1)
    tasks = [pt.Task("price"), pt.Task("kind", classes=["no", "yes"])]
    found = pt.recommend(tasks, rows, validation=held_out, budget=10, seeds=2, epochs=3, quality="best", trees=None,
                         progress=False)  # fmt: skip
    assert len(found.model.tasks) == 2
    gaps = found.model.predict(held_out)["price"] - held_out.price
    wanted = np.mean(np.square(gaps)) / rows.price.var(ddof=0)
    assert found.model.evaluate(held_out)["price"]["loss"] == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("choice", ["one each", "all in one", "soft", "mmoe"])
def test_an_ensemble_is_of_networks_like_the_choice(monkeypatch, choice):
    data, held_out = helping()
    monkeypatch.setattr(pt.Recommendation, "gains", lambda self, name: np.zeros(2) - (name != choice))
    monkeypatch.setattr("polytask.studies.packed.NETWORKS", 4)
    found = asked(data, held_out, quality="best", epochs=3, seeds=2, trees="auto")
    ensemble = found.model
    assert isinstance(ensemble, pt.Ensemble)
    assert found.packed == f"Its model is an ensemble: {len(ensemble)} members, chosen out of " + (
        "16 networks in all, for each group of tasks out of its own." if choice == "one each" else "4 networks."
    )
    assert found.packed in found.sentences
    assert "packed" in vars(pickle.loads(pickle.dumps(found)))
    kinds = {model._plain.description["sharing"]["name"] for model in ensemble}
    wanted = {"all in one": {"hard", "mmoe"}, "one each": {"hard"}}
    assert kinds <= wanted.get(choice, {choice})
    apart = {tuple(task.name for task in model.tasks) for model in ensemble}
    assert apart == ({(name,) for name in found.tasks} if choice == "one each" else {found.tasks})
    results = ensemble.evaluate(held_out)
    for name, each in found.trees.items():
        assert results[name][each["metric"]] == pytest.approx(each["network"], rel=1e-5)
    assert set(found.trees) == set(found.tasks)


@pytest.mark.parametrize(("budget", "count"), [(1e-3, 8), (1e6, 64)])
def test_with_little_time_an_ensemble_is_of_fewer_networks(monkeypatch, budget, count):
    """Each of which trains one epoch at least, whatever the budget."""
    data, held_out = helping(rows=60, held_out=40)
    monkeypatch.setattr(pt.Recommendation, "gains", lambda self, name: np.zeros(2) - (name != "one each"))
    monkeypatch.setattr(module._Recommending, "_together", lambda self, names: (None, None))
    found = asked(data, held_out, quality="best", epochs=1, seeds=2, budget=budget, trees=None)
    assert f"chosen out of {4 * count} networks in all" in found.packed


@pytest.mark.parametrize("choice", ["all in one", "mmoe"])
def test_how_many_networks_there_is_time_for_follows_from_what_the_choice_costs(monkeypatch, choice):
    data, held_out = helping(rows=60, held_out=40)
    monkeypatch.setattr(pt.Recommendation, "gains", lambda self, name: np.zeros(2) - (name != choice))
    monkeypatch.setattr("polytask.studies.packed.NETWORKS", 2)
    plain, said = [], []

    def made(study, networks, until, epoch, *rest):
        said.append(epoch)
        return packed(study, networks, until, epoch, *rest)

    def fitted(self, epochs):
        fit(self, epochs)
        plain.append(self.epoch)

    packed, fit = module.packed, module._Recommending._fit_into_budget
    monkeypatch.setattr(module, "packed", made)
    monkeypatch.setattr(module._Recommending, "_fit_into_budget", fitted)
    asked(data, held_out, quality="best", epochs=1, seeds=2, trees=None)
    assert said == [plain[0] * (module._EXPERTS if choice == "mmoe" else 1.0)]


def test_what_a_module_of_the_callers_own_is_not_made_for_is_said_and_the_rest_kept(own_seed):
    data, held_out = helping()
    encoder = torch.nn.Sequential(torch.nn.Linear(20, 8), torch.nn.ReLU())
    model = pt.MultiTaskModel(20, tasks=tasks(data), encoder=encoder)
    found = pt.recommend(model, data, validation=held_out, budget=20, seeds=2, epochs=2, progress=False)
    assert {"one each", "all in one"} <= set(found.candidates)
    assert not {"mmoe", "soft"} & set(found.candidates)
    assert [each.partition(" (")[0] for each in found.refused] == [
        "all tasks in one network with experts",
        "a network each, tied by a learned relation",
    ]
    assert '"soft" wants 4 encoders, and a module of your own is one' in repr(found)
    assert pickle.loads(pickle.dumps(found)).refused == found.refused


@pytest.mark.parametrize("call", [pt.recommend, pt.relatedness, partial(pt.search, ensemble="greedy")])
def test_data_sets_by_task_show_no_inputs(call):
    data, _ = helping(rows=60, held_out=1)
    sets = {name: (data[0], y) for name, y in data[1].items()}
    with pytest.raises(TypeError, match=r"give a pt.MultiTaskModel instead of tasks: only of a frame"):
        call(tasks(data), sets, progress=False)


def test_a_pickle_names_public_classes_alone():
    found = recommendation({"one each": {"a": [1.0, 1.1], "b": [0.9, 1.0]}, "all": {"a": [0.8, 0.9], "b": [0.8, 0.9]}})
    pickled = pickle.dumps(found)
    assert b"polytask.results" not in pickled
    assert repr(pickle.loads(pickled)) == repr(found)


def test_what_cannot_be_is_refused():
    data, held_out = helping(rows=60, held_out=60)
    for wrong in ("10 minutes", "m", "", "-3s"):
        with pytest.raises(ValueError, match="`budget` should be seconds above 0"):
            asked(data, held_out, budget=wrong)
    for wrong in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="`budget` should be seconds above 0"):
            asked(data, held_out, budget=wrong)
    with pytest.raises(TypeError, match="`budget` should be seconds above 0"):
        asked(data, held_out, budget=None)
    with pytest.raises(ValueError, match="`quality` should be one of `fast`, `good`, `best`; got 'high'"):
        asked(data, held_out, quality="high")
    with pytest.raises(ValueError, match=r'`quality="good"` is for networks with pt.encoder.TabM, .* encoder \'mlp\''):
        asked(data, held_out, quality="good")
    unlabelled = held_out[0], {**held_out[1], "t2": np.full(60, np.nan)}
    with pytest.raises(ValueError, match=r"`validation` should have labels of every task; none of its 60 rows .* `t2`"):
        asked(data, unlabelled)
    assert seconds("1.5m") == 90
    assert seconds(" 2 h") == 7200
