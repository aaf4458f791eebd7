"""Losses that are Python callables on torch tensors: the same numbers as the core's own."""

import numpy as np
import polytask as pt
import pytest
import torch
from conftest import same_bits
from torch.nn import functional

FIT = {"epochs": 3, "batch_size": 32, "progress": False}


def by_row(outputs, targets):
    return functional.cross_entropy(outputs, targets, reduction="none")


PAIRS = [
    ("income", {"classes": 2}, by_row),
    ("income", {"classes": 2}, torch.nn.CrossEntropyLoss()),
    ("age", {}, functional.mse_loss),
    ("age", {}, lambda outputs, targets: (outputs - targets) ** 2),
    ("topics", {"outputs": 3}, lambda outputs, targets: ((outputs - targets) ** 2).mean(1)),
    ("topics", {"outputs": 3}, functional.mse_loss),
]


@pytest.mark.parametrize(("name", "options", "loss"), PAIRS)
@pytest.mark.parametrize("missing", [False, True])
def test_the_same_as_the_cores_own_loss(data, name, options, loss, missing):
    y = data.targets[name].astype(float)
    if missing:
        y[::3] = np.nan
    results = []
    for chosen in (None, loss):
        model = pt.MultiTaskModel(8, tasks=[pt.Task(name, loss=chosen, metrics=[], **options), pt.Task("other")])
        history = pt.Trainer(model, lr=0.01).fit((data.x, {name: y, "other": data.age}), validation=0.2, **FIT)
        results.append((history, model))
    (own, core), (foreign, python) = results
    assert foreign["loss"] == pytest.approx(own["loss"], rel=1e-4)
    assert foreign[f"validation/{name}/loss"] == pytest.approx(own[f"validation/{name}/loss"], rel=1e-4)
    np.testing.assert_allclose(python.predict(data.x)[name], core.predict(data.x)[name], rtol=1e-3, atol=1e-4)


def test_row_weights(data):
    w = np.linspace(0, 2, 160)
    histories = []
    for loss in ("cross_entropy", by_row):
        model = pt.MultiTaskModel(8, tasks=[pt.Task("income", classes=2, loss=loss)])
        histories.append(pt.Trainer(model).fit((data.x, data.income), weights=w, **FIT)["loss"])
    assert histories[1] == pytest.approx(histories[0], rel=1e-5)
    model = pt.MultiTaskModel(8, tasks=[pt.Task("income", classes=2, loss=functional.cross_entropy)])
    with pytest.raises(ValueError, match="task `income`: its loss `cross_entropy` should give one loss a row"):
        pt.Trainer(model).fit((data.x, data.income), weights=w, **FIT)


def test_only_labelled_rows_are_seen(data):
    seen = []

    def watched(outputs, targets):
        seen.append((outputs.shape, targets.shape, targets.dtype, bool(torch.isnan(targets).any())))
        return (outputs - targets) ** 2

    y = data.age.copy()
    y[40:] = np.nan
    model = pt.MultiTaskModel(8, tasks=[pt.Task("age", loss=watched), pt.Task("other")])
    pt.Trainer(model).fit((data.x, {"age": y, "other": data.age}), epochs=1, batch_size=160, progress=False)
    assert seen == [((40,), (40,), torch.float32, False)]


def cells(outputs, targets):
    return (outputs - targets) ** 2


@pytest.mark.parametrize("loss", [cells, torch.nn.MSELoss(), torch.nn.MSELoss(reduction="none"), functional.mse_loss])
@pytest.mark.parametrize("missing", [False, True])
def test_cells_that_are_missing_count_as_in_the_cores_own_loss(data, loss, missing):
    y = np.random.default_rng(0).normal(size=(160, 3)).astype(np.float32)
    y[::3, 1], y[5:100, 2], y[7] = np.nan, np.nan, np.nan
    y = y if missing else np.nan_to_num(y)
    seen = []

    def watched(outputs, targets):
        seen.append(bool(targets.isnan().any()) or outputs.shape != targets.shape)
        return loss(outputs, targets)

    results = []
    for chosen in ("mean_squared", watched):
        model = pt.MultiTaskModel(8, tasks=[pt.Task("y", loss=chosen, outputs=3)], seed=1)
        trainer = pt.Trainer(model, "sgd", lr=0.1, accumulate=2)
        history = trainer.fit((data.x, y), validation=(data.x, y), **FIT)
        results.append((history["y/loss"] + history["validation/y/loss"], model.predict(data.x)["y"]))
    assert not any(seen)
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=1e-5)
    np.testing.assert_allclose(results[1][1], results[0][1], rtol=1e-3, atol=1e-5)


def test_cells_have_the_weight_of_their_row(data):
    w = np.linspace(0, 2, 160)
    y = np.random.default_rng(0).normal(size=(160, 2)).astype(np.float32)
    y[::3, 1] = np.nan
    found = []
    for loss in ("mean_squared", cells):
        model = pt.MultiTaskModel(8, tasks=[pt.Task("y", loss=loss, outputs=2)], seed=1)
        found.append(pt.Trainer(model).fit((data.x, y), weights=w, **FIT)["y/loss"])
    assert found[1] == pytest.approx(found[0], rel=1e-5)
    model = pt.MultiTaskModel(8, tasks=[pt.Task("y", loss=functional.mse_loss, outputs=2)])
    with pytest.raises(ValueError, match="should give one loss a row where rows have weights; got their mean"):
        pt.Trainer(model).fit((data.x, y), weights=w, **FIT)


