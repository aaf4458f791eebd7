"""Batches as PyTorch users write them: nested tuples, dicts, data sets of items; and what a dict is."""

from typing import NamedTuple

import numpy as np
import polytask as pt
import pytest
import torch
from conftest import Data, make_model, same_bits, without_seconds
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

# A loader without a generator of its own draws from torch's.
pytestmark = pytest.mark.usefixtures("own_seed")

FIT = {"epochs": 2, "batch_size": 32, "shuffle": False, "progress": False}


def trained(form, **more):
    model = make_model()
    history = pt.Trainer(model).fit(form, **{**FIT, **more})
    return model.state_dict(), without_seconds(history)


class Batch(NamedTuple):
    x: np.ndarray
    income: np.ndarray
    age: np.ndarray
    topics: np.ndarray


def forms(d):
    y = d.income, d.age, d.topics
    return {
        "x, (a, b)": (d.x, y),
        "x, [a, b]": (d.x, list(y)),
        "x, (a, b) as lists": (d.x, [each.tolist() for each in y]),
        "x and tasks": {"x": d.x, **d.targets},
        "features and labels": {"features": d.x, "labels": d.targets},
        "features and targets in order": {"features": d.x, "targets": y},
        "names of inputs": {"numeric": d.x, **d.targets},
        "features by name of input": {"x": {"numeric": d.x}, "y": d.targets},
        "what else there is": {"x": d.x, **d.targets, "index": np.arange(len(d.x)), "file": ["a"] * len(d.x)},
        "a named tuple": Batch(d.x, *y),
    }


@pytest.mark.parametrize("name", forms(Data()))
def test_batches_in_every_form_are_rows_in_memory_too(data, name):
    form = forms(data)[name]
    want = trained(data.whole)
    got = trained(form)
    assert same_bits(got[0], want[0])
    assert got[1] == want[1]
    step, same = (pt.Trainer(make_model()).step(each) for each in (form, data.whole))
    assert step == same


class Items(Dataset):
    """Gives one row in some form."""

    def __init__(self, data, make):
        self.data, self.make = data, make

    def __len__(self):
        return len(self.data.x)

    def __getitem__(self, i):
        return self.make(self.data.x[i], {name: y[i] for name, y in self.data.targets.items()})


ITEMS = {
    "flat": lambda x, y: (x, *y.values()),
    "nested": lambda x, y: (x, tuple(y.values())),
    "dict of targets": lambda x, y: (x, y),
    "dict": lambda x, y: {"x": x, **y, "index": 0},
    "dict of dicts": lambda x, y: {"features": {"numeric": x}, "labels": y},
    "weighted": lambda x, y: (x, tuple(y.values()), np.float32(1)),
    "dict with weights": lambda x, y: {"x": x, "labels": tuple(y.values()), "sample_weight": np.float32(1)},
}


@pytest.mark.parametrize("name", ITEMS)
def test_items_of_data_sets_in_every_form(data, name):
    items = Items(data, ITEMS[name])
    want = trained(data.whole)[0]
    for form in (items, DataLoader(items, batch_size=32)):
        assert same_bits(trained(form)[0], want)
        model = make_model()
        results = pt.Trainer(model).evaluate(form)
        assert results.loss == pytest.approx(pt.Trainer(model).evaluate(data.whole).loss, rel=1e-6)
        np.testing.assert_allclose(model.predict(form)["age"], model.predict(data.x)["age"], rtol=1e-6)


def test_row_weights_in_dicts(data):
    w = np.linspace(0, 2, len(data.x))
    want = trained((data.x, data.targets, w))[0]
    for form in [
        {"x": data.x, **data.targets, "weights": w},
        {"x": data.x, "labels": data.targets, "sample_weight": dict.fromkeys(data.targets, w)},
        (data.x, tuple(data.targets.values()), w),
    ]:
        assert same_bits(trained(form)[0], want)


def test_one_task_with_targets_in_a_tuple_or_a_list_of_numbers(data):
    def state(y):
        model = pt.MultiTaskModel(8, tasks=[pt.Task("age")])
        pt.Trainer(model).fit((data.x, y), **FIT)
        return model.state_dict()

    want = state(data.age)
    for y in [(data.age,), [data.age], data.age.tolist(), data.age[:, None].tolist()]:
        assert same_bits(state(y), want)
    model = pt.MultiTaskModel(8, tasks=[pt.Task("age")])
    pt.Trainer(model).fit({"x": data.x, "y": data.age}, **FIT)
    assert same_bits(model.state_dict(), want)


