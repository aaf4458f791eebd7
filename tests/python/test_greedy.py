"""An ensemble in one run: the choice of members, the predictor, a run that goes on, errors."""

import json
import pickle
import re
from itertools import combinations_with_replacement

import numpy as np
import pandas as pd
import polytask as pt
import pytest
from conftest import interrupted
from polytask.model.averaged import Averaged
from polytask.studies.greedy import Greedy
from polytask.studies.running import Running
from polytask.studies.selection import greedy

TASKS = [pt.Task("sign", classes=["no", "yes"], metrics=["auroc"]), pt.Task("value", scale="standardize", weight=0.5)]
SPACE = {"lr": (3e-3, 3e-2), "dropout": [0.0, 0.3], "optimizer": ["adamw"], "batch_size": [32, 64]}


def frame(n=300, seed=0):
    rng = np.random.default_rng(seed)
    x = pd.DataFrame(rng.normal(size=(n, 4)), columns=list("abcd"))
    x["sign"] = np.where(x.a * x.b > 0, "yes", "no")
    x["value"] = 50 + 9 * x.c * x.d + rng.normal(size=n)
    x.loc[rng.random(n) < 0.3, "value"] = np.nan
    return x


def model(**how):
    return pt.MultiTaskModel(pt.Inputs.from_frame(frame()), tasks=TASKS, encoder=pt.encoder.MLP([16]), **how)


def found(subject=None, data=None, space=SPACE, **how):
    said = {"trials": 5, "epochs": 6, "validation": frame(120, 1), "progress": False, "ensemble": "greedy", **how}
    return pt.search(subject or model(), frame() if data is None else data, space, **said)


def bits(ensemble):
    states = [b"".join(value.tobytes() for value in each.state_dict().values()) for each in ensemble]
    rounds = [{name: value for name, value in row.items() if name != "seconds"} for row in ensemble.rounds]
    return states, ensemble.weights, ensemble.members, rounds


def test_one_by_one_the_member_is_taken_that_lowers_the_loss_most():
    rng = np.random.default_rng(0)
    for _ in range(20):
        y = rng.normal(size=40).astype(np.float32)
        pool = [(y + rng.normal(size=40) * size)[:, None].astype(np.float32) for size in (0.7, 0.9, 1.0, 1.5)]

        def loss(mean, y=y):
            return float(np.mean((mean[:, 0] - y) ** 2))

        counts, value = greedy(pool, loss, 3)
        chosen = []
        losses = []
        for _ in range(3):
            each = [loss(np.mean([pool[k] for k in [*chosen, j]], 0)) for j in range(4)]
            chosen.append(int(np.argmin(each)))
            losses.append(min(each))
        best = int(np.argmin(losses)) + 1
        assert counts == [chosen[:best].count(j) for j in range(4)]
        assert value == pytest.approx(min(losses), rel=1e-5)
        of_all = [loss(np.mean([pool[k] for k in some], 0))
                  for size in (1, 2, 3) for some in combinations_with_replacement(range(4), size)]  # fmt: skip
        assert min(of_all) <= value + 1e-6 <= loss(pool[int(np.argmin([loss(each) for each in pool]))]) + 2e-6


def test_it_begins_with_those_that_are_best_alone():
    rng = np.random.default_rng(3)
    error = rng.normal(size=(12, 1)).astype(np.float32)
    # The second errs as the first does, the third the other way, and the fourth far off.
    pool = [error, 1.01 * error, -1.5 * error, 9 * error]

    def loss(mean):
        return float(np.mean(mean**2))

    assert greedy(pool, loss, 2)[0] == [1, 0, 1, 0]
    counts, value = greedy(pool, loss, 2, first=2)
    assert counts == [1, 1, 0, 0]
    assert value == pytest.approx(loss(1.005 * error), rel=1e-5)
    more, lower = greedy(pool, loss, 3, first=2)
    assert more == [1, 1, 1, 0]
    assert lower < value
    assert greedy(pool, loss, 2, first=9)[0] == [1, 1, 0, 0]
    assert greedy([np.ones((4, 1), np.float32)], loss, 5, first=3)[0] == [1]