def test_what_cannot_do_without_missing_cells_is_refused(data):
    y = np.random.default_rng(0).normal(size=(160, 2)).astype(np.float32)
    y[:32:4, 1] = np.nan

    def refused(loss, message):
        model = pt.MultiTaskModel(8, tasks=[pt.Task("y", loss=loss, outputs=2)])
        with pytest.raises(ValueError, match=message):
            pt.Trainer(model).fit((data.x, y), **FIT, shuffle=False)

    refused(
        lambda p, y: ((p - y) ** 2).mean(1),
        r"gives one loss a row, but 8 of 32 rows lack some of their 2 targets: let it give one loss a cell, \[32, 2\]",
    )
    refused(
        lambda p, y: ((p - y) ** 2).mean(1).mean(),
        r"called on the labelled cells alone, \[cells\] outputs and targets, which failed \(Dimension out of range",
    )
    refused(
        lambda p, y: (p - y)[:5],
        r"should give 32 losses, one a row, one a cell \(\[32, 2\]\), or their mean; got \[5, 2\]",
    )


def test_labels_in_place_of_missing_ones_are_labels_of_the_column(data):
    """A loss that knows only positive targets is never asked about another number, nor is its gradient spoilt."""
    y = np.abs(np.random.default_rng(0).normal(size=(160, 2))).astype(np.float32) + 0.1
    y[::3, 1] = np.nan
    y[40:80] = np.nan

    def logarithmic(outputs, targets):
        assert bool((targets > 0).all())
        return (outputs - targets.log()) ** 2

    model = pt.MultiTaskModel(8, tasks=[pt.Task("y", loss=logarithmic, outputs=2), pt.Task("age")])
    trainer = pt.Trainer(model)
    history = trainer.fit((data.x, y, data.age), **FIT)
    assert history["y/loss"][-1] < history["y/loss"][0]


def test_a_gradient_that_is_not_finite_is_refused(data):
    def root(outputs, targets):
        return ((outputs - outputs.detach()) ** 2).sum().sqrt() + ((outputs - targets) ** 2).mean()

    model = pt.MultiTaskModel(8, tasks=[pt.Task("age", loss=root)])
    before = model.state_dict()
    with pytest.raises(
        ValueError, match="its loss `root` has a gradient that is not finite where its value is: at the"
    ):
        pt.Trainer(model).fit((data.x, data.age), **FIT)
    assert same_bits(model.state_dict(), before)
    assert pt.Trainer(model).evaluate((data.x, data.age))["age"]["loss"] > 0


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ({"age": 1e20}, {}, r"at step 1: its targets go up to 1e20: give them in a larger unit, or standardise them"),
        ({"x": 3e38}, {}, r"at step 1: its outputs are not finite before any step was made: are features of extreme"),
        ({}, {"lr": 1e30}, r"at step [23]: its outputs (are not finite|go up to .*): try a smaller learning rate"),
        (
            {},
            {"loss": lambda p, y: (p - y) * float("nan")},
            r"at step 1: that is what its loss function made of outputs",
        ),
    ],
)
@pytest.mark.parametrize("weighting", ["equal", "upgrad", pt.weighting.UPGrad(at="representation")])
def test_a_loss_that_is_not_finite_names_what_looks_wrong(data, change, settings, message, weighting):
    x, age = np.sign(data.x) * change["x"] if "x" in change else data.x, data.age * 0 + change.get("age", data.age)
    tasks = [pt.Task("income", classes=2), pt.Task("age", loss=settings.get("loss", "mean_squared"))]
    model = pt.MultiTaskModel(8, tasks=tasks)
    trainer = pt.Trainer(model, "sgd", lr=settings.get("lr", 0.01), weighting=weighting)
    with pytest.raises(ValueError, match=message):
        trainer.fit((x, {"income": data.income, "age": age}), **FIT)


def test_validation_targets_are_blamed_where_they_are_at_fault(data):
    model = pt.MultiTaskModel(8, tasks=[pt.Task("age"), pt.Task("other")])
    held_out = (data.x, data.age, np.full(160, 1e20))
    trainer = pt.Trainer(model, weighting="moml")
    with pytest.raises(ValueError, match="`other` is inf on validation rows at step 1: its targets go up to 1e20"):
        trainer.fit((data.x, data.age, data.age), validation=held_out, **FIT)


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (lambda p, y: 1 / 0, ZeroDivisionError, "division by zero"),
        (lambda p, y: 3.0, TypeError, "should give a tensor of numbers; got float"),
        (lambda p, y: (p - y).detach(), ValueError, "should be differentiable"),
        (lambda p, y: (p - y)[:2], ValueError, r"should give 32 losses, one a row, or their mean; got \[2\]"),
        (lambda p, y: torch.ones(1, requires_grad=True).sum(), ValueError, "should depend on the outputs"),
        (lambda p, y: (p - y) * float("nan"), ValueError, "loss of task `age` is NaN"),
    ],
)
def test_what_a_loss_may_do_wrong(data, loss, error, message):
    model = pt.MultiTaskModel(8, tasks=[pt.Task("age", loss=loss)])
    before = model.state_dict()
    with pytest.raises(error, match=message):
        pt.Trainer(model).fit((data.x, data.age), **FIT)
    assert same_bits(model.state_dict(), before)
