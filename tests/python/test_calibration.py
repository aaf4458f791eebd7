"""Temperatures: the likeliest one, errors of calibration by hand, what keeps them, and what forgets them."""

import copy
import logging
import pickle

import matplotlib.pyplot as pyplot
import numpy as np
import polytask as pt
import pytest
import torch
from conftest import Data, make_model, same_bits
from polytask.model import calibrating, temperature
from polytask.results.calibration import Calibrated, Calibration, Reliability
from sklearn.metrics import roc_auc_score


def noisy(rows=300, seed=1):
    """Labels that a network which has learned the signs is too sure of."""
    data = Data(rows, seed)
    rng = np.random.default_rng(seed)
    data.income = np.where(rng.random(rows) < 0.2, 1 - data.income, data.income)
    data.topics[rng.random(data.topics.shape) < 0.3] = np.nan
    return data


@pytest.fixture(scope="module")
def trained():
    model = make_model()
    pt.Trainer(model, lr=0.02).fit(Data(300).whole, epochs=12, progress=False)
    return model


@pytest.fixture
def fitted(trained):
    return copy.deepcopy(trained)


def softened(model, x, temperatures):
    """What predictions should be, by torch."""
    raw = {name: torch.tensor(z, dtype=torch.float64) for name, z in model.predict(x, raw=True).items()}
    return {
        "income": (raw["income"] / temperatures["income"]).softmax(1).numpy(),
        "topics": (raw["topics"] / temperatures["topics"]).sigmoid().numpy(),
    }


def nll(model, data, weights=None):
    """The mean negative log-likelihood of labelled rows and cells, by hand."""
    p = {name: values.astype(np.float64) for name, values in model.predict(data.x).items()}
    weights = np.ones(len(data.x)) if weights is None else weights
    income = -np.log(p["income"][np.arange(len(data.x)), data.income])
    y = data.topics
    there = ~np.isnan(y)
    cells = -np.log(np.where(y == 1, p["topics"], 1 - p["topics"]))
    shares = np.broadcast_to(weights[:, None], y.shape)
    return {
        "income": np.average(income, weights=weights),
        "topics": np.average(cells[there], weights=shares[there]),
    }


def test_the_temperature_is_the_likeliest_and_predict_applies_it(fitted):
    data = noisy()
    before, raw = fitted.predict(data.x), fitted.predict(data.x, raw=True)
    plain = nll(fitted, data)
    found = fitted.calibrate(data.whole)
    assert list(found) == ["income", "topics"]
    assert found.temperatures == fitted.temperatures
    for name, expected in softened(fitted, data.x, found.temperatures).items():
        np.testing.assert_allclose(fitted.predict(data.x)[name], expected, rtol=1e-5, atol=1e-7)
    assert np.array_equal(fitted.predict(data.x)["age"], before["age"])
    assert same_bits(fitted.predict(data.x, raw=True), raw)
    for name, value in nll(fitted, data).items():
        assert found[name].nll == pytest.approx((plain[name], value), rel=1e-5)
        assert value < plain[name] - 1e-3
        for factor in (0.98, 1.02):
            other = copy.deepcopy(fitted)
            other.temperatures = {**found.temperatures, name: factor * found[name].temperature}
            assert nll(other, data)[name] > value
    assert found["income"].labels == 300
    assert found["topics"].labels == (~np.isnan(data.topics)).sum()
    # Decisions at the middle stay; 0.5 is where the sign of a logit turns.
    assert np.array_equal(fitted.classes(fitted.predict(data.x))["income"], before["income"].argmax(1))


