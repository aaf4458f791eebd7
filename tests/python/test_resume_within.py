"""A run over batches from outside goes on within an epoch, where these say where they are."""

import json
import random
import time

import numpy as np
import polytask as pt
import pytest
import torch
from conftest import Data, make_model, make_tasks, same_bits, without_seconds
from polytask.data import Rows
from polytask.model.scoring import Scores
from test_checkpoints import rewritten
from test_resume import Interrupt, Stateful, killed
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

FIT = {"epochs": 3, "progress": False}
SIZE, BATCHES = 16, 10


class Loader:
    """Batches in an order that follows from the epoch, each read one ahead of the one that it hands over."""

    def __init__(self, data, handed=None):
        self.data, self.handed = data, [] if handed is None else handed
        self.epoch = self.done = 0

    def __iter__(self):
        order = np.random.default_rng(self.epoch).permutation(160).reshape(BATCHES, SIZE)
        batches = (self._batch(rows) for rows in order[self.done :])
        ahead = next(batches, None)
        while ahead is not None:
            now, ahead = ahead, next(batches, None)
            self.handed.append((self.epoch, self.done))
            self.done += 1
            yield now
        self.epoch, self.done = self.epoch + 1, 0

    def _batch(self, rows):
        return self.data.x[rows], {name: y[rows] for name, y in self.data.targets.items()}

    def __len__(self):
        return BATCHES

    def state_dict(self):
        return {"epoch": self.epoch, "done": self.done}

    def load_state_dict(self, state):
        self.epoch, self.done = state["epoch"], state["done"]


class Drawing(Loader):
    """As torchdata's loader: draws a seed from torch's generator for each iterator, and makes one when it is asked
    where it is after another was put there; what comes before is read once more."""

    iterator = None
    state = None
    asked = False

    def __iter__(self):
        if not self.asked:
            self.iterator = self._made()
        self.asked = False
        if self.iterator.ended:
            self.iterator = self._made()
        return self.iterator

    def _made(self):
        made, self.state = _Drawn(self, self.state), None
        return made

    def state_dict(self):
        if self.iterator is None:
            self.iterator, self.asked = self._made(), True
        return {"done": self.iterator.done, "ended": self.iterator.ended}

    def load_state_dict(self, state):
        self.iterator, self.state, self.asked = None, state, False


class _Drawn:
    def __init__(self, loader, state):
        self.loader, self.done, self.ended = loader, 0, False
        self.order = np.random.default_rng(int(torch.randint(1 << 30, ()))).permutation(160).reshape(BATCHES, SIZE)
        if state is not None:
            for _ in range(state["done"]):
                next(self)
            self.ended = state["ended"]

    def __iter__(self):
        return self

    def __next__(self):
        if self.done == BATCHES:
            self.ended = True
            raise StopIteration
        self.done += 1
        x, targets = self.loader._batch(self.order[self.done - 1])
        return x + 0.1 * torch.randn(x.shape).numpy(), targets


class Lines(IterableDataset):
    """Rows one by one, which know which comes next."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def __iter__(self):
        while self.at < 160:
            self.at += 1
            yield self.data.x[self.at - 1], {name: y[self.at - 1] for name, y in self.data.targets.items()}
        self.at = 0

    def __len__(self):
        return 160

    def state_dict(self):
        return {"at": torch.tensor(self.at)}

    def load_state_dict(self, state):
        self.at = int(state["at"])


class Noisy(Dataset):
    """Rows with noise from torch's generator."""

    def __init__(self, data):
        self.data = data

    def __len__(self):
        return 160

    def __getitem__(self, i):
        return self.data.x[i] + 0.1 * torch.randn(8).numpy(), {name: y[i] for name, y in self.data.targets.items()}


class Half(Loader):
    """The targets of one task alone."""

    def _batch(self, rows):
        x, targets = super()._batch(rows)
        return x, targets["age"]


class Topics(Noisy):
    """The same, of another task."""

    def __getitem__(self, i):
        x, targets = super().__getitem__(i)
        return x, targets["topics"]


def mixed(data):
    rows = data.x[:100], data.income[:100]
    return pt.data.Mix({"age": Half(data), "topics": Topics(data), "income": rows}, [2, 1, 1], length=10)


SOURCES = {"loader": Loader, "drawing": Drawing, "lines": Lines, "data set": Noisy, "mix": mixed}


def bias(predicted, known):
    return float((predicted - known).mean())


def make_trainer(folder=None, accumulate=1, metrics=(), every_steps=1, **more):
    tasks = make_tasks()
    tasks[1] = pt.Task("age", metrics=["mae", *metrics], scale="standardize" if metrics else None)
    encoder = pt.encoder.MLP([16, 8], dropout=0.2, norm="batch")
    model = pt.MultiTaskModel(8, tasks=tasks, encoder=encoder)
    callbacks = [] if folder is None else [pt.Checkpoint(folder, every_steps=every_steps, **more)]
    return pt.Trainer(model, callbacks=callbacks, lr=0.01, accumulate=accumulate, schedule=pt.schedule.Cosine(warmup=5))


