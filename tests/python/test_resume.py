"""A run that goes on from a checkpoint ends with the same bits as one that was never interrupted."""

import os
import random
import signal
import time
import warnings
from functools import partial

import numpy as np
import polytask as pt
import pytest
import torch
from conftest import Data, make_model, make_tasks, same_bits, without_seconds
from torch.utils.data import BatchSampler, DataLoader, TensorDataset, WeightedRandomSampler

FIT = {"epochs": 8, "batch_size": 32, "progress": False}
EVERYTHING = {
    "schedule": pt.schedule.Cosine(warmup=5),
    "clip_norm": 1.0,
    "regularizers": ["l2"],
    "seed": 7,
}


def make_trainer(folder=None, patience=3, **more):
    callbacks = [pt.EarlyStopping("age/loss", patience=patience, min_delta=0.01)]
    callbacks += [pt.Checkpoint(folder, **more)] if folder is not None else []
    encoder = pt.encoder.MLP([16, 8], dropout=0.2, norm="batch")
    model = pt.MultiTaskModel(8, tasks=make_tasks(), encoder=encoder)
    return pt.Trainer(model, pt.optim.AdamW(lr=0.01), callbacks=callbacks, **EVERYTHING)


class Interrupt(pt.Callback):
    """Breaks off after so many batches."""

    def __init__(self, after):
        self.every_steps = after

    def on_steps(self, trainer):
        raise SystemExit


@pytest.mark.parametrize("after", [1, 5, 13, 20, 31])
def test_rows_in_memory_resume_at_any_batch(data, tmp_path, after):
    want = make_trainer()
    history = want.fit(data.whole, validation=0.2, **FIT)
    broken = make_trainer(tmp_path, every_steps=1)
    with pytest.raises(SystemExit):
        broken.fit(data.whole, validation=0.2, callbacks=[Interrupt(after)], **FIT)
    resumed = make_trainer(tmp_path, every_steps=1)
    got = resumed.fit(data.whole, validation=0.2, resume=tmp_path, **FIT)
    assert same_bits(resumed.model.state_dict(), want.model.state_dict())
    assert without_seconds(got) == without_seconds(history)
    assert resumed.callbacks[0].state() == want.callbacks[0].state()


def test_early_stopping_goes_on_with_its_count_and_its_best(data, tmp_path):
    want = make_trainer(patience=2)
    epochs = len(want.fit(data.whole, validation=0.2, **{**FIT, "epochs": 60}))
    assert epochs < 60
    broken = make_trainer(tmp_path / "x", patience=2)
    with pytest.raises(SystemExit):
        broken.fit(data.whole, validation=0.2, callbacks=[Interrupt(4 * (epochs - 1))], **{**FIT, "epochs": 60})
    resumed = make_trainer(tmp_path / "x", patience=2)
    got = resumed.fit(data.whole, validation=0.2, resume=tmp_path / "x", **{**FIT, "epochs": 60})
    assert len(got) == epochs
    assert same_bits(resumed.model.state_dict(), want.model.state_dict())
    done = make_trainer(tmp_path / "x", patience=2)
    assert len(done.fit(data.whole, validation=0.2, resume=tmp_path / "x", **{**FIT, "epochs": 60})) == epochs
    assert same_bits(done.model.state_dict(), want.model.state_dict())


def loader_of(data, generator, by="loader"):
    rows = TensorDataset(*map(torch.from_numpy, (data.x, data.income, data.age, data.topics)))
    if by == "loader":
        return DataLoader(rows, batch_size=32, shuffle=True, generator=generator)
    sampler = WeightedRandomSampler(torch.linspace(1, 2, 160), 160, generator=generator)
    if by == "sampler":
        return DataLoader(rows, batch_size=32, sampler=sampler)
    return DataLoader(rows, batch_sampler=BatchSampler(sampler, 32, drop_last=False))


class Stateful:
    """A loader that says where it is, as `torchdata` has one: each epoch's order follows from those before."""

    def __init__(self, data, extra=None):
        self.data, self.generator_of_mine, self.extra = data, torch.Generator().manual_seed(0), extra

    def __iter__(self):
        order = torch.randperm(160, generator=self.generator_of_mine).numpy()
        for part in np.split(order, 5):
            yield self.data.x[part], {name: y[part] for name, y in self.data.targets.items()}

    def __len__(self):
        return 5

    def state_dict(self):
        return {"order": self.generator_of_mine.get_state(), "extra": self.extra}

    def load_state_dict(self, state):
        self.generator_of_mine.set_state(state["order"])


