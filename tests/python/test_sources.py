"""Tables and streams of other libraries, and functions that make batches, train as the rows they hold."""

import numpy as np
import polytask as pt
import pyarrow as pa
import pytest
import torch
from conftest import make_model, same_bits
from test_batches import FIT, trained
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, TensorDataset

# A loader without a generator of its own draws from torch's.
pytestmark = pytest.mark.usefixtures("own_seed")


class Column:
    """A column whose values are read when they are asked for, as a slice."""

    def __init__(self, values):
        self._values = values

    def __len__(self):
        return len(self._values)

    def __getitem__(self, index):
        return self._values[index]


class TableOfRows:
    """What `datasets.Dataset` has: columns by name, rows by number, which are dicts."""

    def __init__(self, columns, wrap=lambda values: values):
        self._columns, self._wrap = columns, wrap
        self.column_names = list(columns)
        self.read = []

    def __len__(self):
        return len(next(iter(self._columns.values())))

    def __getitem__(self, key):
        if isinstance(key, str):
            self.read.append(key)
            return self._wrap(self._columns[key])
        return {name: column[key] for name, column in self._columns.items()}

    def __iter__(self):
        return (self[i] for i in range(len(self)))


class StreamOfRows(IterableDataset):
    """What `datasets.IterableDataset` has: rows as dicts, and batches of them by `iter`."""

    def __init__(self, columns):
        self._columns = columns
        self.column_names = list(columns)

    def __iter__(self):
        raise AssertionError("lists would be turned round when rows are collated")

    def iter(self, batch_size):
        rows = len(self._columns["x"])
        for i in range(0, rows, batch_size):
            yield {name: column[i : i + batch_size] for name, column in self._columns.items()}


def whole(data):
    return {"x": data.x, **data.targets, "text": ["a"] * len(data.x)}


@pytest.mark.parametrize("wrap", [lambda v: v, torch.as_tensor, np.ndarray.tolist, lambda v: Column(v.tolist())])
def test_a_table_with_columns_by_name(data, wrap):
    table = TableOfRows(whole(data), lambda v: v if isinstance(v, list) else wrap(v))
    want = trained(data.whole)
    got = trained(table)
    assert same_bits(got[0], want[0])
    assert got[1] == want[1]
    assert "text" not in table.read
    model = make_model()
    assert pt.Trainer(model).evaluate(table).loss == pt.Trainer(model).evaluate(data.whole).loss
    np.testing.assert_array_equal(model.predict(table)["age"], model.predict(data.x)["age"])
    assert same_bits(trained(table, validation=0.25)[0], trained(data.whole, validation=0.25)[0])
    held = pt.data.Split(0.25, stratify="income")
    assert same_bits(trained(table, validation=held)[0], trained(data.whole, validation=held)[0])
    first, second = pt.data.split(table, 0.25)
    assert (len(first["age"]), len(second["age"])) == (120, 40)


def test_a_table_of_plain_columns_is_read_as_a_frame_is():
    x = np.random.default_rng(0).normal(size=(60, 2)).astype("f4")
    columns = {"width": x[:, 0], "height": x[:, 1], "area": x[:, 0] * x[:, 1]}

    def state(form):
        model = pt.MultiTaskModel(2, tasks=[pt.Task("area")])
        pt.Trainer(model).fit(form, **FIT)
        return model.state_dict(), model.predict(form)["area"]

    want = state(columns)
    for form in (TableOfRows(columns), pa.table(columns)):
        got = state(form)
        assert same_bits(got[0], want[0])
        np.testing.assert_array_equal(got[1], want[1])


def test_a_stream_of_rows_makes_its_batches_anew_each_epoch(data):
    want = trained([data_part(data, i) for i in range(0, 160, 32)])
    got = trained(StreamOfRows({name: np.asarray(column).tolist() for name, column in whole(data).items()}))
    assert same_bits(got[0], want[0])
    assert got[1] == want[1]


def data_part(data, start):
    stop = start + 32
    return data.x[start:stop], {name: y[start:stop] for name, y in data.targets.items()}


class Lazy:
    """What `tf.data.Dataset` has: a method that gives an iterator over batches of NumPy, dicts or tuples."""

    def __init__(self, data):
        self._batches = [
            {"x": x, **targets} if i % 64 else (x, targets)
            for i, (x, targets) in ((i, data_part(data, i)) for i in range(0, 160, 32))
        ]

    def as_numpy_iterator(self):
        return iter(self._batches)


