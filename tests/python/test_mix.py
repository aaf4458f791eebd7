"""A data set of its own for each task, or for several: whose batch is next, how long an epoch is, exact resumption."""

import random
import time

import numpy as np
import polytask as pt
import pytest
import torch
from conftest import Data, make_model, make_tasks, same_bits, without_seconds
from polytask.components.registry import REGISTRY
from test_resume import Interrupt, killed
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

# A loader without a generator of its own draws from torch's.
pytestmark = pytest.mark.usefixtures("own_seed")

FIT = {"batch_size": 16, "progress": False}


def parts():
    """Two data sets of 160 and 56 rows: ten batches of 16, and four."""
    return Data(160), Data(56, seed=1)


def in_memory():
    a, b = parts()
    return {"income": (a.x, a.income), ("age", "topics"): (b.x, b.age, b.topics)}


def loader(data, *names, generator=None, shuffle=False):
    tensors = [torch.from_numpy(each) for each in (data.x, *(getattr(data, name) for name in names))]
    return DataLoader(TensorDataset(*tensors), batch_size=16, shuffle=shuffle, generator=generator)


def with_loaders(shuffle=False):
    a, b = parts()
    own = torch.Generator().manual_seed(4)
    return {
        "income": loader(a, "income", shuffle=shuffle, generator=own if shuffle else None),
        ("age", "topics"): loader(b, "age", "topics", shuffle=shuffle),
    }


class Items(Dataset):
    """Rows that are not in memory."""

    def __init__(self, x, *y):
        self.arrays = x, *y

    def __len__(self):
        return len(self.arrays[0])

    def __getitem__(self, i):
        return tuple(array[i] for array in self.arrays)


def fitted(data, epochs=2, trainer=None, **more):
    trainer = trainer or pt.Trainer(make_model(), lr=0.01)
    history = trainer.fit(data, epochs=epochs, **{**FIT, **more})
    return trainer.model.state_dict(), without_seconds(history), trainer


def test_a_data_set_a_task_in_every_form_gives_the_same_bits():
    a, b = parts()
    want = fitted(in_memory(), shuffle=False)
    frame = pytest.importorskip("pandas").DataFrame({f"x{j}": a.x[:, j] for j in range(8)}).assign(income=a.income)
    others = {
        "loaders": with_loaders(),
        "data sets": {"income": Items(a.x, a.income), ("age", "topics"): Items(b.x, b.age, b.topics)},
        "one of each": {"income": (a.x, a.income), ("age", "topics"): loader(b, "age", "topics")},
        "batches": {key: list(each) for key, each in with_loaders().items()},
        "by name": {"income": (a.x, {"income": a.income}), ("topics", "age"): (b.x, b.topics, b.age)},
        "dicts": {"income": {"x": a.x, "income": a.income}, ("age", "topics"): {"x": b.x, "labels": (b.age, b.topics)}},
        "a frame": {"income": frame, ("age", "topics"): TensorDataset(*map(torch.from_numpy, (b.x, b.age, b.topics)))},
        "a mix": pt.data.Mix(in_memory()),
        "a list": pt.data.Mix([(a.x, {"income": a.income}), (b.x, {"age": b.age, "topics": b.topics})]),
    }
    for name, data in others.items():
        got = fitted(data, shuffle=False)
        assert same_bits(got[0], want[0]), name
        for row, same in zip(got[1], want[1], strict=True):
            assert row == pytest.approx(same, rel=1e-6, nan_ok=True), name


def steps_of(data, epochs=1, **more):
    """For each step the tasks that had labels: from a loss that is asked for each batch."""
    seen = []

    def watch(name):
        def loss(outputs, targets):
            seen.append(name)
            return ((outputs.reshape(len(targets), -1) - targets.reshape(len(targets), -1)) ** 2).mean(1)

        return loss

    model = pt.MultiTaskModel(8, tasks=[pt.Task("a", loss=watch("a")), pt.Task("b", loss=watch("b"))])
    pt.Trainer(model, lr=1e-3).fit(data, epochs=epochs, train_metrics=False, **{**FIT, **more})
    return seen