def test_few_labels_choose_more_networks():
    how = {"trials": 16, "epochs": 3, "space": {"lr": (3e-3, 3e-2), "optimizer": ["adamw"]}}
    few = found(validation=frame(40, 1), **how)
    for name in ("sign", "value"):
        assert (np.array(few.weights[name]) > 0).sum() >= 4
    assert len({member.partition("@")[0] for member in few.members}) >= 3


def test_a_pool_of_nothing_and_members_without_a_loss():
    assert greedy([], float, 3) == ([], float("inf"))
    good = np.zeros((2, 1), np.float32)
    counts, _ = greedy([good * np.nan, good], lambda mean: float(np.abs(mean).sum()), 5)
    assert counts == [0, 1]


def test_the_ensemble_is_better_than_its_networks_on_the_rows_that_chose_it():
    ensemble = found()
    last = ensemble.rounds[-1]
    for name in ("sign", "value"):
        losses = [row[f"{name}/loss"] for row in ensemble.rounds]
        assert losses == sorted(losses, reverse=True)
        assert last[f"{name}/loss"] <= last[f"{name}/single"] + 1e-9
        assert sum(ensemble.weights[name]) == pytest.approx(1)
        shares = [each.weights[name] for each in ensemble.trials]
        assert sum(shares) == pytest.approx(1)
    found_again = ensemble.evaluate(frame(120, 1))
    for name in ("sign", "value"):
        assert found_again[name]["loss"] == pytest.approx(last[f"{name}/loss"], rel=1e-5)
    assert last["members"] == len(ensemble) <= 64


def test_networks_are_those_of_a_training_by_itself():
    """Each from a seed of its own; rounds, and what others do, change nothing."""
    ensemble = found(trials=3)
    number, epoch = map(int, ensemble.members[0].split("@"))
    settings = ensemble.trials[number].settings
    encoder = pt.encoder.MLP([16], dropout=settings["dropout"])
    alone = pt.MultiTaskModel(pt.Inputs.from_frame(frame()), tasks=TASKS, encoder=encoder, seed=number)
    trainer = pt.Trainer(alone, pt.optim.AdamW(lr=settings["lr"]), seed=number, threads=1)
    trainer.fit(frame(), epochs=epoch, batch_size=settings["batch_size"], progress=False)
    ours = ensemble[0].state_dict()
    assert all(np.array_equal(value, ours[name]) for name, value in alone.state_dict().items())


def test_members_are_weighed_by_task(tmp_path):
    ensemble = found()
    x = frame(40, 2)
    each = [one.predict(x) for one in ensemble]
    mean, spread, middle = ensemble.predict(x, spread=True, quantiles=[0.25, 0.5])
    for name in ("sign", "value"):
        weights = np.array(ensemble.weights[name])
        values = np.stack([one[name] for one in each]).astype(np.float64)
        expected = np.tensordot(weights, values, 1)
        assert np.allclose(mean[name], expected, rtol=1e-5)
        assert middle[name].shape == (*mean[name].shape, 2)
        if (weights > 0).sum() > 1:
            rest = 1 - (weights**2).sum()
            apart = np.sqrt(np.tensordot(weights, (values - expected) ** 2, 1) / rest)
            assert np.allclose(spread[name], apart, rtol=1e-3, atol=1e-6)
        there = np.sort(np.unique(values[weights > 0], axis=0), axis=0)
        assert ((middle[name][..., 0] >= there[0] - 1e-6) & (middle[name][..., 0] <= middle[name][..., 1])).all()
    ensemble.save(tmp_path / "models")
    again = pt.load(tmp_path / "models")
    assert again.weights == ensemble.weights
    assert all(np.array_equal(value, mean[name]) for name, value in again.predict(x).items())
    assert again.evaluate(x)["sign"] == ensemble.evaluate(x)["sign"]
    kept = json.loads((tmp_path / "models" / "ensemble.json").read_text())
    (tmp_path / "models" / "ensemble.json").write_text(json.dumps({"weights": kept["weights"][1:]}))
    with pytest.raises(ValueError, match=r"ensemble\.json is not what `save` wrote: it has weights of"):
        pt.Ensemble.load(tmp_path / "models")


