"""A row without a label for a task adds nothing to that task's loss, gradient, or metrics."""

import re

import numpy as np
import pandas as pd
import polars as pl
import polytask as pt
import pytest
from conftest import Data, make_model, make_tasks, same_bits

FIT = {"epochs": 3, "batch_size": 32, "shuffle": False, "progress": False}


def trained(data, **more):
    model = make_model()
    history = pt.Trainer(model).fit(data, **FIT, **more)
    return model.state_dict(), history


@pytest.fixture
def holes():
    """Where labels are missing, `[rows]` for each task and `[rows, 3]` for topics."""
    rng = np.random.default_rng(3)
    return {"income": rng.random(160) < 0.3, "age": rng.random(160) < 0.3, "topics": rng.random((160, 3)) < 0.3}


def forms(data, holes):
    """The same missing labels in every notation."""
    nan = {name: np.where(hole, np.nan, data.targets[name]) for name, hole in holes.items()}
    yield nan
    yield nan | {
        "income": np.where(holes["income"], -1, data.income),
        "topics": np.where(holes["topics"], -1, data.topics).astype(int),
    }
    yield {name: np.ma.masked_array(data.targets[name], mask=hole) for name, hole in holes.items()}
    junk = {"income": 77, "age": np.inf, "topics": 5.0}
    yield {
        name: np.ma.masked_array(np.where(hole, junk[name], data.targets[name]), mask=hole)
        for name, hole in holes.items()
    }


def test_every_notation_means_the_same(data, holes):
    results = [trained((data.x, targets)) for targets in forms(data, holes)]
    for state, history in results[1:]:
        assert same_bits(state, results[0][0])
        assert history["age/r2"] == results[0][1]["age/r2"]
        assert history["topics/auroc"] == results[0][1]["topics/auroc"]


def test_missing_in_frames_of_any_library(data, holes):
    columns = {f"x{j}": data.x[:, j] for j in range(8)}
    income = pd.Series(data.income, dtype="Int64").mask(holes["income"])
    age = pd.Series(data.age).mask(holes["age"])
    frame = pd.DataFrame(columns | {"income": income, "age": age})
    tasks = make_tasks()[:2]

    def fitted(form):
        model = pt.MultiTaskModel(8, tasks=tasks)
        pt.Trainer(model).fit(form, **FIT)
        return model.state_dict()

    want = fitted((data.x, {"income": np.where(holes["income"], -1, data.income), "age": age.to_numpy()}))
    polars = pl.DataFrame(
        columns
        | {
            "income": [None if hole else int(y) for y, hole in zip(data.income, holes["income"], strict=True)],
            "age": [None if hole else float(y) for y, hole in zip(data.age, holes["age"], strict=True)],
        }
    )
    assert same_bits(fitted(frame), want)
    np.testing.assert_allclose(fitted(polars)["heads.age.bias"], want["heads.age.bias"], rtol=1e-5)


def test_class_names_and_their_absence():
    x = np.eye(4, dtype=np.float32)
    model = pt.MultiTaskModel(4, tasks=[pt.Task("kind", classes=["a", "b"])])
    want = pt.Trainer(model).evaluate((x, [0, 1, -1, -1])).loss
    for y in (["a", "b", None, np.nan], np.array(["a", "b", None, pd.NA], object), pd.Series(["a", "b", None, None])):
        assert pt.Trainer(model).evaluate((x, y)).loss == want
    numbers = pt.MultiTaskModel(4, tasks=[pt.Task("kind", classes=[10, 20])])
    assert pt.Trainer(numbers).evaluate((x, [10, 20, np.nan, np.nan])).loss == want
    with pytest.raises(ValueError, match="the targets of task `kind` should be one of `'a'`, `'b'`; got 'c' at row 2"):
        pt.Trainer(model).evaluate((x, ["a", "b", "c", None]))


def test_the_loss_is_the_mean_over_labelled_rows():
    data, model = Data(), make_model()
    trainer = pt.Trainer(model)
    kept = np.arange(0, 160, 3)
    hidden = np.setdiff1d(np.arange(160), kept)
    income = data.income.copy()
    income[hidden] = -1
    some = trainer.evaluate((data.x, {"income": income}))["income"]
    only = trainer.evaluate((data.x[kept], {"income": data.income[kept]}))["income"]
    assert some == pytest.approx(only)


def test_a_row_without_labels_has_no_gradient():
    data, model = Data(40), make_model()
    targets = {name: y.astype(float) for name, y in data.targets.items()}
    for y in targets.values():
        y[20:] = np.nan
    whole = model.reader.read((data.x, targets)).core()
    half = model.reader.read((data.x[:20], {name: y[:20] for name, y in targets.items()})).core()
    want = model._core.gradients(half, "sum")
    for name, gradient in model._core.gradients(whole, "sum").items():
        np.testing.assert_allclose(gradient, want[name], rtol=1e-4, atol=1e-6)