@pytest.fixture
def seeded():
    state, python = torch.get_rng_state(), random.getstate()
    torch.manual_seed(3)
    yield
    torch.set_rng_state(state)
    random.setstate(python)


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("after", [1, 9, 10, 11, 20, 24])
@pytest.mark.parametrize("source", SOURCES)
def test_a_run_resumes_at_any_batch_with_the_same_bits(data, tmp_path, source, after):
    make = SOURCES[source]
    how = {**FIT, "batch_size": SIZE, "validation": data.whole}
    want = make_trainer()
    history = want.fit(make(data), **how)
    torch.manual_seed(3)
    with pytest.raises(SystemExit):
        make_trainer(tmp_path, every_steps=after).fit(make(data), callbacks=[Interrupt(after + 1)], **how)
    assert [int(path.stem[-12:]) for path in tmp_path.glob("*.safetensors")] == [after]
    torch.manual_seed(99)
    got = make_trainer()
    assert without_seconds(got.fit(make(data), resume=tmp_path, **how)) == without_seconds(history)
    assert same_bits(got.model.state_dict(), want.model.state_dict())


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("after", [4, 10, 18])
def test_metrics_and_steps_of_several_batches_go_on(data, tmp_path, after, accumulate):
    """`spearman` and functions look at all outputs of an epoch, `f1` adds up; steps end at 4, 8 and 10 batches."""
    how = {"accumulate": accumulate, "metrics": ["spearman", bias]}
    want = make_trainer(**how)
    handed = []
    history = want.fit(Loader(data, handed), **FIT)
    broken, rest = [], []
    with pytest.raises(SystemExit):
        make_trainer(tmp_path, **how).fit(Loader(data, broken), callbacks=[Interrupt(after + 1)], **FIT)
    got = make_trainer(tmp_path, **how)
    assert without_seconds(got.fit(Loader(data, rest), resume=tmp_path, **FIT)) == without_seconds(history)
    assert same_bits(got.model.state_dict(), want.model.state_dict())
    # No batch is read again but those of steps that came after the checkpoint, and none is left out; the targets' scale
    # took a pass of its own each time.
    assert handed[BATCHES:] == broken[BATCHES : BATCHES + after] + rest[BATCHES:]


class Keep(pt.Callback):
    """Saves by hand after so many batches, or before the first, and breaks off."""

    def __init__(self, path, after):
        self.path, self.every_steps = path, after

    def on_steps(self, trainer):
        trainer.save(self.path)
        raise SystemExit

    def on_epoch_start(self, trainer):
        if not self.every_steps:
            self.on_steps(trainer)


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("after", [0, 10])
@pytest.mark.parametrize("source", [Loader, Drawing])
def test_a_run_goes_on_before_an_epoch_and_behind_its_last_batch(data, tmp_path, source, after):
    """With steps of 4 batches that of the last two comes when the loader has ended, and the epoch not yet."""
    want = make_trainer(accumulate=4)
    history = want.fit(source(data), **FIT)
    torch.manual_seed(3)
    with pytest.raises(SystemExit):
        make_trainer(accumulate=4).fit(source(data), callbacks=[Keep(tmp_path / "c", after)], **FIT)
    torch.manual_seed(99)
    got = make_trainer(accumulate=4)
    assert without_seconds(got.fit(source(data), resume=tmp_path / "c", **FIT)) == without_seconds(history)
    assert same_bits(got.model.state_dict(), want.model.state_dict())


def plain(data):
    batches = Loader(data)
    return [batches._batch(np.arange(i, i + SIZE)) for i in range(0, 160, SIZE)]


class Noise(IterableDataset):
    """Rows with noise, each process its own, without a word of where it is."""

    def __init__(self, data):
        self.data = Noisy(data)

    def __iter__(self):
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        return (self.data[i] for i in range(first, 160, step))

    def __len__(self):
        return 160


def alone(data):
    return DataLoader(Noise(data), SIZE)


def with_workers(data):
    return DataLoader(Noise(data), SIZE, num_workers=2)


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("make", [plain, alone, with_workers])
def test_batches_that_do_not_say_where_they_are_resume_between_epochs(data, tmp_path, caplog, make):
    want = make_trainer()
    history = want.fit(make(data), **FIT)
    torch.manual_seed(3)
    with pytest.raises(SystemExit), caplog.at_level("WARNING", "polytask"):
        make_trainer(tmp_path).fit(make(data), callbacks=[Interrupt(15)], **FIT)
    assert caplog.text.count("checkpoints are written between epochs alone") == 1
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["checkpoint-000000000010.safetensors"]
    torch.manual_seed(99)
    got = make_trainer(tmp_path)
    assert without_seconds(got.fit(make(data), resume=tmp_path, **FIT)) == without_seconds(history)
    assert same_bits(got.model.state_dict(), want.model.state_dict())