@pytest.mark.parametrize("loss", ["mean_squared", "mean_absolute", "huber", "quantile", "gaussian_nll", "poisson"])
def test_one_model_is_evaluated_as_by_its_trainer(loss):
    data = frame()
    data["value"] = data.value.abs().round()
    scale = None if loss == "poisson" else "standardize"
    tasks = [pt.Task("sign", classes=["no", "yes"]), pt.Task("value", loss=loss, scale=scale)]
    one = pt.MultiTaskModel(pt.Inputs.from_frame(data), tasks=tasks, encoder=pt.encoder.MLP([8]))
    trainer = pt.Trainer(one, lr=0.01)
    trainer.fit(data, epochs=2, progress=False)
    weights = np.random.default_rng(0).integers(0, 3, len(data)).astype(float)
    for how in ({}, {"weights": weights}):
        theirs, ours = trainer.evaluate(data, **how), pt.Ensemble([one]).evaluate(data, **how)
        assert ours.columns() == pytest.approx(theirs.columns(), rel=1e-4)


def test_variances_are_those_of_the_mixture():
    tasks = [pt.Task("value", loss="gaussian_nll", outputs=2)]
    models = [pt.MultiTaskModel(3, tasks=tasks, encoder=pt.encoder.MLP([8]), seed=seed) for seed in range(3)]
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    each = np.stack([one.predict(x)["value"] for one in models]).astype(np.float64)
    means, variances = each[..., 0], each[..., 1]
    mixture = variances.mean(0) + means.var(0)
    found = pt.Ensemble(models).predict(x)["value"]
    assert found.shape == (20, 2, 2)
    assert np.allclose(found[..., 0], means.mean(0), atol=1e-6)
    assert np.allclose(found[..., 1], mixture, rtol=1e-5)
    y = np.random.default_rng(1).normal(size=(20, 2)).astype(np.float32)
    expected = np.mean(0.5 * (np.log(mixture) + (y - means.mean(0)) ** 2 / mixture))
    assert pt.Ensemble(models).evaluate((x, y))["value"]["loss"] == pytest.approx(expected, rel=1e-5)


def test_classes_and_labels_are_judged_by_the_log_loss():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 3)).astype(np.float32)
    kinds = rng.integers(-1, 3, 50)
    tags = rng.integers(0, 2, (50, 2)).astype(np.float32)
    tags[rng.random((50, 2)) < 0.3] = np.nan
    tasks = [pt.Task("kind", classes=3), pt.Task("tags", loss="binary_cross_entropy", outputs=2)]
    models = [pt.MultiTaskModel(3, tasks=tasks, encoder=pt.encoder.MLP([8]), seed=seed) for seed in range(2)]
    p = pt.Ensemble(models).predict(x)
    there = kinds >= 0
    known = ~np.isnan(tags)
    right = np.where(tags == 1, p["tags"], 1 - p["tags"])[known]
    results = pt.Ensemble(models).evaluate((x, kinds, tags))
    assert results["kind"]["loss"] == pytest.approx(-np.log(p["kind"][there, kinds[there]]).mean(), rel=1e-5)
    assert results["tags"]["loss"] == pytest.approx(-np.log(right).mean(), rel=1e-5)
    rows = models[0].reader.read((x, kinds, tags))
    assert len(Averaged(models[0].tasks[0], "classes", rows, 0)) == there.sum()
    assert len(Averaged(models[0].tasks[1], "binary", rows, 1)) == known.sum()


@pytest.mark.parametrize("at", [0, 3, 7, 14, 24])
def test_a_run_that_was_killed_goes_on_with_the_same_bits(tmp_path, monkeypatch, at):
    how = {"patience": 1, "epochs": 8, "space": {**SPACE, "lr": (3e-3, 0.3)}}
    whole = found(**how)
    assert any(each.state == "stopped" for each in whole.trials)
    back = interrupted(monkeypatch, Running, "train", at)
    with pytest.raises(KeyboardInterrupt):
        found(path=tmp_path, **how)
    back()
    again = found(path=tmp_path, **how)
    assert bits(again) == bits(whole)
    assert [each.losses for each in again.trials] == [each.losses for each in whole.trials]
    monkeypatch.setattr(Running, "train", lambda self, until: pytest.fail("a network trained again"))
    assert bits(found(path=tmp_path, **how)) == bits(whole)
    with pytest.raises(ValueError, match=r"`path`: the search in .* has another `members`"):
        found(path=tmp_path, members=3, **how)


