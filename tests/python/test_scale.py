"""Targets in a scale of their own: learned from the training rows, inverted by predictions and metrics."""

import json
import logging

import numpy as np
import pandas as pd
import polytask as pt
import pytest
import torch
from conftest import same_bits
from torch.utils.data import DataLoader, TensorDataset

FIT = {"epochs": 3, "shuffle": False, "progress": False}
SCALES = ["standardize", "robust", "quantile", "log1p"]


def data(rows=200, seed=0):
    """Features, and a target in hundreds that is skewed."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 3)).astype(np.float32)
    return x, (120 + 30 * np.exp(0.5 * x[:, 0]) + rng.normal(size=rows)).astype(np.float32)


def trainer_of(*tasks, **more):
    return pt.Trainer(pt.MultiTaskModel(3, tasks=list(tasks), encoder=pt.encoder.MLP([16])), lr=0.01, **more)


def by_hand(scale, y):
    """The scaled targets and the way back."""
    if scale == "standardize":
        return (y - y.mean()) / y.std(), lambda z: z * y.std() + y.mean()
    if scale == "robust":
        low, middle, high = np.quantile(y, [0.25, 0.5, 0.75])
        spread = (high - low) / 1.3489795003921634
        return (y - middle) / spread, lambda z: z * spread + middle
    if scale == "log1p":
        logs = np.log1p(y)
        return (logs - logs.mean()) / logs.std(), lambda z: np.expm1(z * logs.std() + logs.mean())
    shares = (np.arange(len(y)) + 0.5) / len(y)
    z = torch.special.ndtri(torch.from_numpy(shares)).numpy()
    points = np.sort(y)
    return np.interp(y, points, z), lambda outputs: np.interp(outputs, z, points)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("loss", ["mean_squared", "mean_absolute", "huber", "quantile"])
def test_a_scaled_task_trains_as_one_on_targets_scaled_by_hand(scale, loss):
    x, y = data()
    ours, plain = trainer_of(pt.Task("y", loss=loss, scale=scale)), trainer_of(pt.Task("y", loss=loss))
    scaled, back = by_hand(scale, y.astype(np.float64))
    history = ours.fit((x, y), **FIT)
    want = plain.fit((x, scaled.astype(np.float32)), **FIT)
    np.testing.assert_allclose(history["loss"], want["loss"], rtol=1e-4)
    predicted, raw = ours.model.predict(x)["y"], plain.model.predict(x)["y"]
    np.testing.assert_allclose(predicted, back(raw.astype(np.float64)), rtol=1e-4)
    np.testing.assert_allclose(ours.model.predict(x, raw=True)["y"], raw, rtol=1e-3, atol=1e-4)
    point = predicted if loss != "quantile" else predicted[:, 1]
    scores = ours.evaluate((x, y))["y"]
    assert scores["mae"] == pytest.approx(np.abs(point - y).mean(), rel=1e-5)
    assert scores["r2"] == pytest.approx(1 - ((point - y) ** 2).sum() / ((y - y.mean()) ** 2).sum(), rel=1e-4)
    assert scores["loss"] == pytest.approx(plain.evaluate((x, scaled.astype(np.float32)))["y"]["loss"], rel=1e-4)


@pytest.mark.parametrize("scale", ["standardize", "robust"])
def test_a_predicted_variance_is_scaled_back(scale):
    x, y = data()
    ours = trainer_of(pt.Task("y", loss="gaussian_nll", scale=scale))
    plain = trainer_of(pt.Task("y", loss="gaussian_nll"))
    scaled, back = by_hand(scale, y.astype(np.float64))
    ours.fit((x, y), **FIT)
    plain.fit((x, scaled.astype(np.float32)), **FIT)
    predicted, raw = ours.model.predict(x)["y"], plain.model.predict(x)["y"].astype(np.float64)
    spread = back(1.0) - back(0.0)
    np.testing.assert_allclose(predicted[:, 0], back(raw[:, 0]), rtol=1e-4)
    np.testing.assert_allclose(predicted[:, 1], raw[:, 1] * spread**2, rtol=1e-3)


def test_several_outputs_each_have_their_scale_and_gaps_do_not_count():
    x, y = data()
    both = np.stack([y, 1000 * x[:, 1] - 5], axis=1)
    both[::7, 0], both[3::5, 1] = np.nan, np.nan
    masked = np.ma.masked_array(np.nan_to_num(both, nan=-77.0), np.isnan(both))
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "y1": both[:, 0], "y2": both[:, 1]})
    for scale in SCALES[:3]:
        trainers = [trainer_of(pt.Task("y", columns=["y1", "y2"], scale=scale)) for _ in range(3)]
        for trainer, given in zip(trainers, [(x, both), (x, masked), frame], strict=True):
            trainer.fit(given, **FIT)
        assert all(same_bits(trainers[0].model.state_dict(), each.model.state_dict()) for each in trainers[1:])
        predicted = trainers[0].model.predict(x)["y"]
        assert predicted.shape == (200, 2)
        assert np.abs(predicted[:, 0] - 150).max() < 150
        scaling = trainers[0].model.tasks[0].scaling
        known = both[~np.isnan(both[:, 1]), 1].astype(np.float64)
        np.testing.assert_allclose(scaling.inverse(scaling.forward(both, ""))[:, 1][~np.isnan(both[:, 1])], known)
        if scale == "standardize":
            assert scaling.centers[1] == pytest.approx(known.mean())
            assert scaling.spreads[1] == pytest.approx(known.std())


def test_it_is_learned_from_the_training_rows_alone_and_once():
    x, y = data()
    y[150:] += 1000
    weights = np.r_[np.ones(100), np.zeros(100)]
    task = pt.Task("y", scale="standardize")
    explicit = trainer_of(task)
    history = explicit.fit((x[:150], y[:150]), validation=(x[150:], y[150:]), **FIT)
    assert explicit.model.tasks[0].scaling.centers == [pytest.approx(y[:150].mean(dtype=np.float64))]
    assert history["validation/y/mae"][-1] > 900
    split = trainer_of(task)
    split.fit((x, y), validation=0.25, **FIT)
    order = np.random.default_rng(0).permutation(200)
    assert split.model.tasks[0].scaling.centers == [pytest.approx(y[order[50:]].mean(dtype=np.float64))]
    weighted = trainer_of(task)
    weighted.fit((x, y), weights=weights, **FIT)
    assert weighted.model.tasks[0].scaling.centers == [pytest.approx(y[:100].mean(dtype=np.float64))]
    before = explicit.model.predict(x)["y"], explicit.model.tasks[0].scaling
    explicit.fit((x, y + 5000), **FIT)
    assert explicit.model.tasks[0].scaling == before[1]
    assert task.scaling is None
    failing = trainer_of(task)
    with pytest.raises(ValueError, match="should have shape"):
        failing.fit((x, y), validation=(x[:, :2], y), **FIT)
    assert failing.model.tasks[0].scaling is None


def test_loaders_learn_it_in_a_pass_of_their_own():
    x, y = data()
    task = pt.Task("y", scale="standardize")
    want = trainer_of(task)
    history = want.fit((x, y), **FIT)
    batches = [(x[i : i + 32], y[i : i + 32]) for i in range(0, 200, 32)]
    for form in (batches, DataLoader(TensorDataset(torch.tensor(x), torch.tensor(y)), 32, generator=torch.Generator())):
        trainer = trainer_of(task)
        assert trainer.fit(form, validation=form, **FIT)["y/loss"] == pytest.approx(history["y/loss"], rel=1e-6)
        assert same_bits(trainer.model.state_dict(), want.model.state_dict())
        assert trainer.evaluate(form)["y"] == pytest.approx(want.evaluate((x, y))["y"], rel=1e-5)
    for form in (pt.data.Mix({"y": (x, y)}), {"y": batches}):
        trainer = trainer_of(task)
        trainer.fit(form, validation=form, **FIT)
        assert trainer.model.tasks[0].scaling == want.model.tasks[0].scaling
        assert trainer.evaluate((x, y))["y"]["r2"] == pytest.approx(trainer.evaluate(form)["y"]["r2"], rel=1e-5)
    with pytest.raises(ValueError, match="`data` can be read only once, and the scale of task `y` is learned before"):
        trainer_of(task).fit(iter(batches), **{**FIT, "epochs": 1})


def test_a_step_needs_a_scale_that_is_known():
    x, y = data()
    trainer = trainer_of(pt.Task("y", scale="robust"))
    with pytest.raises(ValueError, match="task `y` has scale='robust', which `fit` learns from its training rows"):
        trainer.step((x, y))
    assert trainer.steps == 0
    trainer.fit((x, y), **FIT)
    assert trainer.step((x, y))["loss"] == pytest.approx(trainer_loss_before_step(x, y), rel=1e-5)


def trainer_loss_before_step(x, y):
    trainer = trainer_of(pt.Task("y", scale="robust"))
    trainer.fit((x, y), **FIT)
    return trainer.evaluate((x, y)).loss


@pytest.mark.parametrize("scale", SCALES)
def test_it_is_saved_and_goes_where_its_head_goes(scale, tmp_path):
    x, y = data()
    trainer = trainer_of(pt.Task("y", scale=scale), pt.Task("other"))
    trainer.fit((x, y, x[:, 1]), **FIT)
    want = trainer.model.predict(x)["y"]
    trainer.model.save(tmp_path / "m.safetensors")
    loaded = pt.MultiTaskModel.load(tmp_path / "m.safetensors")
    again = trainer_of(pt.Task("y", scale=scale), pt.Task("other"))
    trainer.save(tmp_path / "c.safetensors")
    again.restore(tmp_path / "c.safetensors")
    copied, from_file = (trainer_of(pt.Task("y", scale=scale), pt.Task("other")).model for _ in range(2))
    copied.start_from(trainer.model)
    from_file.start_from(tmp_path / "m.safetensors")
    more = trainer.model.add_task(pt.Task("z", scale="standardize"))
    for model in (loaded, again.model, copied, from_file, more, more.remove_task("z")):
        np.testing.assert_array_equal(model.predict(x)["y"], want)
    assert pt.Trainer(loaded).evaluate((x, y, x[:, 1]))["y"] == trainer.evaluate((x, y, x[:, 1]))["y"]
    trunk = trainer_of(pt.Task("y", scale=scale), pt.Task("other")).model
    trunk.start_from(trainer.model, "encoder")
    assert trunk.tasks[0].scaling is None
    assert more.tasks[2].scaling is None


def test_a_resumed_run_ends_with_the_same_bits(tmp_path):
    x, y = data()

    def trainer():
        return trainer_of(pt.Task("y", scale="quantile"), callbacks=[pt.Checkpoint(tmp_path / "runs", every=1)])

    want = trainer_of(pt.Task("y", scale="quantile"))
    want.fit((x, y), epochs=4, validation=0.2, progress=False)
    trainer().fit((x, y), epochs=2, validation=0.2, progress=False)
    resumed = trainer()
    resumed.fit((x, y), epochs=4, validation=0.2, progress=False, resume=tmp_path / "runs")
    assert resumed.epochs == 4
    assert same_bits(resumed.model.state_dict(), want.model.state_dict())
    np.testing.assert_array_equal(resumed.model.predict(x)["y"], want.model.predict(x)["y"])


def test_it_is_shown():
    x, y = data()
    trainer = trainer_of(pt.Task("y", scale="standardize"), pt.Task("z"))
    assert "y trains, and its loss is, in a scale: standardize\n" in repr(trainer.model.summary()) + "\n"
    trainer.fit((x, y, y), **FIT)
    summary = trainer.model.summary()
    mean, deviation = y.mean(dtype=np.float64), y.std(dtype=np.float64)
    line = f"y trains, and its loss is, in a scale: standardize, {mean:.4g} +- {deviation:.4g}"
    assert line in repr(summary)
    assert line in summary._repr_html_()
    assert list(summary.scales) == ["y"]
    assert repr(trainer.model.tasks[0]) == "Task('y', scale='standardize')"
    assert "scale" not in json.dumps(pt.Task("y").describe())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: pt.Task("y", scale="zscore"),
            ValueError,
            "task `y`: `scale` should be one of `standardize`, `robust`",
        ),
        (lambda: pt.Task("y", scale=2.0), TypeError, "task `y`: `scale` should be one of .*; got 2.0"),
        (
            lambda: pt.Task("y", classes=2, scale="standardize"),
            ValueError,
            "does not suit CrossEntropy; it is for loss",
        ),
        (lambda: pt.Task("y", loss="poisson", scale="robust"), ValueError, "'robust' does not suit Poisson; it is for"),
        (
            lambda: pt.Task("y", loss="binary_cross_entropy", scale="robust"),
            ValueError,
            "does not suit BinaryCrossEntropy",
        ),
        (
            lambda: pt.Task("y", loss="gaussian_nll", scale="log1p"),
            ValueError,
            "'log1p' does not suit GaussianNLL; `standardize`, `robust` do",
        ),
        (lambda: pt.Task("y", loss=lambda z, y: z, scale="log1p"), ValueError, "does not suit a Python loss"),
    ],
)
def test_what_has_no_scale_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_targets_without_a_place_on_the_scale():
    x, y = data()
    task = pt.Task("y", scale="log1p")
    y[3] = -1
    with pytest.raises(ValueError, match='the targets of task `y` should be above -1 for scale="log1p"; got -1'):
        trainer_of(task).fit((x, y), **FIT)
    constant = trainer_of(
        pt.Task("y", scale="standardize"), pt.Task("z", scale="robust"), pt.Task("w", scale="quantile")
    )
    constant.fit((x, *[np.full(200, 1e6)] * 3), **FIT)
    for name, predicted in constant.model.predict(x).items():
        np.testing.assert_allclose(predicted, 1e6, rtol=1e-5 if name != "w" else 0)
    nothing = trainer_of(pt.Task("y", scale="standardize"), pt.Task("z"))
    nothing.fit((x, {"z": x[:, 0]}), **FIT)
    assert nothing.model.tasks[0].scaling is None


def test_a_task_in_its_own_units_no_longer_drowns_the_others(caplog):
    """Blood pressure beside two decisions, as its units have it and standardised."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 3)).astype(np.float32)
    pressure = 130 + 20 * np.tanh(x[:, 0] + x[:, 1]) + rng.normal(size=600)
    ill, smokes = (x[:, 1] - x[:, 2] > 0).astype(int), (x[:, 0] * x[:, 2] > 0).astype(int)
    scores = {}
    for scale in (None, "standardize"):
        caplog.clear()
        tasks = [pt.Task("pressure", scale=scale), pt.Task("ill", classes=2), pt.Task("smokes", classes=2)]
        trainer = trainer_of(*tasks)
        trainer.fit((x[:400], pressure[:400], ill[:400], smokes[:400]), epochs=30, progress=False)
        scores[scale] = trainer.evaluate((x[400:], pressure[400:], ill[400:], smokes[400:]))
        assert ("the first loss of task `pressure`" in caplog.text) == (scale is None)
    assert scores["standardize"]["pressure"]["r2"] > max(0.9, scores[None]["pressure"]["r2"])
    assert scores["standardize"]["smokes"]["accuracy"] > scores[None]["smokes"]["accuracy"]