def test_row_weights_count_as_repetitions(fitted):
    data = noisy(120)
    times = np.random.default_rng(0).integers(0, 4, 120)
    weighted = fitted.calibrate((data.x, data.targets, times.astype(np.float64)))
    again = np.repeat(np.arange(120), times)
    repeated = fitted.calibrate((data.x[again], {name: y[again] for name, y in data.targets.items()}))
    for name in weighted:
        assert weighted[name].temperature == pytest.approx(repeated[name].temperature, rel=1e-9)
        assert weighted[name].ece == pytest.approx(repeated[name].ece, rel=1e-9)
    # By the argument, and from batches.
    parts = [(data.x[i : i + 50], {n: y[i : i + 50] for n, y in data.targets.items()}, times[i : i + 50])
             for i in (0, 50, 100)]  # fmt: skip
    assert fitted.calibrate(data.whole, weights=times)["income"].temperature == weighted["income"].temperature
    # Rows of a product that are computed beside others differ by roundings.
    assert fitted.calibrate(parts)["topics"].temperature == pytest.approx(weighted["topics"].temperature, rel=1e-5)


def test_newton_finds_the_minimum_from_far_away():
    rng = np.random.default_rng(0)
    for scale in (0.02, 1.0, 60.0):
        for kind in ("classes", "binary"):
            raw = rng.normal(size=(2000, 3))
            p = temperature.probabilities(kind, raw)
            drawn = rng.random((2000, 1)) < p.cumsum(1) if kind == "classes" else rng.random((2000, 3)) < p
            known = drawn.argmax(1) if kind == "classes" else drawn.astype(float)
            found = temperature.fitted(kind, scale * raw, known, np.ones(2000))
            assert found == pytest.approx(scale, rel=0.15)
            values = [
                temperature.likelihood(kind, scale * raw, known, np.ones(2000), found * f) for f in (0.99, 1, 1.01)
            ]
            assert values[1] == min(values)


def test_expected_calibration_error_by_hand():
    said = np.array([0.05, 0.15, 0.95, 0.95, 1.0])
    happened = np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    share = np.full(5, 0.2)
    found = Reliability.of(said, happened, share, 10)
    # The bins 0, 1 and 9 have 1, 1 and 3 rows.
    assert found.error == pytest.approx((0.05 + 0.85 + 3 * abs(2.9 / 3 - 2 / 3)) / 5)
    assert np.isnan(found.said[2])
    assert found.weights.tolist() == pytest.approx([0.2, 0.2, *[0] * 7, 0.6])
    # Of several classes it is the probability of the likeliest one.
    p = np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])
    said, right, share = temperature.judged("classes", p, np.array([0, 2, -1]), np.array([1.0, 3.0, 1.0]))
    assert said.tolist() == [0.5, 0.8]
    assert right.tolist() == [1, 0]
    assert share.tolist() == [0.25, 0.75]


def test_an_error_that_did_not_fall_is_said():
    bins = [Reliability.of(np.array([p]), np.array([1.0]), np.ones(1), 10) for p in (0.9, 0.8)]
    for order, said in ((bins, True), (bins[::-1], False)):
        each = Calibrated(1.5, 40, (0.5, 0.4), tuple(order), True)
        sentence = Calibration({"a": each}).sentences[0]
        assert sentence.startswith("Probabilities of `a` were surer than they should be: logits are divided by 1.5.")
        assert ("calibration error did not fall by that, 0.1 before and 0.2 after" in sentence) is said


def test_files_pickles_copies_and_modules_have_it(fitted, tmp_path):
    data = noisy()
    fitted.calibrate(data.whole)
    fitted.thresholds(data.whole, keep=True)
    expected = fitted.predict(data.x)
    decided = fitted.classes(expected)
    fitted.save(tmp_path / "model.safetensors")
    loaded = pt.MultiTaskModel.load(tmp_path / "model.safetensors")
    for other in (loaded, copy.deepcopy(fitted), copy.copy(fitted), pickle.loads(pickle.dumps(fitted))):
        assert same_bits(other.predict(data.x), expected)
        assert same_bits(other.classes(expected), decided)
        assert other.kept_thresholds == fitted.kept_thresholds
    module = fitted.to_torch()
    for name, outputs in module(**fitted.tensors(data.x)).items():
        np.testing.assert_allclose(outputs.detach(), expected[name], atol=1e-6)
    raw = fitted.to_torch(raw=True)(**fitted.tensors(data.x))
    np.testing.assert_allclose(raw["income"].detach(), fitted.predict(data.x, raw=True)["income"], atol=1e-5)
    assert same_bits(pt.MultiTaskModel.from_torch(module).predict(data.x), expected)
    called = fitted(torch.from_numpy(data.x), raw=False)["income"]
    np.testing.assert_allclose(called.detach(), expected["income"], atol=1e-6)
    fitted.temperatures = {}
    assert not np.allclose(fitted(torch.from_numpy(data.x), raw=False)["income"].detach(), expected["income"])