def test_threads_change_nothing():
    import torch

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = found()
        torch.set_num_threads(3)
        assert bits(found()) == bits(one)
    finally:
        torch.set_num_threads(before)


def test_a_network_that_fails_stays_behind(caplog):
    ensemble = found(space={"lr": [1e30, 0.01], "optimizer": ["sgd"]}, trials=2)
    states = [each.state for each in ensemble.trials]
    assert sorted(states) == ["complete", "failed"]
    failed = next(each for each in ensemble.trials if each.state == "failed")
    assert failed.error is not None
    assert failed.weights == {"sign": 0, "value": 0}
    with pytest.raises(ValueError, match="every network failed, the first one"):
        found(space={"lr": [1e30], "optimizer": ["sgd"]})


def test_a_table_needs_nothing_else():
    tasks = [pt.Task("sign", classes=["no", "yes"]), pt.Task("value")]
    ensemble = found(tasks, space=None, trials=3, epochs=2)
    assert ensemble.tasks[1].scale == "standardize"
    assert tasks[1].scale is None
    assert set(ensemble.trials[0].settings) >= {"lr", "hidden", "dropout", "weight_decay"}
    assert ensemble[0].inputs.columns is not None
    assert abs(ensemble.predict(frame(10, 3))["value"] - 50).max() < 100
    assert re.search(r"\d members, from [1-3] of 3 networks, after 2 epochs", repr(ensemble))
    assert "<table>" in ensemble._repr_html_()
    assert ensemble.best in [each.settings for each in ensemble.trials]
    table = ensemble.to_frame()
    assert len(table) == 3
    assert table["sign/weight"].sum() == pytest.approx(1)
    assert [axis.get_ylabel() for axis in ensemble.plot()] == ["validation/sign/loss", "validation/value/loss"]


def test_settings_that_are_the_same_everywhere_are_in_the_frame_alone():
    space = {"optimizer": ["adamw"], "lr": [1e-3, 1e-2], "embed": ["piecewise", None]}
    ensemble = found(space=space, trials=4, epochs=1)
    header = repr(ensemble).split("\n")[0].split()
    assert "optimizer" not in header
    assert {"lr", "embed"} <= set(header)
    assert {"optimizer", "lr", "embed"} <= set(ensemble.to_frame())
    assert "Piecewise()" in repr(ensemble)


def test_networks_embed_numbers_in_ways_of_their_own(tmp_path):
    ways = [None, pt.embedding.Piecewise(width=4, bins=5), pt.embedding.Periodic(width=4, frequencies=3)]
    how = {"space": {"embed": ways, "lr": [0.01]}, "trials": 3, "epochs": 3}
    ensemble = found(**how)
    assert {repr(each.settings["embed"]) for each in ensemble.trials} == set(map(repr, ways))
    for member, one in zip(ensemble.members, ensemble, strict=True):
        settings = ensemble.trials[int(member.partition("@")[0])].settings
        assert one.inputs.embed == settings["embed"]
        if isinstance(settings["embed"], pt.embedding.Piecewise):
            edges = one.state_dict()["embedding.numeric.edges"]
            first = pt.Inputs.from_frame(frame()).transform(frame(), TASKS, "data")[0][:, 0]
            assert edges[0, 0] == pytest.approx(first.min(), rel=1e-5)
            assert edges[0, -1] == pytest.approx(first.max(), rel=1e-5)
    ensemble.save(tmp_path / "models")
    again = pt.Ensemble.load(tmp_path / "models").predict(frame(20, 4))
    assert all(np.array_equal(again[name], value) for name, value in ensemble.predict(frame(20, 4)).items())
    searched = pt.search(model(), frame(), how["space"], trials=3, epochs=2, validation=frame(99, 1), progress=False)
    assert searched.model.inputs.embed == searched.best["embed"]
    with pytest.raises(ValueError, match="unknown embedding 'piecewize'; did you mean `piecewise`"):
        found(space={"embed": ["piecewize"]})