@pytest.mark.parametrize(
    ("how", "counts"),
    [
        ({}, (10, 4)),
        ({"sampling": "round_robin"}, (10, 10)),
        ({"sampling": "temperature"}, (9, 5)),  # 14 * sqrt(10) / (sqrt(10) + 2) = 8.6
        ({"sampling": "temperature", "temperature": 1.0}, (10, 4)),
        ({"sampling": "temperature", "temperature": 1e6}, (7, 7)),
        ({"sampling": [1, 6]}, (2, 12)),
        ({"sampling": {"b": 1, "a": 6}, "length": 28}, (24, 4)),
        ({"length": 7}, (5, 2)),
        ({"sampling": [1, 1e-9]}, (13, 1)),
    ],
)
@pytest.mark.parametrize("streams", [False, True])
def test_how_long_an_epoch_is(how, counts, streams):
    a, b = parts()
    sets = {"a": (a.x, a.age), "b": (b.x, b.age)}
    if streams:
        sets = {"a": loader(a, "age"), "b": loader(b, "age")}
    seen = steps_of(pt.data.Mix(sets, **how))
    assert (seen.count("a"), seen.count("b")) == counts
    model = pt.MultiTaskModel(8, tasks=[pt.Task("a"), pt.Task("b")])
    trainer = pt.Trainer(model)
    trainer.fit(pt.data.Mix(sets, **how), epochs=2, **FIT)
    assert trainer.steps == 2 * sum(counts)


def test_batches_are_spread_over_the_epoch_and_turns_are_turns():
    a, b = parts()
    sets = {"a": (a.x, a.age), "b": (b.x, b.age)}
    seen = steps_of(pt.data.Mix(sets, "round_robin"))
    assert seen == ["a", "b"] * 10
    seen = steps_of(pt.data.Mix(sets, [1, 1], length=100))
    assert all(sorted(seen[i : i + 2]) == ["a", "b"] for i in range(0, 100, 2))
    assert seen != ["a", "b"] * 50
    assert steps_of(pt.data.Mix(sets), epochs=2)[:14] != steps_of(pt.data.Mix(sets), epochs=2)[14:]


@pytest.mark.parametrize("streams", [False, True])
def test_a_data_set_is_gone_through_before_it_begins_anew(streams):
    rows = {"a": 48, "b": 20}
    x = {name: np.arange(count, dtype=np.float32)[:, None] for name, count in rows.items()}
    seen = {"a": [], "b": []}

    def watch(name):
        def loss(outputs, targets):
            seen[name] += targets.reshape(-1).tolist()
            return (outputs.reshape(-1) - targets.reshape(-1)) ** 2

        return loss

    model = pt.MultiTaskModel(1, tasks=[pt.Task(name, loss=watch(name)) for name in rows])
    make = Items if streams else lambda *arrays: arrays
    sets = {name: make(x[name], x[name][:, 0]) for name in rows}
    mix = pt.data.Mix(sets, [1, 1])  # five batches an epoch: of three and of two, so 3 or 2 of each
    pt.Trainer(model, lr=1e-9).fit(mix, epochs=6, train_metrics=False, **FIT)
    for name, count in rows.items():
        whole = len(seen[name]) // count
        assert whole >= 3
        passes = [seen[name][i * count : (i + 1) * count] for i in range(whole)]
        assert all(sorted(each) == list(range(count)) for each in passes)
        assert passes[0] != passes[1]