def test_a_model_that_was_not_calibrated_is_as_it_was(fitted, tmp_path):
    data = noisy()
    fitted.save(tmp_path / "before")
    before = fitted.predict(data.x)
    fitted.calibrate(data.whole)
    assert not same_bits(fitted.predict(data.x), before)
    fitted.temperatures = {}
    assert same_bits(fitted.predict(data.x), before)
    fitted.save(tmp_path / "after")
    assert (tmp_path / "after").read_bytes() == (tmp_path / "before").read_bytes()


def test_evaluation_is_of_what_is_predicted(trained):
    tasks = [pt.Task("a", classes=3, metrics=["auroc", "accuracy", {"brier": lambda p, y: (p**2).sum(1).mean()}])]
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 4)), rng.integers(0, 3, 200)
    model = pt.MultiTaskModel(4, tasks=tasks)
    trainer = pt.Trainer(model)
    plain = trainer.evaluate((x, {"a": y}))["a"]
    model.temperatures = {"a": 0.1}
    found = trainer.evaluate((x, {"a": y}))["a"]
    p = model.predict(x)["a"]
    assert found["brier"] == pytest.approx(float((p.astype(np.float64) ** 2).sum(1).mean()), rel=1e-5)
    assert found["accuracy"] == plain["accuracy"]
    sides = [roc_auc_score(y == k, p[:, k]) for k in range(3)]
    assert found["auroc"] == pytest.approx(np.mean(sides), abs=1e-6)
    assert found["loss"] == plain["loss"]


def test_learning_forgets_it(fitted, tmp_path, caplog):
    data = noisy()

    def again():
        model = copy.deepcopy(fitted)
        model.temperatures = {"income": 2.0}
        model.thresholds(data.whole, keep=True, tasks="topics")
        return model

    for learn in [
        lambda model: pt.Trainer(model).fit(data.whole, epochs=1, progress=False),
        lambda model: pt.Trainer(model).step(data.whole),
        lambda model: model.load_state_dict(make_model(1).state_dict()),
        lambda model: model.start_from(make_model(1), "encoder"),
    ]:
        model = again()
        caplog.clear()
        with caplog.at_level(logging.WARNING, "polytask"):
            learn(model)
        assert "temperatures and thresholds are forgotten" in caplog.text
        assert model.temperatures == model.kept_thresholds == {}
    # What was refused has changed nothing.
    model = again()
    for wrong, says in [
        (lambda: pt.Trainer(model).fit((data.x[:, :3], data.targets), epochs=1), r"got \[300, 3\]"),
        (lambda: model.load_state_dict({}), "encoder"),
        (lambda: model.start_from(make_model(), "nothing"), "nothing"),
    ]:
        with pytest.raises(ValueError, match=says):
            wrong()
        assert model.temperatures == {"income": 2.0}
        assert list(model.kept_thresholds) == ["topics"]
    assert model.remove_task("age").temperatures == {"income": 2.0}
    assert model.remove_task("income").temperatures == {}
    assert model.add_task(pt.Task("more")).temperatures == {}
    # A checkpoint has what the model had, and brings it back.
    trainer = pt.Trainer(model)
    trainer.save(tmp_path / "checkpoint")
    trainer.fit(data.whole, epochs=1, progress=False)
    trainer.restore(tmp_path / "checkpoint")
    assert model.temperatures == {"income": 2.0}
    model.temperatures = {"income": 3.0}
    assert model.kept_thresholds == {}


