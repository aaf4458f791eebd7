"""Scales of targets as a setting of a search: the same networks as by themselves, judged in one scale, and what is
refused.
"""

import pickle
import warnings

import numpy as np
import pandas as pd
import polytask as pt
import pytest
from conftest import interrupted
from polytask.data.scale import Scale
from polytask.model.averaged import Averaged
from polytask.studies import tabular
from polytask.studies.running import Running

TASKS = [pt.Task("price", scale="standardize", metrics=["mae"]), pt.Task("kind", classes=["no", "yes"])]
SCALES = ["standardize", "log1p", "robust", "quantile", None]


def frame(n=300, seed=0):
    rng = np.random.default_rng(seed)
    x = pd.DataFrame(rng.normal(size=(n, 3)), columns=list("abc"))
    x["price"] = np.exp(3 + 1.2 * x.a + 0.2 * rng.normal(size=n))
    x["kind"] = np.where(x.b > 0, "yes", "no")
    x.loc[rng.random(n) < 0.2, "price"] = np.nan
    return x


def model(**how):
    return pt.MultiTaskModel(pt.Inputs.from_frame(frame()), tasks=TASKS, encoder=pt.encoder.MLP([8]), **how)


def found(space, **how):
    said = {"trials": 5, "epochs": 3, "validation": frame(120, 1), "progress": False, "ensemble": "greedy", **how}
    return pt.search(model(), frame(), space, **said)


@pytest.mark.parametrize("scale", SCALES)
def test_a_network_is_that_of_a_training_in_its_scale(scale):
    ensemble = found({"scale/price": [scale]}, trials=1)
    (epoch,) = {int(each.partition("@")[2]) for each in ensemble.members[:1]}
    tasks = [pt.Task("price", scale=scale, metrics=["mae"]), TASKS[1]]
    alone = pt.MultiTaskModel(pt.Inputs.from_frame(frame()), tasks=tasks, encoder=pt.encoder.MLP([8]))
    pt.Trainer(alone, threads=1).fit(frame(), epochs=epoch, batch_size=256, progress=False)
    assert ensemble[0].tasks[0].scaling == alone.tasks[0].scaling
    ours = ensemble[0].state_dict()
    assert all(np.array_equal(value, ours[name]) for name, value in alone.state_dict().items())


def test_networks_of_all_scales_are_judged_in_that_of_the_task():
    """What chose is the squared error of the mean in units of the targets, by their deviation."""
    ensemble = found({"scale/price": SCALES}, epochs=8)
    assert {trial.settings["scale/price"] for trial in ensemble.trials} == set(SCALES)
    held_out = frame(120, 1)
    error = (ensemble.predict(held_out)["price"] - held_out.price) / frame().price.std(ddof=0)
    wanted = pytest.approx(np.nanmean(error**2), rel=1e-4)
    assert ensemble.rounds[-1]["price/loss"] == wanted
    assert ensemble.evaluate(held_out)["price"]["loss"] == wanted
    for trial in ensemble.trials:
        assert trial.losses["price"] >= ensemble.rounds[-1]["price/loss"]


def test_of_models_in_several_scales_the_loss_is_in_that_of_the_first_linear_one(tmp_path):
    tasks = [[pt.Task("price", scale=scale)] for scale in ("log1p", "robust", "quantile", "standardize")]
    models = [pt.MultiTaskModel(pt.Inputs.from_frame(frame(), exclude=["kind"]), tasks=each) for each in tasks]
    for each in models:
        pt.Trainer(each).fit(frame(), epochs=2, progress=False)
    ensemble = pt.Ensemble(models)
    ensemble.save(tmp_path / "models")
    low, high = np.nanquantile(frame().price, [0.25, 0.75])
    error = (ensemble.predict(frame())["price"] - frame().price) / ((high - low) / 1.3489795)
    loss = ensemble.evaluate(frame())["price"]["loss"]
    assert loss == pytest.approx(np.nanmean(error**2), rel=1e-4)
    assert pt.Ensemble.load(tmp_path / "models").evaluate(frame())["price"]["loss"] == loss