def test_a_loader_that_says_where_it_is_goes_on_from_there(data, tmp_path):
    want = make_trainer()
    history = want.fit(Stateful(data), **FIT)
    with pytest.raises(SystemExit):
        make_trainer(tmp_path).fit(Stateful(data), callbacks=[Interrupt(12)], **FIT)
    resumed = make_trainer(tmp_path)
    got = resumed.fit(Stateful(data), resume=tmp_path, **FIT)
    assert same_bits(resumed.model.state_dict(), want.model.state_dict())
    assert without_seconds(got) == without_seconds(history)
    with pytest.raises(TypeError, match="`data`: `state_dict` of Stateful should give numbers, strings and tensors"):
        make_trainer(tmp_path / "b").fit(Stateful(data, extra=Interrupt(1)), **FIT)


@pytest.mark.usefixtures("own_seed")
@pytest.mark.parametrize("by", ["loader", "sampler", "batch sampler"])
@pytest.mark.parametrize("own", [True, False])
def test_a_foreign_loader_resumes_from_an_epochs_boundary(data, tmp_path, own, by):
    def generator():
        torch.manual_seed(3)
        return torch.Generator().manual_seed(5) if own else None

    want = make_trainer()
    history = want.fit(loader_of(data, generator(), by), **FIT)
    broken = make_trainer(tmp_path, every_steps=2)
    with pytest.raises(SystemExit):
        broken.fit(loader_of(data, generator(), by), callbacks=[Interrupt(12)], **FIT)
    resumed = make_trainer(tmp_path)
    torch.manual_seed(99)
    got = resumed.fit(loader_of(data, torch.Generator() if own else None, by), resume=tmp_path, **FIT)
    assert same_bits(resumed.model.state_dict(), want.model.state_dict())
    assert without_seconds(got) == without_seconds(history)


@pytest.mark.usefixtures("own_seed")
def test_a_python_loss_that_draws_random_numbers_resumes(data, tmp_path):
    def noisy(outputs, targets):
        return (outputs - targets + 0.1 * torch.randn(len(outputs))) ** 2

    def trainer(folder=None):
        model = pt.MultiTaskModel(8, tasks=[pt.Task("age", loss=noisy)])
        return pt.Trainer(model, callbacks=[] if folder is None else [pt.Checkpoint(folder, every_steps=3)])

    torch.manual_seed(0)
    want = trainer()
    want.fit((data.x, data.age), **FIT)
    torch.manual_seed(0)
    with pytest.raises(SystemExit):
        trainer(tmp_path).fit((data.x, data.age), callbacks=[Interrupt(17)], **FIT)
    torch.manual_seed(1)
    resumed = trainer(tmp_path)
    resumed.fit((data.x, data.age), resume=tmp_path, **FIT)
    assert same_bits(resumed.model.state_dict(), want.model.state_dict())


def test_without_a_checkpoint_training_starts(data, tmp_path):
    want, got = make_trainer(), make_trainer(tmp_path)
    want.fit(data.whole, **FIT)
    got.fit(data.whole, resume=tmp_path, **FIT)
    assert same_bits(got.model.state_dict(), want.model.state_dict())


def test_other_settings_models_and_data_are_refused_untouched(data, tmp_path):
    make_trainer(tmp_path).fit(data.whole, **FIT)
    before = make_model().state_dict()
    for trainer, changes, message in [
        (make_trainer(), {"batch_size": 16}, "`resume`: the checkpoint was made with batch_size 32; got 16"),
        (make_trainer(), {"shuffle": False}, "made with shuffle True; got False"),
        (pt.Trainer(make_model()), {}, "made with other settings"),
        (pt.Trainer(make_model(head="tower"), pt.optim.AdamW(lr=0.01), **EVERYTHING), {}, "other model parts"),
    ]:
        state = trainer.model.state_dict()
        with pytest.raises(ValueError, match=message):
            trainer.fit(data.whole, resume=tmp_path, **{**FIT, **changes})
        assert same_bits(trainer.model.state_dict(), state)
        assert len(trainer.history) == 0
    with pytest.raises(ValueError, match="made with rows 160; got 40"):
        make_trainer().fit(Data(40).whole, resume=tmp_path, **FIT)
    assert same_bits(make_model().state_dict(), before)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(data, tmp_path, caplog):
    make_trainer(tmp_path, keep=2).fit(data.whole, **FIT)
    last = sorted(tmp_path.glob("*.safetensors"))[-1]
    last.write_bytes(last.read_bytes()[:-100])
    want, got = make_trainer(), make_trainer()
    want.fit(data.whole, **FIT)
    with caplog.at_level("WARNING", "polytask"):
        got.fit(data.whole, resume=tmp_path, **FIT)
    assert "skipped a checkpoint" in caplog.text
    assert same_bits(got.model.state_dict(), want.model.state_dict())