@pytest.mark.parametrize("metrics", [[], ["spearman"]])
def test_a_checkpoint_by_hand_says_what_it_lacks(data, tmp_path, caplog, metrics):
    path = tmp_path / "c.safetensors"
    for make, batches in [(plain, 34), (Loader, 30)]:
        want = make_trainer(metrics=metrics)
        history = want.fit(make(data), **FIT)
        with pytest.raises(SystemExit):
            make_trainer(metrics=metrics).fit(make(data), callbacks=[Keep(path, 14)], **FIT)
        got = make_trainer(metrics=metrics)
        caplog.clear()
        with caplog.at_level("WARNING", "polytask"):
            resumed = got.fit(make(data), resume=path, **FIT)
        assert got.batches == batches
        assert ("does not say where `data` was" in caplog.text) == (make is plain)
        assert ("NaN in this one" in caplog.text) == bool(metrics)
        assert same_bits(got.model.state_dict(), want.model.state_dict()) == (make is Loader)
        if metrics:
            assert np.isnan(resumed["age/spearman"]).tolist() == [False, True, False]
            assert resumed["age/spearman"][0] == history["age/spearman"][0]
        elif make is Loader:
            assert without_seconds(resumed) == without_seconds(history)


def test_a_metric_that_the_checkpoint_did_not_have_waits_for_the_next_epoch(data, tmp_path, caplog):
    path = checkpoint(data, tmp_path, 15)
    tasks = [make_tasks()[0], pt.Task("age", metrics=["mae", "spearman"]), make_tasks()[2]]
    model = pt.MultiTaskModel(8, tasks=tasks, encoder=pt.encoder.MLP([16, 8], dropout=0.2, norm="batch"))
    with caplog.at_level("WARNING", "polytask"):
        trainer = pt.Trainer(model, lr=0.01, schedule=pt.schedule.Cosine(warmup=5))
        history = trainer.fit(Loader(data), resume=path, **FIT)
    assert "NaN in this one" in caplog.text
    assert np.isnan([row.get("age/spearman", 0) for row in history]).tolist() == [False, True, False]


def test_sums_over_an_epoch_add_up_in_the_same_parts():
    tasks = [pt.Task("y", metrics=["pearson", "explained_variance"])]
    model = pt.MultiTaskModel(1, tasks=tasks)
    rng = np.random.default_rng(0)
    parts = rng.normal(size=(5, 1500, 1)).astype("f4")

    def add(scores, part):
        scores.add(Rows(1500, part, targets=[part[:, 0] ** 3 + rng.normal(size=1500)], masks=[None]), [part])

    first = Scores(model, remembers=True)
    for part in parts[:4]:
        add(first, part)
    second = Scores(model, remembers=True)
    second.restore(first.state())
    rng = np.random.default_rng(1)
    add(first, parts[4])
    rng = np.random.default_rng(1)
    add(second, parts[4])
    assert first.metrics([[]]) == second.metrics([[]])


@pytest.mark.parametrize("fails", ["loader", "step"])
def test_a_batch_that_no_step_took_in_is_not_passed_over(data, tmp_path, caplog, fails):
    """Saved where `fit` is left by an exception after five batches: of the loader, or of the step on the sixth."""

    class Fails(Loader):
        def _batch(self, rows):
            if self.done == 5:
                raise OSError("gone")
            return super()._batch(rows)

    def fail(losses):
        calls.append(1)
        if len(calls) == 6:
            raise OSError("gone")
        return torch.ones(3)

    class Save(pt.Callback):
        def on_fit_exit(self, trainer):
            assert (trainer.batches, trainer.resumable) == (5, fails == "loader")
            trainer.save(tmp_path / "c")

    calls = [1] * 99 if fails == "loader" else []
    trainer = pt.Trainer(make_model(), weighting=fail)
    with pytest.raises(OSError, match="gone"):
        trainer.fit((Fails if fails == "loader" else Loader)(data), callbacks=[Save()], **FIT)
    calls += [1] * 99
    again = pt.Trainer(make_model(), weighting=fail)
    with caplog.at_level("WARNING", "polytask"):
        again.fit(Loader(data), resume=tmp_path / "c", **FIT)
    assert again.batches == (30 if fails == "loader" else 35)
    assert ("does not say where `data` was" in caplog.text) == (fails == "step")