def test_of_several_networks_one_says_that_losses_are_far_apart(caplog):
    x, _ = data()
    tasks = [pt.Task("a"), pt.Task("b")]
    given = x, {"a": 1000 * x[:, 0], "b": x[:, 1]}
    quick = {"epochs": 1, "progress": False}
    for call in (
        lambda model: pt.Trainer(model).fit(given, seeds=3, **quick),
        lambda model: pt.search(model, given, ensemble="greedy", trials=4, **quick),
        lambda model: pt.search(model, given, space={"lr": [1e-3, 1e-2]}, **quick),
        lambda model: pt.compare(
            {"a": model, "b": pt.Trainer(model, weighting="uncertainty")}, given, seeds=2, **quick
        ),
        lambda model: pt.search(model, given, space={"weighting": ["uncertainty", "equal"]}, **quick),
        lambda model: pt.search(model, given, space={"weighting": ["equal", "uncertainty"]}, **quick),
    ):
        caplog.clear()
        call(pt.MultiTaskModel(x.shape[1], tasks=tasks))
        assert caplog.text.count("the first loss of task `a`") == 1


def test_losses_far_apart_are_said_once_where_nothing_evens_them_out(caplog):
    x, y = data()
    small = x[:, 1] * 0.5

    def said(weighting="equal", weights=(1.0, 1.0), form=None, **more):
        caplog.clear()
        trainer = trainer_of(pt.Task("a", weight=weights[0]), pt.Task("b", weight=weights[1]), weighting=weighting)
        with caplog.at_level(logging.WARNING, "polytask"):
            trainer.fit(form or (x, y, small), **FIT)
            trainer.fit(form or (x, y, small), **FIT)
        return caplog.text.count("the first loss of task `a`")

    assert said() == said("mean") == said("static") == said(form=[(x, y, small)] * 2) == 1
    assert said(form={"a": (x, y), "b": (x, small)}) == 1
    assert said(pt.weighting.Static({"a": 1e-4})) == said(pt.weighting.Static([1e-4, 1.0])) == 0
    assert said(weights=(1e-4, 1.0)) == said(form=(x, small, small)) == said(weights=(1.0, 0.0)) == 0
    assert said("uncertainty") == said("scale_invariant") == said("pcgrad") == 0
    alone = trainer_of(pt.Task("a"))
    caplog.clear()
    alone.fit((x, y), **FIT)
    assert caplog.text == ""