def test_other_losses_and_positions():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3)).astype(np.float32)
    y = rng.integers(0, 3, 60)
    own = pt.Task("own", classes=3, loss=lambda z, t: torch.nn.functional.cross_entropy(3 * z, t, reduction="none"))
    focal = pt.Task("focal", classes=3, loss=pt.loss.Focal())
    model = pt.MultiTaskModel(3, tasks=[own, focal])
    found = model.calibrate((x, y, y))
    for name in ("own", "focal"):
        z = torch.tensor(model.predict(x, raw=True)[name] / found[name].temperature)
        np.testing.assert_allclose(model.predict(x)[name], z.softmax(1), rtol=1e-5)
    tokens = [rng.integers(0, 5, n).tolist() for n in (2, 0, 3, 4)]
    tags = [[0, 1], [], [1, -1, 0], [0, 0, 1, 1]]
    tagger = pt.MultiTaskModel(
        pt.Inputs(positions={"tokens": pt.Inputs(categorical=[5])}), tasks=[pt.Task("tag", classes=2, per="tokens")]
    )
    found = tagger.calibrate(({"tokens": tokens}, {"tag": tags}, np.array([1.0, 1, 0, 2])))["tag"]
    assert found.labels == 6
    raw = np.concatenate(tagger.predict({"tokens": tokens}, raw=True)["tag"])
    expected = temperature.fitted(
        "classes", raw, np.array([0, 1, 1, -1, 0, 0, 0, 1, 1]), np.array([1.0, 1, 0, 0, 0, 2, 2, 2, 2])
    )
    assert found.temperature == (1.0 if expected is None else expected)


def test_no_temperature_where_there_is_no_best(fitted):
    data = Data(100, 3)
    decided = fitted.classes(fitted.predict(data.x))
    right = (data.x, {"income": decided["income"], "topics": decided["topics"].astype(float)})
    found = fitted.calibrate(right)
    assert found.temperatures == {"income": 1.0, "topics": 1.0}
    assert "no temperature is best" in repr(found)
    wrong = fitted.calibrate((data.x, {"income": 1 - decided["income"]}))
    assert wrong["income"].temperature == 1.0
    assert fitted.temperatures == {}


def test_what_is_shown(fitted):
    found = fitted.calibrate(noisy().whole, bins=5)
    assert "were surer than they should be: logits are divided by" in repr(found)
    assert "<table>" in found._repr_html_()
    frame = found.to_frame()
    assert frame.loc["income", "nll after"] == found["income"].nll[1]
    axes = found.plot()
    assert [axis.get_title() for axis in axes] == ["income", "topics"]
    points = axes[0].lines[2].get_xydata()
    said = found["income"].reliability[1]
    np.testing.assert_allclose(points[:, 0], said.said[~np.isnan(said.said)])
    assert pickle.loads(pickle.dumps(found)).temperatures == found.temperatures
    pyplot.close("all")
    with pytest.raises(KeyError, match="no task 'incme'; did you mean `income`"):
        found["incme"]