def test_a_checkpoint_by_hand(data, tmp_path):
    trainer = make_trainer()
    trainer.fit(data.whole, **{**FIT, "epochs": 2})
    trainer.save(tmp_path / "c.safetensors")
    other = make_trainer()
    other.restore(tmp_path / "c.safetensors")
    for each in (trainer, other):
        each.fit(data.whole, **{**FIT, "epochs": 2})
    assert same_bits(trainer.model.state_dict(), other.model.state_dict())
    assert without_seconds(trainer.history) == without_seconds(other.history)


class Own(pt.Callback):
    """Counts its calls, keeps a mean of parameters, and freezes a part midway."""

    every_steps = 3

    def __init__(self):
        self.calls, self.mean = [], np.zeros(8)

    def on_epoch_start(self, trainer):
        self.calls.append(f"epoch {trainer.epochs}")

    def on_steps(self, trainer):
        self.calls.append(trainer.batches)
        self.mean = 0.9 * self.mean + 0.1 * trainer.model.state_dict()["encoder.0.weight"][0]

    def on_epoch_end(self, trainer, row):
        if row["epoch"] == 4:
            trainer.model.freeze("encoder.0", "heads.age")

    def state(self):
        return {"calls": self.calls}

    def arrays(self):
        return {"mean": self.mean}

    def restore(self, state, arrays):
        self.calls, self.mean = state["calls"], arrays["mean"]


WEIGHTINGS = {
    "equal": "equal",
    "famo": pt.weighting.FAMO(),
    "gradnorm": pt.weighting.GradNorm(),
    "nash": pt.weighting.NashMTL(refresh=10),
}


def module():
    """With all that a module may keep or draw: batch statistics, dropout."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [torch.nn.Linear(8, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(), torch.nn.Dropout(0.2)]
        return torch.nn.Sequential(*layers, torch.nn.Linear(16, 8), torch.nn.BatchNorm1d(8))


def run(folder, weighting, own=False):
    encoder = module() if own else pt.encoder.MLP([16, 8], dropout=0.2, norm="batch")
    model = pt.MultiTaskModel(8, tasks=make_tasks(), encoder=encoder)
    callbacks = [
        pt.EarlyStopping("age/loss", patience=50, min_delta=0.01),
        Own(),
        pt.Checkpoint(folder, every_steps=2, best="income/accuracy"),
    ]
    optimizer = partial(torch.optim.NAdam, lr=0.01) if own else pt.optim.AdamW(lr=0.01)
    trainer = pt.Trainer(model, optimizer, weighting=WEIGHTINGS[weighting], callbacks=callbacks, **EVERYTHING)
    trainer.fit(Data().whole, validation=0.2, resume=folder, **{**FIT, "epochs": 8})
    return trainer


def ended(trainer, folder):
    """All that a run leaves: the model, the history, what callbacks know, the best model's file."""
    callbacks = [(each.state(), {k: a.tobytes() for k, a in each.arrays().items()}) for each in trainer.callbacks]
    state = {name: array.tobytes() for name, array in trainer.model.state_dict().items()}
    best = (folder / "best.safetensors").read_bytes()
    return state, trainer.model.frozen, without_seconds(trainer.history), callbacks, best


def killed(delay, run, *arguments):
    """Starts a run in a process of its own and kills it after so many seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            run(*arguments)
        finally:
            os._exit(0)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


@pytest.fixture
def python_draws():
    """A run with code of the caller's own brings Python's generator back, which a fork seeds anew."""
    before = random.getstate()
    yield
    random.setstate(before)


@pytest.mark.usefixtures("python_draws")
@pytest.mark.parametrize(("weighting", "own"), [*((name, False) for name in WEIGHTINGS), ("equal", True)])
def test_a_run_killed_at_any_moment_ends_as_if_it_had_not_been(tmp_path, weighting, own):
    """Of our own parts, or of a module and an optimizer of PyTorch."""
    want = ended(run(tmp_path / "whole", weighting, own), tmp_path / "whole")
    started = time.perf_counter()
    run(tmp_path / "warm", weighting, own)  # the first run also loads libraries
    length = time.perf_counter() - started
    chance = random.Random(0)
    hits = in_writing = i = 0
    while hits < 15:
        i += 1
        assert i < 500, "runs end before they are killed"
        folder = tmp_path / str(i)
        if not killed(chance.uniform(0, length), run, folder, weighting, own):
            continue
        hits += 1
        in_writing += folder.exists() and any(".partial" in file.name for file in folder.iterdir())
        for part, (got, wanted) in enumerate(zip(ended(run(folder, weighting, own), folder), want, strict=True)):
            assert got == wanted, (i, part)
        assert sorted(os.listdir(folder)) == ["best.safetensors", "checkpoint-000000000032.safetensors"]
    if weighting == "equal" and not own:
        assert in_writing > 0, "no kill met a checkpoint being written"