@pytest.mark.parametrize("scale", ["standardize", "robust", "quantile"])
def test_targets_far_from_zero_are_predicted_as_finely_as_they_are_judged(scale, tmp_path):
    """Seconds since 1970, which single precision knows by steps of 128."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 2)).astype(np.float32)
    y = 1.7e9 + 100.0 * x[:, 0].astype(np.float64)
    model = pt.MultiTaskModel(2, tasks=[pt.Task("at", scale=scale, metrics=["rmse"]), pt.Task("gap", scale=scale)])
    data = x, {"at": y, "gap": 100.0 * x[:, 0]}
    pt.Trainer(model, lr=0.01).fit(data, epochs=20, progress=False)
    assert model.predict(x)["gap"].dtype == np.float32

    def rmse(predicted):
        return np.sqrt(np.mean(np.square(np.asarray(predicted, np.float64) - y)))

    assert rmse(model.predict(x)["at"]) < 20
    assert rmse(model.predict(x)["at"]) == pytest.approx(model.evaluate(data)["at"]["rmse"], rel=0.01)
    np.testing.assert_allclose(model.predict(x, batch_size=7)["at"], model.predict(x)["at"], rtol=0, atol=1e-3)
    assert rmse(pt.Ensemble([model, model]).predict(x)["at"]) < 20
    low, high = model.intervals(data).predict(x, 0.9)["at"].T
    assert 0.8 < np.mean((low <= y) & (y <= high)) <= 1
    assert (high - low < 100).all()
    model.save(tmp_path / "model")
    assert np.array_equal(pt.load(tmp_path / "model").predict(x)["at"], model.predict(x)["at"])