def test_rows_that_carry_one_label_each_are_one_data_set_per_task(data):
    targets = {name: np.full(y.shape, np.nan) for name, y in data.targets.items()}
    for i, name in enumerate(targets):
        targets[name][i::3] = data.targets[name][i::3]
    _, history = trained((data.x, targets))
    assert history["loss"][-1] < history["loss"][0]
    batches = [(data.x[i::3], {name: y[i::3]}) for i, (name, y) in enumerate(data.targets.items())]
    _, history = trained(batches)
    assert history["loss"][-1] < history["loss"][0]
    assert history["income/auroc"][-1] == history["income/auroc"][-1]


def test_a_batch_without_any_label_changes_nothing(data):
    model = make_model()
    trainer = pt.Trainer(model)
    before = model.state_dict()
    losses = trainer.step((data.x, {"age": np.full(160, np.nan)}))
    assert same_bits(model.state_dict(), before)
    assert trainer.steps == 0
    assert np.isnan(losses["age/loss"])
    assert losses["loss"] == 0
    empty = (data.x, {"age": np.full(160, np.nan)})
    assert trainer.evaluate([empty, data.whole]).loss == trainer.evaluate([data.whole]).loss


def test_a_task_without_labels_is_said_and_keeps_its_head(data, caplog):
    model = make_model()
    before = model.state_dict()
    with caplog.at_level("WARNING", "polytask"):
        history = pt.Trainer(model).fit((data.x, {"income": data.income}), **FIT)
    assert "no targets of `age`, `topics`" in caplog.text
    after = model.state_dict()
    np.testing.assert_array_equal(after["heads.age.weight"], before["heads.age.weight"])
    assert not np.array_equal(after["heads.income.weight"], before["heads.income.weight"])
    assert np.isnan(history["age/loss"]).all()
    assert np.isnan(history["age/mae"]).all()


def test_minus_one_and_one_without_zero_is_somebodys_mistake(data):
    model = make_model()
    with pytest.raises(ValueError, match="hold -1 and 1 but no 0"):
        pt.Trainer(model).fit((data.x, data.targets | {"topics": np.sign(data.x[:, :3])}), **FIT)