def test_networks_read_bins_or_do_not(tmp_path):
    inputs = pt.Inputs.from_frame(frame(), exclude=["sign", "value"], bins=6)
    binned = pt.MultiTaskModel(inputs, tasks=TASKS, encoder=pt.encoder.MLP([16]))
    space = {"bins": [True, False], "embed": [None, "piecewise"], "lr": [0.01]}
    ensemble = found(binned, space=space, trials=4, epochs=3)
    assert sorted({each.settings["bins"] for each in ensemble.trials}) == [False, True]
    tables = {}
    for member, one in zip(ensemble.members, ensemble, strict=True):
        settings = ensemble.trials[int(member.partition("@")[0])].settings
        tables[settings["bins"]] = [f"embedding.{j}.weight" in one.state_dict() for j in range(4)]
    assert tables == {True: [True] * 4, False: [False] * 4}
    for one in ensemble:
        assert one.inputs.columns is not None
        assert one.inputs.categorical == inputs.categorical
    ensemble.save(tmp_path / "models")
    again = pt.Ensemble.load(tmp_path / "models").predict(frame(20, 4))
    assert all(np.array_equal(again[name], value) for name, value in ensemble.predict(frame(20, 4)).items())
    assert "bins" in pt.search(TASKS, frame(), ensemble="greedy", trials=1, epochs=1, progress=False).trials[0].settings
    with pytest.raises(ValueError, match=r"'bins' says whether bins of numbers are read, and the inputs have none"):
        found(space={"bins": [True, False]})
    with pytest.raises(TypeError, match=r"`space\['bins'\]` should be a list of True and False; got \(0, 1\)"):
        found(binned, space={"bins": (0, 1)})


def test_columns_of_weights_and_groups_are_no_features():
    data = frame()
    data["w"] = 1.0
    data["who"] = np.arange(len(data)) // 3
    tasks = [pt.Task("sign", classes=["no", "yes"]), pt.Task("value")]
    how = {"trials": 2, "epochs": 1, "validation": pt.data.Split(0.3, groups="who"), "weights": "w"}
    ensemble = found(tasks, data=data, space=None, **how)
    assert ensemble[0].inputs.names == list("abcd")
    searched = pt.search(tasks, data, {"lr": [0.01, 0.02]}, **how, progress=False)
    assert searched.model.inputs.names == list("abcd")


def test_a_task_without_held_out_labels_takes_what_the_others_chose():
    held = frame(120, 1)
    held["value"] = np.nan
    ensemble = found(validation=held, trials=2, epochs=2)
    assert ensemble.weights["value"] == [1 / len(ensemble)] * len(ensemble)


def test_time_may_end_it():
    ensemble = found(budget=1e-9)
    assert len(ensemble.rounds) == 1
    assert {each.state for each in ensemble.trials} == {"halted"}


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"ensemble": "bagging"}, '`ensemble` should be "greedy" or None'),
        ({"monitor": "sign/auroc"}, "`monitor` is of a search without `ensemble`"),
        ({"eta": 3}, "`eta` is of a search without `ensemble`"),
        ({"members": 0}, "`members` should be"),
        ({"budget": "9x"}, "`budget` should be seconds"),
        ({"ensemble": None, "budget": 9}, "`budget` is of a search with"),
    ],
)
def test_what_cannot_be_is_refused(how, says):
    with pytest.raises(ValueError, match=says):
        found(**how)


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ({"sgn": [1, 1]}, "`weights`: unknown task 'sgn'"),
        ({"sign": [1]}, "a number for each of 2 models"),
        ({"sign": [0, 0]}, "not all of them 0"),
        ({"sign": [-1, 2]}, "at least 0"),
        ({"value": [1, 1]}, "model 1 has no such task"),
    ],
)
def test_weights_that_cannot_be_are_refused(weights, says):
    with pytest.raises(ValueError, match=says):
        pt.Ensemble([model(), model().remove_task("value")], weights=weights)


def test_quantiles_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="`quantiles` should be a list of numbers between 0 and 1"):
        pt.Ensemble([model()]).predict(frame(5), quantiles=[0, 0.5])


DIVERGES = {"space": {"lr": [3.0, 1e-3], "optimizer": ["sgd"]}, "trials": 2, "epochs": 9}