def test_wrong_input_is_refused(fitted):
    data = noisy(20)
    none = np.full(20, -1)
    for call, says in [
        (
            lambda: fitted.calibrate(data.whole, tasks="age"),
            "no task 'age'.*classification tasks are `income`, `topics`",
        ),
        (lambda: fitted.calibrate(data.whole, bins=0), "`bins` should be a whole number of at least 1"),
        (lambda: fitted.calibrate((data.x, {"age": data.age})), "no label for any classification task"),
        (
            lambda: fitted.calibrate((data.x, {"income": none, "age": data.age}), tasks=["income"]),
            "no label for task `income`",
        ),
        (lambda: fitted.calibrate((data.x[:, :2], data.targets)), r"shape \[20, 8\]; got \[20, 2\]"),
        (lambda: setattr(fitted, "temperatures", {"age": 1.0}), "no task 'age'"),
        (lambda: setattr(fitted, "temperatures", {"income": 0.0}), "above 0; got 0.0"),
        (lambda: pt.MultiTaskModel(2, tasks=[pt.Task("a")]).calibrate(data.whole), "there are no classification tasks"),
    ]:
        with pytest.raises(ValueError, match=says):
            call()
    for call, says in [
        (lambda: fitted.calibrate(data.whole, tasks=3), "`tasks` should be a list of names"),
        (lambda: setattr(fitted, "temperatures", 3.0), "`temperatures` should be a dict"),
        (lambda: fitted.calibrate(data.whole, sample_weight=1), "here it is called `weights`"),
    ]:
        with pytest.raises(TypeError, match=says):
            call()
    assert fitted.temperatures == {}


def test_several_data_sets_and_other_encoders():
    data = noisy(80)
    model = pt.MultiTaskModel(8, tasks=make_model().tasks, encoder=pt.encoder.TabM([16]))
    found = model.calibrate({"income": (data.x[:50], data.income[:50]), "topics": (data.x[20:], data.topics[20:])})
    expected = model.predict(data.x)
    apart = pt.MultiTaskModel(8, tasks=make_model().tasks, encoder=pt.encoder.TabM([16]))
    assert found["income"].temperature == pytest.approx(
        apart.calibrate((data.x[:50], {"income": data.income[:50]}))["income"].temperature, rel=1e-6
    )
    assert found["topics"].labels == (~np.isnan(data.topics[20:])).sum()
    module = model.to_torch()
    for name, outputs in module(**model.tensors(data.x)).items():
        np.testing.assert_allclose(outputs.detach(), expected[name], atol=1e-6)


def test_weights_of_classes_are_warned_of(caplog):
    x, y = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32), np.arange(200) % 5 == 0
    for loss, said in ((pt.loss.BinaryCrossEntropy(pos_weight="balanced"), True), ("binary_cross_entropy", False)):
        caplog.clear()
        model = pt.MultiTaskModel(3, tasks=[pt.Task("rare", loss=loss)], encoder=pt.encoder.MLP([4]))
        pt.Trainer(model).fit((x, y), epochs=1, progress=False)
        model.calibrate((x, y))
        assert ("`rare` learned with `pos_weight`, which moves all its probabilities" in caplog.text) == said


def members(trained):
    """Two models, one of them with a temperature of its own."""
    one, other = copy.deepcopy(trained), make_model(2)
    one.temperatures = {"income": 0.5}
    return pt.Ensemble([one, other], weights={"income": [3, 1]})


def test_an_ensemble_has_temperatures_of_its_mean(trained, tmp_path):
    ensemble, data = members(trained), noisy()
    plain, apart = ensemble.predict(data.x, spread=True)
    before = nll(ensemble, data)
    found = ensemble.calibrate(data.whole)
    assert list(found) == ["income", "topics"]
    assert found.temperatures == ensemble.temperatures
    p, spread = ensemble.predict(data.x, spread=True)
    assert same_bits(spread, apart)
    assert np.array_equal(p["age"], plain["age"])
    powers = plain["income"].astype(np.float64) ** (1 / found["income"].temperature)
    np.testing.assert_allclose(p["income"], powers / powers.sum(1, keepdims=True), rtol=1e-5)
    ones, zeros = (each.astype(np.float64) ** (1 / found["topics"].temperature)
                   for each in (plain["topics"], 1 - plain["topics"].astype(np.float64)))  # fmt: skip
    np.testing.assert_allclose(p["topics"], ones / (ones + zeros), rtol=1e-5)
    for name, value in nll(ensemble, data).items():
        assert found[name].nll == pytest.approx((before[name], value), rel=1e-5)
        assert value < before[name] - 1e-3
        for factor in (0.98, 1.02):
            ensemble.temperatures = {**found.temperatures, name: factor * found[name].temperature}
            assert nll(ensemble, data)[name] > value
    ensemble.temperatures = found.temperatures
    # Again with the same rows it is the same, whatever was in force.
    assert ensemble.calibrate(data.whole).temperatures == found.temperatures
    ensemble.save(tmp_path / "models")
    assert same_bits(pt.Ensemble.load(tmp_path / "models").predict(data.x), p)
    assert same_bits(pickle.loads(pickle.dumps(ensemble)).predict(data.x), p)
    assert ensemble[:1].temperatures == {}
    # A pickle of an earlier version knows of none.
    new = ("_temperatures", "_thresholds", "tasks", "kinds")
    state = {name: each for name, each in vars(ensemble).items() if name not in new}
    early = pt.Ensemble.__new__(pt.Ensemble)
    early.__setstate__({**state, "_tasks": ensemble.tasks})
    assert vars(early).keys() == vars(ensemble).keys()
    assert same_bits(early.predict(data.x), plain)
    assert early.temperatures == early.kept_thresholds == {}
    ensemble.temperatures = {}
    assert same_bits(ensemble.predict(data.x), plain)