def test_prediction_leaves_targets_aside(data, model):
    want = model.predict(data.x)
    for form in forms(data).values():
        np.testing.assert_array_equal(model.predict(form)["age"], want["age"])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda d: {"x": d.x, "features": d.x, **d.targets}, ValueError, "two ways: they have both `x`, `features`"),
        (lambda d: {"x": d.x, "numeric": d.x, **d.targets}, ValueError, "features should be given once"),
        (lambda d: {"x": d.x, "labels": d.targets, "age": d.age}, ValueError, "targets should be given once"),
        (lambda d: {"x": d.x, "labels": d.targets, "y": d.targets}, ValueError, "both `labels`, `y`"),
        (lambda d: {"x": d.x, "incme": d.income, "age": d.age, "topics": d.topics}, ValueError,
         "no targets of `income`, and no task is called 'incme'; the model has `income`, `age`, `topics`"),
        (lambda d: {"x": d.x, "labels": {"incme": d.income}}, ValueError, "unknown task 'incme'"),
        (lambda d: {"income": d.income, "age": d.age}, TypeError, "a dict of `income`, `age`, whose keys"),
        (lambda d: (d.x, (d.income, d.age)), ValueError, r"data should be \(x, income, age, topics\)"),
        (lambda d: {"income": (d.x, d.income), "age": d.age}, TypeError,
         r"`data\['age'\]` should be \(x, y\), a frame, a Dataset, a DataLoader or batches"),
        (lambda d: {"income": (d.x, d.income), "agee": (d.x, d.age)}, ValueError,
         r"`data\['agee'\]`: unknown task 'agee'; keys are tasks or tuples of tasks, and the model has"),
        (lambda d: {("income", "income"): (d.x, d.income, d.income)}, ValueError, "a task twice, or none"),
        (lambda d: [TensorDataset(torch.zeros(3, 8))], TypeError, "a list of data sets does not say whose they are"),
    ],
)  # fmt: skip
def test_what_a_dict_cannot_be(data, make, error, message):
    model = make_model()
    before = model.state_dict()
    with pytest.raises(error, match=message):
        pt.Trainer(model).fit(make(data), **FIT)
    assert same_bits(model.state_dict(), before)


def test_two_readings_are_refused_with_both(data):
    model = pt.MultiTaskModel(8, tasks=[pt.Task("x"), pt.Task("age")])
    with pytest.raises(ValueError, match="can be read in two ways, since 'x' is a task: a data set a task, or a batch"):
        pt.Trainer(model).fit({"x": (data.x, data.age), "age": (data.x, data.age)}, **FIT)
    with pytest.raises(ValueError, match="can be read in two ways: 'x' is a task, and what features are called"):
        pt.Trainer(model).fit({"x": data.x, "age": data.age}, **FIT)
    both = pt.data.Mix({"x": (data.x, data.age), "age": (data.x, data.age)})
    assert len(pt.Trainer(model).fit(both, **FIT)) == 2


def test_a_fraction_of_a_data_set_is_held_out(data):
    want = trained(data.whole, validation=0.25)
    for form in (Items(data, ITEMS["nested"]), Items(data, ITEMS["dict"])):
        state, history = trained(form, validation=0.25)
        assert same_bits(state, want[0])
        for row, same in zip(history, want[1], strict=True):
            assert row == pytest.approx(same, rel=1e-6)
    loader = DataLoader(Items(data, ITEMS["flat"]), batch_size=32)
    assert same_bits(trained(loader, validation=0.25)[0], want[0])
    assert same_bits(trained(Subset(Items(data, ITEMS["flat"]), range(160)), validation=0.25)[0], want[0])


def test_columns_of_one_array():
    """`(x, Y)` and `{"x": x, "y": Y}` with the targets of all tasks beside each other are those of each task."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 3)).astype("f4")
    a, b, c = rng.normal(size=64), rng.normal(size=(64, 2)), rng.integers(0, 3, 64)
    y = np.column_stack([a, b, c])
    hidden = rng.random(y.shape) < 0.3
    tasks = [pt.Task("a"), pt.Task("b", outputs=2), pt.Task("c", classes=3)]

    def trained(data):
        model = pt.MultiTaskModel(3, tasks=tasks)
        pt.Trainer(model, "sgd").fit(data, epochs=2, progress=False)
        return model.state_dict()

    masked = np.ma.masked_array(y, hidden)
    each = {"a": masked[:, 0], "b": masked[:, 1:3], "c": masked[:, 3]}
    right = trained((x, each))
    for data in [(x, masked), {"x": x, "y": masked}, (x, np.where(hidden, np.nan, y))]:
        assert all(np.array_equal(right[name], value) for name, value in trained(data).items())
    with pytest.raises(ValueError, match=r"or \(x, targets \[rows, 4\]\); got 2 elements"):
        trained((x, y[:, :3]))
