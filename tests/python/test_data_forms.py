"""Whatever form the data have, the same numbers come out."""

import numpy as np
import pandas as pd
import polars as pl
import polytask as pt
import pytest
import torch
from conftest import Data, make_model, make_tasks, same_bits, without_seconds
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

FIT = {"epochs": 2, "batch_size": 32, "shuffle": False, "progress": False}


def trained(form, **more):
    model = make_model()
    history = pt.Trainer(model).fit(form, **{**FIT, **more})
    return model.state_dict(), without_seconds(history)


class ByDlpack:
    """An array that knows DLPack and nothing else."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __len__(self):
        return len(self.array)


class ByArray(ByDlpack):
    """An array that knows `__array__` and nothing else."""

    def __array__(self, dtype=None, copy=None):
        return self.array


def backwards(array):
    """The same numbers with negative strides."""
    return array[::-1].copy()[::-1]


def read_only(array):
    array = array.copy()
    array.setflags(write=False)
    return array


@pytest.mark.parametrize(
    "convert",
    [np.asarray, torch.from_numpy, np.ndarray.tolist, ByDlpack, ByArray, backwards, read_only, np.asfortranarray,
     lambda a: a.astype(a.dtype.newbyteorder()), lambda a: np.ma.masked_array(a), lambda a: np.repeat(a, 2, 0)[::2],
     lambda a: torch.from_numpy(a).requires_grad_(a.dtype == np.float32)],
)  # fmt: skip
def test_arrays_of_any_kind(data, convert):
    want = trained(data.whole)
    got = trained((convert(data.x), {name: convert(y) for name, y in data.targets.items()}))
    assert same_bits(got[0], want[0])
    assert got[1] == want[1]


def test_tuples_dicts_and_lists(data):
    want = trained(data.whole)
    for form in [
        (data.x, data.income, data.age, data.topics),
        [data.x, data.income, data.age, data.topics],
        (data.x, {"topics": data.topics, "age": data.age, "income": data.income}),
        ({"numeric": data.x}, data.targets),
        (data.x, data.income[:, None], data.age[:, None], data.topics),
        TensorDataset(*map(torch.from_numpy, (data.x, data.income, data.age, data.topics))),
    ]:
        got = trained(form)
        assert same_bits(got[0], want[0])
        assert got[1] == want[1]


class Rows(Dataset):
    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data.x)

    def __getitem__(self, i):
        return self.data.x[i], {name: y[i] for name, y in self.data.targets.items()}


class Batches(IterableDataset):
    def __init__(self, data):
        self.data = data

    def __iter__(self):
        return (Rows(self.data)[i] for i in range(len(self.data.x)))


def batches(data, size=32):
    for start in range(0, len(data.x), size):
        rows = slice(start, start + size)
        yield data.x[rows], {name: y[rows] for name, y in data.targets.items()}


@pytest.mark.usefixtures("own_seed")
def test_loaders_data_sets_and_iterables(data):
    want = trained(data.whole)
    for form in [Rows(data), DataLoader(Rows(data), batch_size=32), Batches(data), list(batches(data))]:
        state, history = trained(form)
        assert same_bits(state, want[0])
        for row, wanted in zip(history, want[1], strict=True):
            assert row == pytest.approx(wanted, rel=1e-6)


def test_a_generator_is_read_once(data):
    trained(batches(data), epochs=1)
    model = make_model()
    with pytest.raises(ValueError, match="`data` can be read only once, but there are 2 epochs"):
        pt.Trainer(model).fit(batches(data), **FIT)


@pytest.mark.usefixtures("own_seed")
def test_a_data_set_is_shuffled_anew_each_epoch_by_the_seed_alone(data):
    seen = []

    class Watched(Rows):
        def __getitem__(self, i):
            seen.append(i)
            return super().__getitem__(i)

    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = trained(Watched(data), shuffle=True)
    assert sorted(seen[:160]) == sorted(seen[160:]) == list(range(160))
    assert seen[:160] != seen[160:]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert same_bits(trained(Rows(data), shuffle=True)[0], first[0])


def frame_of(data):
    columns = {f"x{j}": data.x[:, j] for j in range(8)} | {"income": data.income, "age": data.age}
    return pd.DataFrame(columns | {f"topic{j}": data.topics[:, j] for j in range(3)})


def test_frames_with_column_names(data):
    tasks = [*make_tasks()[:2], pt.Task("topics", loss="binary_cross_entropy", columns=["topic0", "topic1", "topic2"])]
    want = trained(data.whole)
    frame = frame_of(data)
    for form in [frame, pl.from_pandas(frame), frame.sample(frac=1, random_state=0).sort_index()]:
        model = pt.MultiTaskModel(8, tasks=tasks, encoder=pt.encoder.MLP([16, 8], dropout=0.1))
        pt.Trainer(model).fit(form, **FIT)
        assert same_bits(model.state_dict(), want[0])


def census(rows=200, seed=0):
    rng = np.random.default_rng(seed)
    wage = rng.normal(40, 10, rows)
    job = rng.choice(["clerk", "nurse", "pilot"], rows)
    frame = pd.DataFrame({"wage": wage, "job": job, "code": rng.integers(0, 4, rows), "weight": rng.random(rows)})
    frame["rich"] = np.where(wage + 10 * (job == "pilot") > 45, ">50K", "<=50K")
    return frame


def test_inputs_from_a_frame_standardise_and_code():
    frame = census()
    inputs = pt.Inputs.from_frame(frame, categorical=["code"], exclude=["weight"])
    task = pt.Task("rich", classes=["<=50K", ">50K"])
    model = pt.MultiTaskModel(inputs, tasks=[task])
    assert model.inputs.numeric == 1
    assert model.inputs.categorical == [4, 5]
    assert model.inputs.names == ["wage", "job", "code"]
    numeric, codes = model.inputs.transform(frame, model.tasks, "frame")
    np.testing.assert_allclose([numeric.mean(), numeric.std()], [0, 1], atol=1e-5)
    assert codes[:, 0].tolist() == frame.job.map({"clerk": 1, "nurse": 2, "pilot": 3}).tolist()
    assert codes[:, 1].tolist() == (frame.code + 1).tolist()
    as_category = frame.astype({"code": "category"})
    assert pt.Inputs.from_frame(as_category, exclude=["weight", "rich"]).names == ["wage", "job", "code"]


def test_frames_train_and_predict_and_unseen_values_have_a_category_of_their_own(tmp_path):
    frame = census()
    inputs = pt.Inputs.from_frame(frame, categorical=["code"], exclude=["weight"])
    model = pt.MultiTaskModel(inputs, tasks=[pt.Task("rich", classes=["<=50K", ">50K"])])
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit(frame, validation=census(seed=1), epochs=30, weights="weight", progress=False)
    assert trainer.evaluate(census(seed=2))["rich"]["accuracy"] > 0.8
    raw = pd.DataFrame({"code": [9, 1], "job": ["astronaut", None], "wage": [np.nan, 80.0]})
    model.save(tmp_path / "m.safetensors")
    predicted = model.predict(raw)["rich"]
    for other in (pt.MultiTaskModel.load(tmp_path / "m.safetensors"), model):
        np.testing.assert_array_equal(other.predict(raw)["rich"], predicted)
        np.testing.assert_array_equal(other.predict(pl.from_pandas(raw))["rich"], predicted)
    by_hand = {"numeric": [[0.0], [(80 - frame.wage.mean()) / frame.wage.std(ddof=0)]], "categorical": [[0, 0], [0, 2]]}
    np.testing.assert_allclose(model.predict(by_hand)["rich"], predicted, rtol=1e-5)


def test_rare_categories_share_the_code_of_unseen_ones():
    frame = pd.DataFrame({"a": ["x", "x", "y", "z", "z"]})
    inputs = pt.Inputs.from_frame(frame, min_count=2)
    _, codes = inputs.transform(frame, [], "frame")
    assert codes[:, 0].tolist() == [1, 1, 0, 2, 2]


def test_row_weights_in_every_place(data):
    w = np.linspace(0, 2, len(data.x))
    frame = frame_of(data).assign(w=w)
    want = trained((data.x, data.targets, w))
    assert not same_bits(want[0], trained(data.whole)[0])
    batched = [(x, y, w[32 * i : 32 * i + 32]) for i, (x, y) in enumerate(batches(data))]
    for state, _ in [
        trained(data.whole, weights=w),
        trained(data.whole, weights=dict.fromkeys(data.targets, w)),
        trained((data.x, data.targets, {"income": w, "age": w, "topics": torch.from_numpy(w)})),
        trained((frame[[f"x{j}" for j in range(8)] + ["w"]].drop(columns="w"), data.targets), weights=w),
        trained(batched),
    ]:
        assert same_bits(state, want[0])
    only_age = trained(data.whole, weights={"age": np.zeros(len(w))})[0]
    np.testing.assert_array_equal(only_age["heads.age.weight"], make_model().state_dict()["heads.age.weight"])


def test_a_weight_counts_as_a_repeated_row():
    one, two = Data(40), Data(40)
    w = np.where(np.arange(40) < 20, 2.0, 1.0)
    index = np.r_[np.arange(40), np.arange(20)]
    repeated = (two.x[index], {name: y[index] for name, y in two.targets.items()})
    a, b = make_model(), make_model()
    np.testing.assert_allclose(
        pt.Trainer(a).evaluate((one.x, one.targets, w)).loss, pt.Trainer(b).evaluate(repeated).loss
    )


def test_validation_in_any_form_or_as_a_fraction(data):
    other = Data(seed=5)
    rows = [trained(data.whole, validation=form)[1] for form in (other.whole, list(batches(other)), Rows(other))]
    for row, same, too in zip(*rows, strict=True):
        assert row == pytest.approx(same, rel=1e-6)
        assert row == pytest.approx(too, rel=1e-6)
    assert {"validation/loss", "validation/age/r2", "validation/income/auroc"} <= rows[0][0].keys()
    (state, history), (again, too) = trained(data.whole, validation=0.25), trained(data.whole, validation=0.25)
    assert same_bits(state, again)
    assert history == too
    assert "validation/loss" in history[0]


def test_in_memory_arrays_are_not_copied(data):
    model = make_model()
    rows = model.reader.read((torch.from_numpy(data.x), data.targets))
    assert np.shares_memory(rows.numeric, data.x)
    assert np.shares_memory(rows.targets[2], data.topics)
    assert model.reader.read(data.whole).numeric is data.x
