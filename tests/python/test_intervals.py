"""Prediction intervals: what they hold of simulated rows, by hand, and where there are too few rows."""

import copy
import logging
import math
import pickle
import warnings

import numpy as np
import polytask as pt
import pytest
from polytask.model.intervals import Band, PredictionIntervals, band
from polytask.model.labelled import Labelled

LOSSES = {
    "residual": pt.loss.MeanSquared(),
    "deviation": pt.loss.GaussianNLL(),
    "quantiles": pt.loss.Quantile([0.05, 0.5, 0.95]),
    "middle": pt.loss.Quantile([0.5]),
}


def rows(count, seed):
    """Numbers whose spread grows with the first feature."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 3)).astype(np.float32)
    return x, x[:, 1] + np.exp(0.7 * x[:, 0]) * rng.normal(size=count)


@pytest.fixture(scope="module")
def trained():
    tasks = [pt.Task(name, loss=loss, columns=["y"]) for name, loss in LOSSES.items()]
    model = pt.MultiTaskModel(3, tasks=tasks, encoder=pt.encoder.MLP([16]))
    x, y = rows(400, 0)
    pt.Trainer(model, lr=0.01).fit((x, dict.fromkeys(LOSSES, y)), epochs=15, batch_size=64, progress=False)
    return model


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
def test_they_hold_as_often_as_is_said(trained, level):
    """Over 600 draws of 25 rows, of which intervals made of 20 are to hold the others. Where scores have no ties they
    hold `ceil(21 level) / 21` on average, at least the level, and a 21st less if the row that comes were forgotten.
    """
    draws, known, further = 600, 20, 5
    x, y = rows(draws * (known + further), 1)
    held = {name: np.empty(draws) for name in LOSSES}
    outputs = trained.predict(x)
    for draw in range(draws):
        at = np.arange(draw * (known + further), (draw + 1) * (known + further))
        first, rest = at[:known], at[known:]
        for task in trained.tasks:
            flat = outputs[task.name].reshape(len(x), -1)
            there = {task.name: Labelled(flat[first], y[first, None], np.ones(known))}
            width = PredictionIntervals.of(trained, [task.name], there).widths(level)[task.name]
            low, high = band(task, flat[rest]).widened(width)[:, 0].T
            held[task.name][draw] = ((low <= y[rest]) & (y[rest] <= high)).mean()
    expected = math.ceil(21 * level) / 21
    assert expected >= level
    for each in held.values():
        error = each.std(ddof=1) / math.sqrt(draws)
        assert abs(each.mean() - expected) < 3.5 * error < 1 / 21


def test_the_numbers_by_hand(trained):
    x, y = rows(99, 2)
    found = trained.intervals((x, dict.fromkeys(LOSSES, y)))
    p = {name: values.astype(np.float64) for name, values in trained.predict(x).items()}
    ends = found.predict(x, 0.9)
    at = math.ceil(0.9 * 100) - 1
    half = np.sort(np.abs(y - p["residual"]))[at]
    np.testing.assert_allclose(ends["residual"], np.stack([p["residual"] - half, p["residual"] + half], 1))
    mean, deviation = p["deviation"][:, 0], np.sqrt(p["deviation"][:, 1])
    half = np.sort(np.abs(y - mean) / deviation)[at] * deviation
    np.testing.assert_allclose(ends["deviation"], np.stack([mean - half, mean + half], 1))
    assert np.ptp(half) > 0.1
    low, high = np.sort(p["quantiles"][:, [0, 2]], axis=1).T
    more = np.sort(np.maximum(low - y, y - high))[at]
    np.testing.assert_allclose(ends["quantiles"], np.stack([low - more, high + more], 1))
    half = np.sort(np.abs(y - p["middle"]))[at]
    np.testing.assert_allclose(ends["middle"], np.stack([p["middle"] - half, p["middle"] + half], 1))
    assert found.rows == {name: [99] for name in LOSSES}
    assert all(ends[name].shape == (99, 2) for name in LOSSES)


def test_scaled_targets_several_outputs_and_missing_labels():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)).astype(np.float32)
    y = np.stack([1000 * x[:, 0] + 300 * rng.normal(size=200), x[:, 1]], 1)
    tasks = [pt.Task("a", columns=["u", "v"], scale="standardize"),
             pt.Task("b", outputs=2, loss="gaussian_nll", scale="robust")]  # fmt: skip
    model = pt.MultiTaskModel(3, tasks=tasks, encoder=pt.encoder.MLP([8]))
    pt.Trainer(model, lr=0.01).fit((x, {"a": y, "b": y}), epochs=5, progress=False)
    some = y.copy()
    some[:150, 1] = np.nan
    some[0, 0] = np.nan
    weights = np.ones(200)
    weights[-20:] = 0
    found = model.intervals((x, {"a": some, "b": y}, weights))
    assert found.rows == {"a": [179, 30], "b": [180, 180]}
    ends = found.predict(x, 0.8)
    assert ends["a"].shape == ends["b"].shape == (200, 2, 2)
    residual = np.sort(np.abs(y[1:180, 0] - model.predict(x)["a"][1:180, 0].astype(float)))
    np.testing.assert_allclose(np.ptp(ends["a"][:, 0], axis=1), 2 * residual[math.ceil(0.8 * 180) - 1])
    b = model.predict(x)["b"].astype(float)
    scores = np.sort(np.abs(y[:180, 0] - b[:180, 0, 0]) / np.sqrt(b[:180, 0, 1]))
    half = scores[math.ceil(0.8 * 181) - 1] * np.sqrt(b[:, 0, 1])
    np.testing.assert_allclose(np.ptp(ends["b"][:, 0], axis=1), 2 * half)
    # On the rows that they are made of the share is that of the quantile among them.
    worth = found.coverage((x, {"a": some, "b": y}, weights), 0.8)
    held = [math.ceil(0.8 * (n + 1)) for n in (179, 30)]
    assert worth["a"]["rows"] == 209
    assert worth["a"]["coverage"] == pytest.approx(sum(held) / 209)
    assert worth["b"]["width"] == pytest.approx(np.ptp(ends["b"][:180], axis=2).mean())


def prices(count, seed):
    """Numbers from 0 on whose spread is a share of them."""
    x = rows(count, seed)[0]
    return x, np.exp(3 + x[:, 0] + 0.5 * np.random.default_rng(100 + seed).normal(size=count))


def of_prices(scale, loss=None, seed=0):
    task = pt.Task("price", scale=scale, **({} if loss is None else {"loss": loss}))
    model = pt.MultiTaskModel(3, tasks=[task], encoder=pt.encoder.MLP([16]), seed=seed)
    pt.Trainer(model, lr=0.01).fit(prices(400, 0), epochs=15, batch_size=64, progress=False)
    return model


def test_intervals_of_tasks_that_learn_logarithms_grow_with_what_is_predicted():
    model = of_prices("log1p")
    x, y = prices(99, 1)
    found = model.intervals((x, y))
    at = math.ceil(0.9 * 100) - 1
    p = np.log1p(model.predict(x)["price"].astype(np.float64))
    half = np.sort(np.abs(np.log1p(y) - p))[at]
    ends = found.predict(x)["price"]
    np.testing.assert_allclose(ends, np.expm1(np.stack([p - half, p + half], 1)), rtol=1e-12)
    assert found.widths()["price"] == pytest.approx([half], rel=1e-12)
    assert (ends[:, 0] > 0).all()
    assert "residuals of log(1 + y)" in repr(found)
    plain = of_prices("standardize").intervals((x, y))
    assert (plain.predict(x)["price"][:, 0] < 0).any()
    assert "of log" not in repr(plain)
    # As often as is said, and narrower on average.
    test = prices(4000, 2)
    worth, other = (each.coverage(test)["price"] for each in (found, plain))
    assert worth["coverage"] > 0.85
    assert worth["width"] < other["width"]


def test_quantiles_of_logarithms_are_widened_there():
    model = of_prices("log1p", pt.loss.Quantile([0.1, 0.5, 0.9]))
    x, y = prices(99, 1)
    low, high = np.log1p(np.sort(model.predict(x)["price"][:, [0, 2]].astype(np.float64), axis=1)).T
    more = np.sort(np.maximum(low - np.log1p(y), np.log1p(y) - high))[math.ceil(0.9 * 100) - 1]
    ends = model.intervals((x, y)).predict(x)["price"]
    np.testing.assert_allclose(ends, np.expm1(np.stack([low - more, high + more], 1)), rtol=1e-12)


@pytest.mark.parametrize(("weights", "logs"), [((1, 1), True), ((3, 1), True), ((1, 3), False)])
def test_of_an_ensemble_models_that_count_half_or_more_say_so(weights, logs):
    models = [of_prices("log1p"), of_prices("standardize", seed=1)]
    ensemble = pt.Ensemble(models, weights={"price": weights})
    x, y = prices(99, 1)
    found = ensemble.intervals((x, y))
    assert ("of log(1 + y)" in repr(found)) == logs
    assert found.coverage(prices(2000, 2))["price"]["coverage"] > 0.85
    # Numbers without a logarithm, which ensembles do not refuse, lie outside of any interval.
    below = np.array([-5.0, *y[1:9]])
    assert found.coverage((x[:1], below[:1]))["price"]["coverage"] == (not logs)
    ends = ensemble.intervals((x[:9], below)).predict(x[:9])["price"]
    assert np.isinf(ends).all() == logs
    assert (ends[:, 0] <= below).all()


def test_too_few_rows_are_infinite(trained, caplog):
    x, y = rows(18, 3)
    found = trained.intervals((x, {"residual": y}))
    assert np.isfinite(found.predict(x, 0.94)["residual"]).all()
    with caplog.at_level(logging.WARNING, "polytask"), warnings.catch_warnings():
        warnings.simplefilter("error")
        ends = found.predict(x, 0.95)["residual"]
    assert (ends == [-np.inf, np.inf]).all()
    assert "task `residual`: a level of 0.95 needs 19 rows, and the intervals rest on 18" in caplog.text
    assert np.isfinite(
        trained.intervals((rows(19, 3)[0], {"residual": rows(19, 3)[1]})).predict(x, 0.95)["residual"]
    ).all()
    # 55 of 99 rows, where 0.55 times 100 is more than 55 in floats.
    x, y = rows(99, 3)
    width = trained.intervals((x, {"residual": y})).widths(0.55)["residual"][0]
    assert width == np.sort(np.abs(y - trained.predict(x)["residual"].astype(float)))[54]


def test_an_interval_that_is_narrowed_to_nothing_is_a_point():
    one = Band(np.array([[0.0]]), np.array([[1.0]]), np.ones((1, 1)))
    assert one.widened(np.array([-0.25])).tolist() == [[[0.25, 0.75]]]
    assert one.widened(np.array([-2.0])).tolist() == [[[0.5, 0.5]]]


def test_it_is_kept_and_shown(trained):
    x, y = rows(50, 4)
    found = trained.intervals((x, {"residual": y, "quantiles": y}), tasks=["residual", "quantiles"])
    expected = found.predict(x)
    for other in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found)):
        assert all(np.array_equal(other.predict(x)[name], ends) for name, ends in expected.items())
    assert "predicted quantiles, widened" in repr(found)
    assert "<table>" in found._repr_html_()
    assert list(found) == ["residual", "quantiles"]
    both = pt.Ensemble([trained, copy.deepcopy(trained)])
    again = both.intervals((x, {"residual": y}))
    np.testing.assert_allclose(again.predict(x)["residual"], expected["residual"], rtol=1e-5)


def test_wrong_input_is_refused(trained):
    x, y = rows(20, 5)
    found = trained.intervals((x, {"residual": y}))
    classes = pt.MultiTaskModel(3, tasks=[pt.Task("c", classes=2)])
    for call, says in [
        (lambda: found.predict(x, 1.0), "`level` should be a number between 0 and 1; got 1"),
        (lambda: found.predict(x, float("nan")), "`level` should be a number between 0 and 1"),
        (lambda: trained.intervals((x, {"residual": y}), tasks="rsidual"), "did you mean `residual`"),
        (lambda: trained.intervals((x, {"residual": y}), tasks=["middle"]), "no targets of task `middle`"),
        (lambda: trained.intervals((x, {"residual": y, "middle": np.nan * y})), "no label for task `middle`"),
        (lambda: classes.intervals((x, {"c": y > 0})), "no regressions of rows"),
        (lambda: found.predict(x[:, :2]), r"shape \[20, 3\]; got \[20, 2\]"),
    ]:
        with pytest.raises(ValueError, match=says):
            call()
    with pytest.raises(TypeError, match="`level` should be a number between 0 and 1; got True"):
        found.predict(x, True)
    with pytest.raises(KeyError, match="no task 'middle'"):
        found["middle"]