def test_an_ensemble_is_evaluated_as_it_predicts(trained):
    ensemble, data = members(trained), noisy()
    for model in ensemble:
        model.metrics[0].extend(pt.MultiTaskModel(2, tasks=[pt.Task("a", classes=2, metrics=["log_loss"])]).metrics[0])
    for temperatures in ({}, {"income": 4.0}):
        ensemble.temperatures = temperatures
        p = ensemble.predict(data.x)["income"]
        expected = -np.log(p[np.arange(len(p)), data.income].astype(np.float64)).mean()
        assert ensemble.evaluate(data.whole)["income"]["log_loss"] == pytest.approx(expected, rel=1e-5)


def test_no_order_is_lost_by_an_ensemble():
    p = np.array([0, 1e-30, 1e-8, 0.5, 1 - 2**-24, 1], np.float32)[:, None]
    for t in (0.7, 1.0, 3.0):
        assert (np.diff(calibrating.tempered("binary", p, t)[:, 0].astype(np.float64)) >= 0).all()
    cooler = calibrating.tempered("binary", p, 3.0)[:, 0]
    assert (np.diff(cooler) > 0).all()
    assert cooler[0] < 1e-14
    assert calibrating.tempered("classes", np.array([[0, 1]], np.float32), 2.0)[0, 1] == 1


def test_temperatures_of_an_ensemble_that_are_none(trained, tmp_path):
    ensemble, data = members(trained), noisy(40)
    with pytest.raises(ValueError, match=r"`temperatures`: no task 'age'"):
        ensemble.temperatures = {"age": 2.0}
    with pytest.raises(ValueError, match=r"`tasks`: no task 'age'"):
        ensemble.calibrate(data.whole, tasks=["age"])
    with pytest.raises(ValueError, match="have no label for any classification task"):
        ensemble.calibrate((data.x, {"age": data.age}))
    ensemble.save(tmp_path / "models")
    file = tmp_path / "models" / "ensemble.json"
    file.write_text(file.read_text().replace('"temperatures": {}', '"temperatures": {"income": -1}'))
    with pytest.raises(ValueError, match=r"ensemble\.json is not what `save` wrote: `temperatures` of task `income`"):
        pt.Ensemble.load(tmp_path / "models")


def test_an_ensemble_learned_with_weights_of_classes_is_warned_of(caplog):
    data = noisy(60)
    tasks = [pt.Task("income", classes=2, loss=pt.loss.CrossEntropy(class_weights="balanced"))]
    ensemble = pt.Ensemble([pt.MultiTaskModel(data.x.shape[1], tasks=tasks, seed=seed) for seed in range(2)])
    with caplog.at_level(logging.WARNING, logger="polytask"):
        ensemble.calibrate((data.x, {"income": data.income}))
    assert "task `income` learned with `class_weights`" in caplog.text