@pytest.mark.parametrize(
    ("owner", "name", "at"),
    [
        *((Running, "train", at) for at in (5, 6, 7, 8, 12)),
        *((Greedy, "_write", at) for at in (2, 4, 5, 9)),
    ],
)
def test_a_run_in_which_a_network_fails_goes_on_with_the_same_bits(tmp_path, monkeypatch, owner, name, at):
    whole = found(**DIVERGES)
    failed = next(each for each in whole.trials if each.state == "failed")
    assert failed.epochs > 1
    back = interrupted(monkeypatch, owner, name, at)
    with pytest.raises(KeyboardInterrupt):
        found(path=tmp_path, **DIVERGES)
    back()
    for _ in range(2):
        again = found(path=tmp_path, **DIVERGES)
        assert bits(again) == bits(whole)
        assert [(each.state, each.epochs) for each in again.trials] == [
            (each.state, each.epochs) for each in whole.trials
        ]


def test_an_ensemble_outlives_its_networks():
    ensemble = found(space={"lr": [3.0], "optimizer": ["sgd"]}, trials=1, epochs=30)
    assert ensemble.trials[0].state == "failed"
    assert np.isfinite(ensemble.rounds[-1]["sign/loss"])


def test_a_folder_knows_from_its_first_round_what_it_is_of(tmp_path, monkeypatch):
    (tmp_path / "member-best.safetensors").write_text("somebody's")
    back = interrupted(monkeypatch, Running, "train", 1)
    with pytest.raises(KeyboardInterrupt):
        found(path=tmp_path)
    back()
    with pytest.raises(ValueError, match="has another `validation data`"):
        found(path=tmp_path, validation=frame(120, 7))
    found(path=tmp_path)
    assert (tmp_path / "member-best.safetensors").read_text() == "somebody's"
    asked = json.loads((tmp_path / "ensemble.json").read_text())["asked"]
    (tmp_path / "ensemble.json").write_text(json.dumps({"asked": asked}))
    with pytest.raises(ValueError, match="is no result of a search"):
        found(path=tmp_path)


def test_distributions_far_from_zero_are_judged_as_near_it():
    x = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    y = 10_000 + x[:, 0].astype(np.float64)
    one = pt.MultiTaskModel(3, tasks=[pt.Task("y", loss="gaussian_nll")], encoder=pt.encoder.MLP([8]))
    state = one.state_dict()
    state["heads.y.bias"] += np.array([10_000, 0], np.float32)
    one.load_state_dict(state)
    ours = pt.Ensemble([one, one]).evaluate((x, y))["y"]["loss"]
    assert ours == pytest.approx(pt.Trainer(one).evaluate((x, y))["y"]["loss"], rel=1e-3)


def test_a_data_set_a_task():
    data = frame()
    sets = {"sign": data.drop(columns="value"), "value": data.drop(columns="sign")}
    ensemble = found(data=sets, validation={"sign": frame(99, 1), "value": frame(99, 2)}, trials=2, epochs=2)
    results = ensemble.evaluate({"sign": frame(99, 3), "value": frame(99, 4)})
    assert results["sign"] == pytest.approx(ensemble.evaluate(frame(99, 3))["sign"], rel=1e-5)
    assert results["value"] == pytest.approx(ensemble.evaluate(frame(99, 4))["value"], rel=1e-5)


def test_schedules_may_watch_and_weights_be_searched():
    trainer = pt.Trainer(model(), schedule=pt.schedule.Plateau(monitor="validation/loss", patience=1))
    ensemble = found(trainer, space={"weight/sign": (5.0, 9.0)}, trials=2, epochs=3)
    assert [task.weight for task in ensemble.tasks] == [1.0, 0.5]
    results = ensemble.evaluate(frame(99, 3))
    assert results.loss == pytest.approx(results["sign"]["loss"] + 0.5 * results["value"]["loss"])


def test_modules_of_the_callers_own(tmp_path, own_seed):
    from torch import nn

    tasks = [pt.Task("sign", classes=2, head=nn.Linear), pt.Task("value")]
    x = frame()[list("abcd")].to_numpy(np.float32)
    y = (x[:, 0] > 0).astype(np.int64), x[:, 1]
    made = pt.MultiTaskModel(4, tasks=tasks, encoder=pt.encoder.MLP([16]))
    how = {"data": (x, *y), "validation": (x, *y), "space": None, "trials": 2, "epochs": 2, "path": tmp_path}
    ensemble = found(made, **how)
    assert bits(found(made, **how)) == bits(ensemble)
    assert "hidden" not in ensemble.trials[0].settings