@pytest.fixture
def sparse():
    """A binary task with few labels, -1 where there is none: many a batch has positives alone."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 4)).astype(np.float32), (rng.random(200) > 0.5).astype(int)
    y[rng.random(200) < 0.7] = -1
    return x, y


def binary():
    return pt.Trainer(pt.MultiTaskModel(4, tasks=[pt.Task("y", loss="binary_cross_entropy")]))


def test_what_a_batch_lacks_by_chance_is_no_mistake(sparse):
    x, y = sparse
    positives = x[:3], np.array([1, -1, 1])
    want, trainer = binary().step((positives[0], np.array([1, np.nan, 1]))), binary()
    assert trainer.step(positives) == want
    batches = [positives, (x, y), positives]
    history = trainer.fit(batches, epochs=2, validation=batches, progress=False)
    assert trainer.steps == 7
    assert np.isfinite([*history["y/loss"], *history["validation/y/loss"]]).all()
    loader = [(x[i : i + 8], y[i : i + 8]) for i in range(0, 200, 8)]
    assert any((part == 1).any() and not (part == 0).any() for _, part in loader)
    whole = binary().fit((x, y), epochs=3, batch_size=8, shuffle=False, progress=False)
    np.testing.assert_array_equal(binary().fit(loader, epochs=3, progress=False)["loss"], whole["loss"])


def test_data_to_evaluate_on_may_hold_positives_alone_and_that_is_said_once(sparse, caplog):
    x, y = sparse
    rows = np.flatnonzero(y != 0)
    for given in [(x[rows], y[rows]), (x[rows], np.where(y[rows] == 1, 1, np.nan))]:
        caplog.clear()
        loss = binary().evaluate(given).loss
        # Products over another number of rows may be rounded in another order, by the processor.
        assert loss == pytest.approx(binary().evaluate((x[y == 1], y[y == 1])).loss, rel=1e-6)
        said = [record for record in caplog.records if "hold -1 and 1 but no 0" in record.message]
        assert len(said) == (given[1].dtype.kind == "i")
    caplog.clear()
    binary().fit((x, y), validation=(x[rows], y[rows]), epochs=3, progress=False)
    assert caplog.text.count("`validation`: the targets of task `y` hold -1 and 1 but no 0") == 1


def test_all_rows_of_a_training_set_are_judged_before_they_are_split(sparse):
    x, y = sparse
    for more in ({}, {"validation": 0.2}, {"validation": (x, y)}):
        with pytest.raises(ValueError, match="the targets of task `y` hold -1 and 1 but no 0"):
            binary().fit((x, np.where(y == 0, -1, y)), epochs=1, progress=False, **more)
        known = np.where(y == 1, 1, np.nan)
        assert np.isfinite(binary().fit((x, known), epochs=1, progress=False, **more)["loss"]).all()
    y = np.array([0, *[-1] * 150, *[1] * 49])
    for seed in range(5):
        trainer = pt.Trainer(binary().model, seed=seed)
        assert np.isfinite(trainer.fit((x, y), validation=0.3, epochs=1, progress=False)["validation/loss"]).all()


def test_a_part_held_out_without_any_label_is_said(caplog):
    x, y = np.eye(4, dtype=np.float32).repeat(50, 0), np.full(200, np.nan)
    y[:3] = 0, 1, 1
    trainer = binary()
    history = trainer.fit((x, y), validation=0.03, epochs=2, progress=False)
    assert np.isnan(history["validation/y/loss"]).all()
    assert np.isnan(history["validation/y/auroc"]).all()
    assert np.isfinite(history["loss"]).all()
    assert "the 6 rows held out for validation have no label for any task" in caplog.text
    with pytest.raises(ValueError, match="no row has a label for any task"):
        trainer.evaluate((x[3:], y[3:]))
    with pytest.raises(ValueError, match="no row has a label for any task"):
        trainer.fit((x, y), validation=(x[3:], y[3:]), epochs=1, progress=False)


@pytest.mark.parametrize(("coded", "classes", "wrong"), [
    ([-1, 1], 2, r"hold -1 and 1 but no 0: classes count from 0.*classes=\[-1, 1\]"),
    ([-1, 0, 1], 3, r"hold -1, 0 and 1 but no 2: classes count from 0.*classes=\[-1, 0, 1\]"),
])  # fmt: skip
def test_classes_that_count_from_minus_one_are_somebodys_mistake(coded, classes, wrong, caplog):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 3)), rng.choice(coded, 60)

    def trained(**task):
        model = pt.MultiTaskModel(3, tasks=[pt.Task("y", **task)])
        return pt.Trainer(model).fit((x, y), epochs=1, progress=False)

    with pytest.raises(ValueError, match=wrong):
        trained(classes=classes)
    # What is judged may hold some of the classes alone.
    model = pt.MultiTaskModel(3, tasks=[pt.Task("y", classes=classes)])
    assert model.evaluate((x, y)).loss > 0
    assert re.search(wrong, caplog.text)
    assert trained(classes=coded)["loss"][-1] > 0


def test_targets_without_a_label_are_said_and_weights_of_nothing_refused(caplog):
    rng = np.random.default_rng(0)
    x, a, b = rng.normal(size=(60, 3)), rng.integers(0, 2, 60), rng.normal(size=60)

    def trained(a=a, b=b, **more):
        caplog.clear()
        model = pt.MultiTaskModel(3, tasks=[pt.Task("a", classes=2), pt.Task("b", scale="standardize")])
        pt.Trainer(model).fit((x, a, b), epochs=1, progress=False, **more)
        return caplog.text

    said = "`data` has no row with a label and a weight above 0 for `b`, whose heads stay as they are"
    assert said in trained(b=b * np.nan)
    assert said in trained(weights={"b": np.zeros(60)})
    assert said in trained(b=np.where(np.arange(60) < 30, np.nan, b), weights={"b": 1.0 * (np.arange(60) < 30)})
    assert trained() == trained(weights=1.0 * (np.arange(60) >= 30)) == ""
    for wrong in ({"weights": np.zeros(60)}, {"b": b * np.nan, "weights": {"a": np.zeros(60)}}):
        with pytest.raises(ValueError, match="no row with a label and a weight above 0, for any task"):
            trained(**wrong)


def test_labels_that_are_listed_and_labels_of_positions_are_no_mistake():
    """Nor are classes of which some are missing by NaN or a mask, or that have a row of each."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 3)), rng.integers(0, 2, 60)

    def trained(y, **task):
        model = pt.MultiTaskModel(3, tasks=[pt.Task("y", **task)])
        return pt.Trainer(model).fit((x, {"y": y}), epochs=1, progress=False)["loss"][-1]

    some = rng.random(60) < 0.5
    assert trained(np.where(some, None, "yes"), classes=["no", "yes"]) > 0
    assert trained(np.where(some, None, np.where(y, "a", "b")), classes=["a", "b", "c"]) > 0
    assert trained(np.where(some, np.nan, 1.0), classes=2) > 0
    assert trained(np.where(some, np.nan, y), classes=3) > 0
    assert trained(np.where(some, -1, y), classes=2) > 0
    assert trained(np.ma.masked_array(np.where(some, -1, 1), some), classes=2) > 0
    assert trained([*np.where(some, -1, y)[:-1], 2], classes=3) > 0
