"""A model without a trainer judges itself as its trainer would, on data in any form."""

import numpy as np
import pandas as pd
import polytask as pt
import pytest
import torch


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 4)).astype(np.float32)
    price = 100.0 + 20 * x[:, 0]
    price[::4] = np.nan
    return x, {"kind": rng.integers(0, 3, 90), "price": price}


def tasks():
    return [pt.Task("kind", classes=3, weight=0.5), pt.Task("price", scale="standardize", metrics=["rmse", "spearman"])]


def trained(rows, **more):
    trainer = pt.Trainer(pt.MultiTaskModel(4, tasks=tasks()), lr=0.01, **more)
    trainer.fit(rows, epochs=2, progress=False)
    return trainer


def forms(rows):
    x, targets = rows
    batches = [(x[i : i + 40], {name: y[i : i + 40] for name, y in targets.items()}) for i in range(0, 90, 40)]
    tensors = [torch.from_numpy(x), {name: torch.from_numpy(y) for name, y in targets.items()}]
    return {
        "arrays": rows,
        "tensors": tuple(tensors),
        "batches": batches,
        "one set a task": {name: (x, y) for name, y in targets.items()},
    }


@pytest.mark.parametrize("form", ["arrays", "tensors", "batches", "one set a task"])
def test_it_is_judged_as_by_its_trainer(rows, form):
    trainer = trained(rows)
    data = forms(rows)[form]
    found, wanted = trainer.model.evaluate(data), trainer.evaluate(data)
    assert {name: dict(found[name]) for name in found} == {name: dict(wanted[name]) for name in wanted}
    assert found["loss"] == pytest.approx(wanted["loss"], rel=1e-12)
    assert found["loss"] == pytest.approx(0.5 * found["kind"]["loss"] + found["price"]["loss"], rel=1e-12)
    assert repr(found) == repr(wanted)


def test_weights_of_rows_and_temperatures_count(rows):
    trainer = trained(rows)
    weights = np.linspace(0, 2, 90)
    plain = trainer.model.evaluate(rows)
    weighted = trainer.model.evaluate(rows, weights=weights, batch_size=7)
    assert weighted["kind"]["loss"] == pytest.approx(trainer.evaluate(rows, weights=weights)["kind"]["loss"], rel=1e-6)
    assert weighted["kind"]["loss"] != pytest.approx(plain["kind"]["loss"], rel=1e-3)
    trainer.model.metrics[0] = pt.MultiTaskModel(4, tasks=[pt.Task("kind", classes=3, metrics=["log_loss"])]).metrics[0]
    before = trainer.model.evaluate(rows)["kind"]["log_loss"]
    trainer.model.temperatures = {"kind": 5.0}
    assert trainer.model.evaluate(rows)["kind"]["log_loss"] != pytest.approx(before, rel=1e-3)


def test_a_models_loss_knows_no_regularizers(rows):
    trainer = trained(rows, regularizers=[pt.regularizer.L2(0.1)])
    assert trainer.model.evaluate(rows)["loss"] < trainer.evaluate(rows)["loss"]
    assert trainer.model.evaluate(rows)["kind"] == trainer.evaluate(rows)["kind"]


def test_without_labels_of_a_task_its_loss_is_not_a_number(rows):
    trainer = trained(rows)
    x, targets = rows
    batches = [(x, {"kind": targets["kind"]})]
    found = trainer.model.evaluate(batches)
    assert np.isnan(found["price"]["loss"])
    assert found["loss"] == pytest.approx(0.5 * found["kind"]["loss"], rel=1e-12)
    none = trainer.model.evaluate([(x, {"price": np.full(90, np.nan)})])
    assert np.isnan(none["loss"])


def test_spans_are_judged_too():
    rng = np.random.default_rng(1)
    words = np.array([[f"w{word}" for word in rng.integers(0, 9, 5)] for _ in range(30)])
    spans = [[(1, 3, "PER")] if each[1] < "w5" else [] for each in words]
    frame = pd.DataFrame({"text": [" ".join(each) for each in words], "name": spans})
    model = pt.MultiTaskModel(
        pt.Inputs.from_frame(frame[["text"]], text="text"),
        tasks=[pt.Task("name", spans="BIO", classes=["PER"], per="text")],
        encoder=pt.encoder.Recurrent(8),
    )
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit(frame, epochs=2, progress=False)
    found = model.evaluate(frame)
    assert "span_f1" in found["name"]
    assert dict(found["name"]) == dict(trainer.evaluate(frame)["name"])


def test_an_untrained_model_and_what_is_wrong(rows):
    model = pt.MultiTaskModel(4, tasks=[pt.Task("kind", classes=3)])
    x, targets = rows
    assert model.evaluate((x, {"kind": targets["kind"]}))["kind"]["loss"] == pytest.approx(np.log(3), rel=0.3)
    with pytest.raises(ValueError, match=r"`batch_size` should be a whole number .* got 0"):
        model.evaluate(rows, batch_size=0)
    with pytest.raises(TypeError, match=r"`data`"):
        model.evaluate(x)
    with pytest.raises(ValueError, match=r"`kind`.*9"):
        model.evaluate((x, {"kind": np.full(90, 9)}))
    with pytest.raises(ValueError, match="there is no batch to evaluate"):
        model.evaluate(lambda: iter([]))