def test_scales_and_losses_of_their_own():
    data = frame()
    one, other = model(), model()
    pt.Trainer(one).fit(data, epochs=1, progress=False)
    pt.Trainer(other).fit(data.assign(value=100 * data.value), epochs=1, progress=False)
    both = pt.Ensemble([one, other])
    results = both.evaluate(data)
    error = both.predict(data)["value"] - data.value
    assert results["value"]["loss"] == pytest.approx(np.mean((error / data.value.std(ddof=0)) ** 2), rel=1e-5)
    assert np.isfinite(results["sign"]["loss"])
    logarithms = pt.MultiTaskModel(4, tasks=[pt.Task("value", scale="log1p")])
    curves = pt.MultiTaskModel(4, tasks=[pt.Task("value", scale="quantile")])
    x = data[list("abcd")].to_numpy(np.float32), data.value.to_numpy()
    for each in (logarithms, curves):
        pt.Trainer(each).fit(x, epochs=1, progress=False)
    assert np.isnan(pt.Ensemble([logarithms, curves]).evaluate(x)["value"]["loss"])
    quantiles = pt.MultiTaskModel(4, tasks=[pt.Task("value", loss="quantile")])
    with pytest.raises(ValueError, match="task `value` should be the same in all"):
        pt.Ensemble([quantiles, pt.MultiTaskModel(4, tasks=[pt.Task("value")])])


def test_positions_and_numbers_that_nobody_asked_for_are_refused():
    with pytest.raises(ValueError, match="`members` is of a search with"):
        found(ensemble=None, members=3)
    inputs = pt.Inputs(positions={"tokens": pt.Inputs(categorical=[9])})
    tagger = pt.MultiTaskModel(inputs, tasks=[pt.Task("tag", classes=3, per="tokens")], encoder=pt.encoder.MLP([4]))
    rows = {"tokens": [[1, 2], [3]] * 9}, [[0, 1], [2]] * 9
    with pytest.raises(ValueError, match="task `tag`: an ensemble predicts for rows; got a task of tokens"):
        found(tagger, data=rows, validation=rows)


def test_models_of_different_tasks_are_judged_and_opened_each_by_its_own(tmp_path):
    """A task without labels has no loss, whoever else has some; a Python loss goes to the models of its task."""

    def squared(y, t):
        return (y - t).square()

    data = frame()
    inputs = pt.Inputs.from_frame(data, exclude=["sign", "value"])
    tasks = [pt.Task("value", loss=squared)], [pt.Task("sign", classes=["no", "yes"])]
    models = [pt.MultiTaskModel(inputs, tasks=each, encoder=pt.encoder.MLP([4])) for each in tasks]
    ensemble = pt.Ensemble(models)
    x, targets = data[list("abcd")], {"value": data.value.to_numpy(), "sign": data.sign.to_numpy()}
    whole = ensemble.evaluate(data)
    assert ensemble.evaluate((x, targets)) == whole
    lacking = ensemble.evaluate(data.assign(value=np.nan))
    assert lacking["sign"] == whole["sign"]
    assert np.isnan(lacking["value"]["loss"])
    with pytest.raises(ValueError, match="no row has a label for any task"):
        ensemble.evaluate(data.assign(value=np.nan, sign=None))
    ensemble.save(tmp_path / "models")
    again = pt.load(tmp_path / "models", losses={"value": squared})
    assert again.evaluate(data) == whole
    with pytest.raises(ValueError, match="`losses`: unknown task 'price'; the models have `value`, `sign`"):
        pt.load(tmp_path / "models", losses={"price": squared})


def test_the_bar_counts_epochs_of_all_networks(capsys):
    found(progress=True, trials=2, epochs=3)
    shown = capsys.readouterr().err
    assert "3/3" in shown
    assert "epoch" in shown.split("3/3")[-1]
    assert "network" not in shown