def test_distributions_in_other_units_are_judged_alike():
    """Mean and variance change their units, not what they say of the targets."""
    x, y = np.zeros((40, 1), np.float32), np.random.default_rng(0).normal(1e4, 3, size=40)
    one = pt.MultiTaskModel(1, tasks=[pt.Task("y", loss="gaussian_nll", scale="standardize")])
    one.reader.scales.learn(one.reader.read((x, y)))
    task = one.tasks[0]
    judged = Averaged(task, "values", one.reader.read((x, y)), 0)
    outputs = np.random.default_rng(1).uniform(0.5, 2, size=(40, 2))
    ours = judged.points(outputs, task.scaling)
    other = Scale("robust", [1e4 - 1], [7.0], [])
    natural = task.scaling.predicted(task.loss, outputs)
    theirs = np.stack([(natural[:, 0] - 1e4 + 1) / 7, natural[:, 1] / 49], axis=1)
    np.testing.assert_allclose(judged.points(theirs, other), ours, rtol=1e-5)
    np.testing.assert_allclose(judged.points(natural, None), ours, rtol=1e-5)
    assert np.abs(judged.points(theirs, task.scaling) - ours).max() > 0.1


@pytest.mark.parametrize("at", [2, 7, 13])
def test_a_run_that_was_killed_goes_on_with_the_same_bits(tmp_path, monkeypatch, at):
    space = {"scale/price": SCALES, "lr": (1e-3, 1e-1)}
    whole = found(space)
    back = interrupted(monkeypatch, Running, "train", at)
    with pytest.raises(KeyboardInterrupt):
        found(space, path=tmp_path)
    back()
    again = found(space, path=tmp_path)
    assert again.members == whole.members
    assert [trial.losses for trial in again.trials] == [trial.losses for trial in whole.trials]
    ours, theirs = (each.predict(frame(50, 2))["price"] for each in (again, whole))
    assert np.array_equal(ours, theirs)


def test_without_a_space_long_tails_are_tried_as_logarithms():
    data = frame(400).assign(even=np.arange(400.0), below=lambda x: x.price - 30, count=lambda x: x.price.round())
    rng = np.random.default_rng(3)
    # A short tail, and one whose logarithms have a longer one below.
    data = data.assign(short=np.exp(3 + 0.2 * rng.normal(size=400)), zeros=np.exp(12 + 0.5 * rng.normal(size=400)))
    data.loc[:3, "zeros"] = 0.0
    tasks = [pt.Task("price"), pt.Task("even"), pt.Task("below"), pt.Task("count", loss="poisson"), pt.Task("short"),
             pt.Task("zeros"), pt.Task("a", loss="huber"), pt.Task("kind", classes=2)]  # fmt: skip
    ensemble = pt.search(tasks, data, ensemble="greedy", trials=6, epochs=1, progress=False)
    scales = [{name: value for name, value in each.settings.items() if name.startswith("scale/")}
              for each in ensemble.trials]  # fmt: skip
    assert {tuple(each) for each in scales} == {("scale/price",)}
    assert {each["scale/price"] for each in scales} == {"standardize", "log1p"}
    ranked = pt.search(tasks[:1], data, trials=2, epochs=1, progress=False)
    assert all("scale/price" not in trial.settings for trial in ranked.trials)
    rows = model().reader.read(frame())
    chosen = pt.MultiTaskModel(3, tasks=[pt.Task("price", scale="robust"), TASKS[1]])
    assert "scale/price" in tabular.space(pt.Trainer(model()), [rows])
    assert "scale/price" not in tabular.space(pt.Trainer(chosen), [rows])


@pytest.mark.parametrize(
    ("space", "how", "says"),
    [
        ({"scale/price": ["sqrt"]}, {}, "`space['scale/price']` should be one of `standardize`"),
        ({"scale/price": (1, 2)}, {}, "`space['scale/price']` should be a list of choices; got a range"),
        ({"scale/cost": ["log1p"]}, {}, "`space`: 'scale/cost': unknown task 'cost'; there are `price`, `kind`"),
        ({"scale/kind": ["log1p"]}, {}, "`space['scale/kind']` of 'log1p' does not suit CrossEntropy"),
        ({"scale": ["log1p"]}, {}, "`space`: unknown setting 'scale'; did you mean `scale/price`?"),
        ({"scale/price": SCALES}, {"ensemble": None}, "`monitor`: losses of several scales say nothing of each"),
        ({"scale/price": SCALES}, {"ensemble": None, "monitor": "price/loss"}, "losses of several scales say nothing"),
    ],
)
def test_what_cannot_be_is_refused(space, how, says):
    with pytest.raises((TypeError, ValueError)) as error:
        found(space, **how)
    assert says in str(error.value)