def test_a_function_makes_the_batches_of_each_epoch(data):
    def batches():
        for i in range(0, 160, 32):
            yield data_part(data, i)

    want = trained(list(batches()), validation=data.whole)
    for form in (batches, lambda: list(batches()), Lazy(data).as_numpy_iterator):
        got = trained(form, validation=batches)
        assert same_bits(got[0], want[0])
        assert [row["loss"] for row in got[1]] == [row["loss"] for row in want[1]]
    model = make_model()
    trainer = pt.Trainer(model)
    assert trainer.evaluate(batches).loss == trainer.evaluate(batches()).loss == trainer.evaluate(list(batches())).loss
    np.testing.assert_array_equal(model.predict(batches)["age"], model.predict(list(batches()))["age"])
    mixed = {"income": lambda: [(data.x, data.income)], "age": lambda: [(data.x, data.age)]}
    model = pt.MultiTaskModel(8, tasks=[pt.Task("income", classes=2), pt.Task("age")])
    mix = pt.data.Mix(mixed, sampling="round_robin", length=4)
    assert len(pt.Trainer(model).fit(mix, **FIT)) == 2


def test_a_generator_is_read_once(data):
    def batches():
        yield data.whole

    trainer = pt.Trainer(make_model())
    with pytest.raises(ValueError, match=r"can be read only once, but there are 2 epochs.*`batches` in place of"):
        trainer.fit(batches(), **FIT)
    assert len(trainer.fit(batches(), **{**FIT, "epochs": 1})) == 1
    assert len(trainer.fit(Lazy(data).as_numpy_iterator(), **{**FIT, "epochs": 1})) == 2


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda d: lambda epoch: [d.whole], TypeError, "`data` is a function, which should need no argument .*`epoch`"),
        (lambda d: lambda: d.whole, TypeError, "`data` is a function, which should give the batches .*it gave tuple"),
        (lambda d: lambda: None, TypeError, "it gave NoneType"),
        (lambda d: lambda: iter(()), ValueError, "`data` has no batch"),
        (lambda d: TensorDataset, TypeError, "`data` should be .*; got type"),
        (lambda d: torch.nn.Linear(8, 1), TypeError, "`data` should be .*; got Linear"),
    ],
)
def test_functions_that_make_no_batches(data, make, error, message):
    with pytest.raises(error, match=message):
        pt.Trainer(make_model()).fit(make(data), **FIT)
    with pytest.raises(ValueError, match="batches cannot be split by a fraction"):
        pt.Trainer(make_model()).fit(lambda: [data.whole], validation=0.2, **FIT)


def test_features_and_targets_in_dicts_of_their_own(data):
    want = trained(data.whole)
    ids = [f"row-{i}" for i in range(160)]
    for inputs in (data.x, {"x": data.x}, {"numeric": data.x}, {"features": torch.from_numpy(data.x)}):
        batch = {"id": ids, "inputs": inputs, "targets": data.targets, "index": np.arange(160)}
        got = trained(batch)
        assert same_bits(got[0], want[0])
        assert got[1] == want[1]
        np.testing.assert_array_equal(make_model().predict(batch)["age"], make_model().predict(data.x)["age"])
    with pytest.raises(ValueError, match="`x` should have the keys `numeric` and `categorical`; got 'x'"):
        trained({"inputs": {"x": data.x, "mask": data.x}, "targets": data.targets})
    with pytest.raises(ValueError, match="unknown task 'id'"):
        trained({"inputs": data.x, "targets": {**data.targets, "id": ids}})
    with pytest.raises(ValueError, match="two ways: they have both `x`, `inputs`"):
        trained({"x": data.x, "inputs": data.x, "targets": data.targets})


def test_a_column_that_features_are_called_by_stays_a_column():
    x = np.arange(20.0)
    inputs = pt.Inputs.from_frame({"x": x, "y2": 2 * x}, exclude=["y2"])
    model = pt.MultiTaskModel(inputs, tasks=[pt.Task("y2")])
    pt.Trainer(model).fit({"x": x, "y2": 2 * x}, **FIT)
    assert model.predict({"x": x})["y2"].shape == (20,)


def test_a_loader_with_batches_of_its_own(data):
    rows = TensorDataset(*map(torch.from_numpy, (data.x, data.income, data.age, data.topics)))

    def loader():
        order = RandomSampler(rows, generator=torch.Generator().manual_seed(3))
        return DataLoader(rows, batch_sampler=BatchSampler(order, 32, drop_last=True))

    assert same_bits(trained(loader())[0], trained([*loader()], epochs=1)[0]) is False
    loaded = loader()
    assert same_bits(trained(loaded, epochs=1)[0], trained([*loader()], epochs=1)[0])