def test_what_is_known_of_the_run_is_kept(tmp_path):
    """Settings are what they were, components and embeddings too."""
    space = {"lr": (3e-3, 3e-2), "optimizer": [pt.optim.AdamW(weight_decay=0.1), "adam"], "hidden": [(16,), [8, 8]],
             "embed": [None, pt.embedding.Piecewise(width=4, bins=6), pt.embedding.Periodic(width=4)],
             "encoder/activation": ["relu", None]}  # fmt: skip
    ensemble = found(space=space, trials=8, epochs=2)
    ensemble.save(tmp_path / "models")
    again = pt.load(tmp_path / "models")
    assert isinstance(again, pt.GreedyEnsemble)
    assert again.best == ensemble.best
    assert [vars(each) for each in again.trials] == [vars(each) for each in ensemble.trials]
    assert (again.members, again.rounds) == (ensemble.members, ensemble.rounds)
    drawn = {type(value) for each in again.trials for value in each.settings.values()}
    assert {pt.optim.AdamW, pt.embedding.Piecewise, pt.embedding.Periodic, str, list, float, type(None)} <= drawn
    assert repr(again) == repr(ensemble)
    pd.testing.assert_frame_equal(again.to_frame(), ensemble.to_frame())
    again.save(tmp_path / "again")
    assert repr(pt.load(tmp_path / "again")) == repr(ensemble)
    # Others know nothing of a run, and a folder of theirs says nothing of one.
    again[:1].save(tmp_path / "one")
    assert type(pt.load(tmp_path / "one")) is pt.Ensemble
    other = pickle.loads(pickle.dumps(ensemble))
    assert repr(other) == repr(ensemble)
    assert other.trials == ensemble.trials


def test_settings_may_be_numbers_of_numpy(tmp_path):
    each = [pt.embedding.Piecewise(width=np.int64(4), bins=6), pt.embedding.Periodic(width=4, scale=np.float32(0.1))]
    ensemble = found(space={"embed": each, "lr": list(np.array([1e-3, 1e-2], np.float32))}, trials=4, epochs=1)
    ensemble.save(tmp_path)
    again = pt.load(tmp_path)
    assert [each.settings for each in again.trials] == [each.settings for each in ensemble.trials]
    assert again.weights == ensemble.weights


def without(at):
    return lambda about: {key: value for key, value in about.items() if key != at}


@pytest.mark.parametrize("change", [
    without("rounds"), without("kind"), without("trials"),
    lambda about: "x", lambda about: [1], lambda about: {**about, "kind": ["greedy"]},
    lambda about: {**about, "kind": "another"}, lambda about: {**about, "trials": []},
    lambda about: {**about, "rounds": [3]}, lambda about: {**about, "members": about["members"][1:]},
    lambda about: {**about, "members": [1] * len(about["members"])},
    lambda about: {**about, "rounds": [{**about["rounds"][-1], "sign/loss": None}]},
    lambda about: {**about, "trials": [{**about["trials"][0], "weights": None}]},
    lambda about: {**about, "trials": [{**about["trials"][0], "settings": {"optimizer": {
        "component": "optim", "name": "nope"}}}]},
])  # fmt: skip
def test_a_folder_that_says_something_else_of_the_run_is_refused(tmp_path, change):
    found(trials=2, epochs=2).save(tmp_path)
    file = tmp_path / "ensemble.json"
    kept = json.loads(file.read_text())
    file.write_text(json.dumps({**kept, "about": change(kept["about"])}))
    with pytest.raises(ValueError, match=r"is not what `save` wrote"):
        pt.load(tmp_path)


def test_a_save_that_does_not_end_leaves_no_ensemble(tmp_path, monkeypatch):
    """And none of an earlier one with other models."""
    ensemble = found(trials=2, epochs=2)
    ensemble.save(tmp_path)

    def breaks(self, path):
        raise OSError("no space left")

    monkeypatch.setattr(pt.MultiTaskModel, "save", breaks)
    with pytest.raises(OSError, match="no space left"):
        ensemble.save(tmp_path)
    with pytest.raises(ValueError, match=r"is not what `save` wrote: `save` did not end"):
        pt.load(tmp_path)


def test_a_class_of_the_same_name_takes_no_folder(tmp_path):
    found(trials=2, epochs=2).save(tmp_path)

    class GreedyEnsemble(pt.Ensemble):
        pass

    assert type(pt.load(tmp_path)) is pt.GreedyEnsemble is not GreedyEnsemble


def test_failed_networks_are_kept_too(tmp_path):
    ensemble = found(space={"lr": [1e-3, 1e30]}, trials=2, epochs=2)
    assert {each.state for each in ensemble.trials} > {"failed"}
    ensemble.save(tmp_path / "models")
    assert repr(pt.load(tmp_path / "models").trials) == repr(ensemble.trials)
