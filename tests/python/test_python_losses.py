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