def test_a_source_that_can_only_begin_an_epoch_is_seen(data, tmp_path, caplog):
    with pytest.raises(SystemExit):
        make_trainer(tmp_path).fit(Stateful(data), callbacks=[Interrupt(8)], **FIT)
    with caplog.at_level("WARNING", "polytask"):
        make_trainer(tmp_path).fit(Stateful(data), resume=tmp_path, **FIT)
    assert "the resumed epoch has 7 batches in place of 5" in caplog.text


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("make", [Drawing, lambda data: DataLoader(Noisy(data), SIZE, shuffle=True)])
def test_weights_by_labels_are_counted_once(data, tmp_path, make):
    """Counting them reads all batches, which draws from generators and moves a loader on."""

    def trainer(folder=None):
        loss = pt.loss.CrossEntropy(class_weights="balanced")
        model = pt.MultiTaskModel(8, tasks=[pt.Task("income", classes=2, loss=loss), *make_tasks()[1:]])
        return pt.Trainer(model, callbacks=[] if folder is None else [pt.Checkpoint(folder, every_steps=3)])

    want = trainer()
    want.fit(make(data), **FIT)
    torch.manual_seed(3)
    with pytest.raises(SystemExit):
        trainer(tmp_path).fit(make(data), callbacks=[Interrupt(16)], **FIT)
    got = trainer()
    got.fit(make(data), resume=tmp_path, **FIT)
    assert same_bits(got.model.state_dict(), want.model.state_dict())


def checkpoint(data, folder, after, metrics=()):
    with pytest.raises(SystemExit):
        make_trainer(folder, metrics=metrics).fit(Loader(data), callbacks=[Interrupt(after)], **FIT)
    return next(folder.glob("*.safetensors"))


def changed(path, change):
    """The checkpoint with other notes."""

    def edit(header):
        notes = json.loads(header["__metadata__"]["extra"])
        change(notes)
        header["__metadata__"]["extra"] = json.dumps(notes)

    rewritten(path, edit)


@pytest.mark.parametrize(
    "change",
    [
        lambda notes: notes["loop"].update(stream={"said": "00"}),
        lambda notes: notes["loop"].update(stream={"said": "00", "start": None, "left": True}),
        lambda notes: notes["loop"]["stream"].update(start={"torch": "00"}),
        lambda notes: notes["own"].update(scores=[{"list": [1, 2, 3]}, 1]),
        lambda notes: notes["own"]["scores"][0]["list"].pop(),
        lambda notes: notes["own"]["scores"][0]["list"][1]["list"].reverse(),
    ],
)
def test_damaged_notes_of_the_middle_of_an_epoch_are_refused(data, tmp_path, change):
    path = checkpoint(data, tmp_path, 15, ["spearman"])
    changed(path, change)
    trainer = make_trainer(metrics=["spearman"])
    before = trainer.model.state_dict()
    with pytest.raises(ValueError, match=r"nothing goes on from it|not a complete checkpoint"):
        trainer.fit(Loader(data), resume=path, **FIT)
    assert same_bits(trainer.model.state_dict(), before)


def test_what_earlier_versions_kept_of_a_loader_opens(data, tmp_path):
    """The word of a loader after an epoch alone, and nothing of one at all."""
    want = make_trainer()
    want.fit(Loader(data), **FIT)
    path = checkpoint(data, tmp_path, 11)
    changed(path, lambda notes: notes["loop"].update(stream=notes["loop"]["stream"]["said"]))
    got = make_trainer()
    got.fit(Loader(data), resume=path, **FIT)
    assert same_bits(got.model.state_dict(), want.model.state_dict())
    changed(path, lambda notes: notes["loop"].pop("stream"))
    assert len(make_trainer().fit(Loader(data), resume=path, **FIT)) == 3


def run_in(folder):
    trainer = make_trainer(folder, metrics=["spearman"], keep=2)
    trainer.fit(Loader(Data()), resume=folder, **FIT)
    return trainer


@pytest.mark.usefixtures("seeded")
def test_a_run_killed_at_any_moment_ends_with_the_same_bits(tmp_path):
    want = run_in(tmp_path / "whole")
    started = time.perf_counter()
    run_in(tmp_path / "warm")
    length = time.perf_counter() - started
    chance, hits, i, found = random.Random(0), 0, 0, []
    while hits < 4:
        i += 1
        assert i < 100, "runs end before they are killed"
        folder = tmp_path / str(i)
        if not killed(chance.uniform(0.1 * length, length), run_in, folder):
            continue
        hits += 1
        found += [int(path.stem[-12:]) for path in sorted(folder.glob("checkpoint-*.safetensors"))[-1:]]
        got = run_in(folder)
        assert same_bits(got.model.state_dict(), want.model.state_dict()), i
        assert without_seconds(got.history) == without_seconds(want.history), i
    assert any(batches % BATCHES for batches in found), "no kill met the middle of an epoch"