def test_losses_and_metrics_are_those_of_the_joined_data():
    a, b = parts()
    joined = (
        np.concatenate([a.x, b.x]),
        {
            "income": np.r_[a.income, np.full(56, -1)],
            "age": np.r_[np.full(160, np.nan), b.age],
            "topics": np.r_[np.full((160, 3), np.nan), b.topics],
        },
    )
    model = make_model()
    trainer = pt.Trainer(model)
    for data in (in_memory(), with_loaders()):
        got, want = trainer.evaluate(data), trainer.evaluate(joined)
        for task in want:
            assert got[task] == pytest.approx(want[task], rel=1e-5)
        assert got.loss == pytest.approx(want.loss, rel=1e-5)
    # With a learning rate of next to nothing the training metrics are those of the model as it is.
    frozen = pt.MultiTaskModel(8, tasks=make_tasks(), encoder=pt.encoder.MLP([16, 8]))
    want = pt.Trainer(frozen).evaluate(joined)
    for sampling in ("proportional", "round_robin"):
        for data in (in_memory(), with_loaders()):
            row = pt.Trainer(frozen, lr=1e-12).fit(pt.data.Mix(data, sampling), epochs=1, validation=data, **FIT)[-1]
            for task in want:
                for metric, value in want[task].items():
                    assert row[f"validation/{task}/{metric}"] == pytest.approx(value, rel=1e-5)
                    if sampling == "proportional" or (metric != "loss" and data is not None and task == "income"):
                        assert row[f"{task}/{metric}"] == pytest.approx(value, rel=1e-4), (task, metric, sampling)


def test_accumulation_makes_a_step_of_one_batch_of_each():
    a, b = parts()
    both = pt.data.Mix({"income": (a.x, a.income), "age": (b.x[:16], b.age[:16])}, "round_robin")
    tasks = make_tasks()[:2]
    by_mix = pt.MultiTaskModel(8, tasks=tasks, encoder=pt.encoder.MLP([16, 8]))
    by_hand = pt.MultiTaskModel(8, tasks=tasks, encoder=pt.encoder.MLP([16, 8]))
    settings = {"weighting": "upgrad", "lr": 0.01}
    trainer = pt.Trainer(by_mix, accumulate=2, **settings)
    trainer.fit(both, epochs=1, shuffle=False, **FIT)
    assert trainer.steps == 10
    single = pt.Trainer(by_hand, **settings)
    for i in range(10):
        rows = slice(16 * i, 16 * i + 16)
        x = np.concatenate([a.x[rows], b.x[:16]])
        single.step((x, np.r_[a.income[rows], np.full(16, -1)], np.r_[np.full(16, np.nan), b.age[:16]]))
    for name, value in by_hand.state_dict().items():
        np.testing.assert_allclose(by_mix.state_dict()[name], value, atol=2e-5)


def test_one_batch_a_step_is_said_where_gradients_are_compared(caplog):
    with caplog.at_level("WARNING", "polytask"):
        pt.Trainer(make_model(), weighting="uncertainty").fit(in_memory(), epochs=1, **FIT)
        pt.Trainer(make_model(), weighting="upgrad", accumulate=2).fit(in_memory(), epochs=1, **FIT)
        assert "compares the tasks" not in caplog.text
        pt.Trainer(make_model(), weighting="upgrad").fit(in_memory(), epochs=1, **FIT)
        assert "weighting 'upgrad' compares the tasks of a step: pt.Trainer(accumulate=2)" in caplog.text