def test_a_task_that_trains_in_logarithms_is_no_common_scale():
    task = pt.Task("price", scale="log1p")
    with pytest.raises(ValueError, match=r"`space`: 'scale/price': networks of all scales are judged in that of"):
        pt.search([task], frame(), {"scale/price": ["log1p", None]}, ensemble="greedy", progress=False)


def test_an_ensemble_of_logarithms_is_judged_on_any_targets(tmp_path):
    """In the scale in which it was chosen; a refund among prices is no reason to refuse all."""
    ensemble = found({"scale/price": ["log1p"]}, epochs=4)
    held_out = frame(120, 1)
    last = ensemble.rounds[-1]["price/loss"]
    ensemble.save(tmp_path / "models")
    for each in (ensemble, pt.load(tmp_path / "models"), pickle.loads(pickle.dumps(ensemble)), ensemble[:]):
        assert each.evaluate(held_out)["price"]["loss"] == pytest.approx(last, rel=1e-4)
    held_out.loc[held_out.price.first_valid_index(), "price"] = -25.0
    error = (ensemble.predict(held_out)["price"] - held_out.price) / frame().price.std(ddof=0)
    assert ensemble.evaluate(held_out)["price"]["loss"] == pytest.approx(np.nanmean(error**2), rel=1e-4)
    assert np.isfinite(ensemble.evaluate(held_out)["price"]["mae"])
    ensemble.intervals(held_out)


def test_logarithms_beyond_all_numbers_are_infinite_and_warn_of_nothing():
    x, y = np.zeros((5, 1), np.float32), np.arange(1.0, 6.0)
    one = pt.MultiTaskModel(1, tasks=[pt.Task("y", scale="standardize")])
    one.reader.scales.learn(one.reader.read((x, y)))
    judged = Averaged(one.tasks[0], "values", one.reader.read((x, y)), 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for size in (200.0, 2000.0):  # which single precision has not, and which double precision has not
            points = judged.points(np.full((5, 1), size, np.float32), Scale("log1p", [0.0], [1.0], []))
            assert np.isposinf(points).all()
            assert not np.isfinite(judged.loss(points))


def test_a_trainers_own_optimizer_stays():
    for optimizer in (pt.optim.SGD(lr=0.01), pt.optim.Adam(lr=0.02)):
        trainer = pt.Trainer(model(), optimizer)
        ensemble = pt.search(trainer, frame(), ensemble="greedy", trials=2, epochs=1, progress=False)
        assert not {"optimizer", "lr", "weight_decay"} & set(ensemble.trials[0].settings)
    ensemble = pt.search(pt.Trainer(model()), frame(), ensemble="greedy", trials=2, epochs=1, progress=False)
    assert {"optimizer", "lr", "weight_decay"} <= set(ensemble.trials[0].settings)


def test_where_all_is_chosen_networks_differ_by_their_seeds():
    inputs = pt.Inputs(categorical=[4])
    made = pt.MultiTaskModel(inputs, tasks=[pt.Task("kind", classes=2)], encoder=pt.encoder.TabM(members=2, hidden=[4]))
    codes = np.random.default_rng(0).integers(0, 4, (80, 1))
    data = {"categorical": codes}, {"kind": codes[:, 0] % 2}
    trainer = pt.Trainer(made, pt.optim.SGD(lr=0.1))
    assert not tabular.space(trainer)
    ensemble = pt.search(trainer, data, ensemble="greedy", trials=3, epochs=1, progress=False)
    assert len(ensemble.trials) == 3
    assert len({trial.losses["kind"] for trial in ensemble.trials}) == 3


def test_by_a_metric_scales_are_compared():
    ranked = found({"scale/price": SCALES}, ensemble=None, monitor="price/mae", epochs=9)
    error = np.abs(ranked.model.predict(frame(120, 1))["price"] - frame(120, 1).price)
    assert ranked.trials[0].values["price/mae"] == pytest.approx(np.nanmean(error), rel=1e-4)
    assert {trial.settings["scale/price"] for trial in ranked.trials} == set(SCALES)
    other = found({"scale/price": SCALES}, ensemble=None, monitor="kind/loss", epochs=1, trials=2)
    assert len(other.trials) == 2
    one = found({"scale/price": ["log1p"], "lr": [0.01]}, ensemble=None, epochs=1, trials=1)
    assert one.trials[0].settings["scale/price"] == "log1p"