@pytest.mark.parametrize("name", [info["name"] for info in REGISTRY if info["family"] == "weighting"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_every_weighting_trains_over_a_mix(name, accumulate):
    def state(data):
        model = make_model()
        trainer = pt.Trainer(model, weighting=name, accumulate=accumulate, lr=1e-3)
        history = trainer.fit(data, validation=in_memory(), epochs=2, **FIT)
        assert all(np.isfinite(history["validation/loss"]))
        return model.state_dict()

    mix = pt.data.Mix(in_memory(), "round_robin")
    moved = state(mix)
    before = make_model().state_dict()
    assert any(not np.array_equal(moved[path], before[path]) for path in moved if path.startswith("encoder"))
    assert same_bits(state(mix), moved)


def make_trainer(folder=None, **more):
    encoder = pt.encoder.MLP([16, 8], dropout=0.2, norm="batch")
    model = pt.MultiTaskModel(8, tasks=make_tasks(), encoder=encoder)
    callbacks = [pt.Checkpoint(folder, **more)] if folder is not None else []
    return pt.Trainer(
        model, pt.optim.AdamW(lr=0.01), seed=3, callbacks=callbacks, schedule=pt.schedule.Cosine(warmup=5)
    )


SAMPLINGS = {
    "proportional": {},
    "temperature": {"sampling": "temperature", "temperature": 3.0},
    "round_robin": {"sampling": "round_robin"},
    "weights": {"sampling": [1, 3], "length": 11},
}


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("after", [1, 9, 14, 25])
def test_rows_in_memory_resume_at_any_batch(tmp_path, sampling, after):
    how = SAMPLINGS[sampling]
    want = make_trainer()
    history = want.fit(pt.data.Mix(in_memory(), **how), epochs=4, validation=0.2, **FIT)
    broken = make_trainer(tmp_path, every_steps=1)
    with pytest.raises(SystemExit):
        broken.fit(pt.data.Mix(in_memory(), **how), epochs=4, validation=0.2, callbacks=[Interrupt(after)], **FIT)
    resumed = make_trainer(tmp_path, every_steps=1)
    got = resumed.fit(pt.data.Mix(in_memory(), **how), epochs=4, validation=0.2, resume=tmp_path, **FIT)
    assert same_bits(resumed.model.state_dict(), want.model.state_dict())
    assert without_seconds(got) == without_seconds(history)


class Stream(IterableDataset):
    """Endless batches of noise from torch's own generator: what a loader of augmented data does."""

    def __iter__(self):
        data = Data(64, seed=9)
        while True:
            for i in range(0, 64, 16):
                rows = slice(i, i + 16)
                yield torch.from_numpy(data.x[rows]) + 0.1 * torch.randn(16, 8), data.income[rows]


def streamed():
    a, b = parts()
    own = torch.Generator().manual_seed(11)
    return {
        "income": DataLoader(Stream(), batch_size=None),
        "age": loader(a, "age", shuffle=True, generator=own),
        "topics": Items(b.x, b.topics),
    }


@pytest.mark.parametrize("after", [1, 2, 3])
def test_loaders_resume_between_epochs_in_the_middle_of_their_passes(tmp_path, after):
    how = {"sampling": [2, 1, 1], "length": 13}  # 6, 4 and 3 batches: nobody's pass ends with an epoch

    def run(trainer, epochs=4, **more):
        torch.manual_seed(5)
        return trainer.fit(pt.data.Mix(streamed(), **how), epochs=epochs, **FIT, **more)

    class Break(pt.Callback):
        last = True

        def on_epoch_end(self, trainer, row):
            if row["epoch"] == after:
                raise SystemExit

    want = make_trainer()
    history = run(want)
    with pytest.raises(SystemExit):
        run(make_trainer(tmp_path), callbacks=[Break()])
    torch.manual_seed(99)  # whatever another process is seeded with
    resumed = make_trainer(tmp_path)
    got = resumed.fit(pt.data.Mix(streamed(), **how), epochs=4, resume=tmp_path, **FIT)
    assert same_bits(resumed.model.state_dict(), want.model.state_dict())
    assert without_seconds(got) == without_seconds(history)


def run_in(folder):
    trainer = make_trainer(folder, every_steps=2)
    trainer.fit(pt.data.Mix(in_memory(), "temperature"), epochs=8, validation=0.2, resume=folder, **FIT)
    return trainer


def test_a_run_killed_at_any_moment_ends_with_the_same_bits(tmp_path):
    want = run_in(tmp_path / "whole")
    started = time.perf_counter()
    run_in(tmp_path / "warm")
    length = time.perf_counter() - started
    chance, hits, i = random.Random(0), 0, 0
    while hits < 10:
        i += 1
        assert i < 200, "runs end before they are killed"
        folder = tmp_path / str(i)
        if not killed(chance.uniform(0, length), run_in, folder):
            continue
        hits += 1
        got = run_in(folder)
        assert same_bits(got.model.state_dict(), want.model.state_dict()), i
        assert without_seconds(got.history) == without_seconds(want.history), i


def test_a_resumed_run_must_have_the_same_mix(tmp_path):
    run = {"epochs": 2, **FIT}
    make_trainer(tmp_path).fit(pt.data.Mix(in_memory()), **run)
    for other in (pt.data.Mix(in_memory(), "round_robin"), Data().whole):
        with pytest.raises(ValueError, match="the checkpoint was made with rows"):
            make_trainer(tmp_path).fit(other, resume=tmp_path, **run)


def test_balanced_losses_count_the_labels_of_all_data_sets():
    a, b = parts()
    a.income[:] = np.arange(160) % 5 == 0

    def weights(data):
        model = pt.MultiTaskModel(
            8, tasks=[pt.Task("income", classes=2, loss=pt.loss.CrossEntropy(class_weights="balanced")), pt.Task("age")]
        )
        pt.Trainer(model).fit(data, epochs=1, **FIT)
        return model._core.description["tasks"][0]["loss"]

    want = weights((a.x, {"income": a.income, "age": a.age}))
    assert weights({"income": (a.x, a.income), "age": (b.x, b.age)}) == want
    assert weights({"income": loader(a, "income"), "age": loader(b, "age")}) == want


def test_a_fraction_of_each_data_set_is_held_out():
    for data in (in_memory(), {key: Items(*arrays) for key, arrays in in_memory().items()}, with_loaders()):
        _, _, trainer = fitted(data, validation=0.25, epochs=1)
        assert trainer.steps == 8 + 3  # 120 of 160 rows, 42 of 56
        assert trainer.history[0]["validation/topics/loss"] > 0
    train, held = pt.data.split(pt.data.Mix(in_memory(), "round_robin"), 0.25)
    assert train.sampling == held.sampling == "round_robin"
    assert [len(x) for x, *_ in train.sets.values()] == [120, 42]
    assert [len(x) for x, *_ in held.sets.values()] == [40, 14]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: pt.data.Mix({}), ValueError, "`data` should have at least one data set"),
        (lambda: pt.data.Mix(3), TypeError, r"`data` should be \{task: data set\} or a list of data sets; got int"),
        (lambda: pt.data.Mix(in_memory(), "uniform"), ValueError, "`sampling` should be 'proportional', 'temperature'"),
        (lambda: pt.data.Mix(in_memory(), [1.0]), ValueError, "a weight for each of 2 data sets"),
        (lambda: pt.data.Mix(in_memory(), {"income": 1.0}), ValueError, "a weight for each of"),
        (lambda: pt.data.Mix(in_memory(), [1.0, 0.0]), ValueError, "`sampling` should be a number above 0; got 0.0"),
        (lambda: pt.data.Mix(in_memory(), temperature=2.0), ValueError, '`temperature` belongs to'),
        (lambda: pt.data.Mix(in_memory(), "temperature", temperature=0), ValueError, "`temperature` should be"),
        (lambda: pt.data.Mix(in_memory(), length=1), ValueError, "`length` should be at least 2"),
        (lambda: pt.data.Mix(in_memory(), length=2.5), TypeError, "`length` should be a whole number of batches"),
        (lambda: {"income": iter([]), "age": (Data().x, Data().age)}, ValueError, "can be read only once"),
        (lambda: {"income": DataLoader(Stream(), batch_size=None), "age": (Data().x, Data().age)}, ValueError,
         "the data set 'income' does not know its length: say `length`"),
        (lambda: {"income": (Data().x, Data().age + 0.5), "age": (Data().x, Data().age)}, ValueError,
         r"`data\['income'\]`: the targets of task `income` should be classes from 0 to 1"),
        (lambda: {"income": [], "age": [(Data(8).x, Data(8).age)]}, TypeError, r"`data\['income'\]` should be"),
        (lambda: pt.data.Mix({"income": pt.data.Mix(in_memory())}), TypeError, "should be one data set"),
    ],
)  # fmt: skip
def test_what_a_mix_cannot_be(make, error, message):
    model = make_model()
    before = model.state_dict()
    with pytest.raises(error, match=message):
        pt.Trainer(model).fit(make(), epochs=1, **FIT)
    assert same_bits(model.state_dict(), before)


def test_row_weights_belong_to_each_data_set():
    a, b = parts()
    w = np.linspace(0, 2, 160)
    weighted = {"income": (a.x, {"income": a.income}, w), "age": (b.x, b.age)}
    assert not same_bits(fitted(weighted)[0], fitted({"income": (a.x, a.income), "age": (b.x, b.age)})[0])
    with pytest.raises(ValueError, match="`weights` should be part of each data set"):
        fitted(weighted, weights=w)
