"""Batches of rows of similar length: their lengths, exact resumption, what can have none."""

import numpy as np
import polytask as pt
import pytest
from conftest import Data, make_model, same_bits, without_seconds
from test_resume import Interrupt
from test_resume_within import changed
from torch.utils.data import DataLoader, Dataset, IterableDataset

RNG = np.random.default_rng(0)
SIZE = 8


def drawn(rows):
    """Texts of 1 to 60 words, of which few are long, tags of their words, and how many they are."""
    lengths = np.minimum(np.exp(0.8 * RNG.normal(size=rows) + 2), 60).astype(int) + 1
    texts = [list(RNG.choice(["the", "cat", "sat", "far", "away"], length)) for length in lengths]
    tags = [["noun" if word == "cat" else "other" for word in text] for text in texts]
    return texts, tags, lengths.astype(np.float32)


TEXTS, TAGS, LENGTHS = drawn(205)
MORE_TEXTS, _, MORE_LENGTHS = drawn(103)
WHOLE = (TEXTS, {"tag": TAGS, "length": LENGTHS})
FIT = {"epochs": 3, "batch_size": SIZE, "progress": False, "group_by_length": True}


def make(seed=0, callbacks=(), tasks=None, lr=0.01):
    tasks = tasks or [pt.Task("tag", classes=["noun", "other"], per="token"), pt.Task("length")]
    encoder = pt.encoder.Recurrent([8], dropout=0.2)
    model = pt.MultiTaskModel(pt.Inputs(text=pt.Text().fit(TEXTS)), tasks=tasks, encoder=encoder, seed=seed)
    return pt.Trainer(model, lr=lr, callbacks=callbacks, seed=seed)


def watched(data, names=("length",), **more):
    """The lengths in each batch, from losses that are shown them."""
    seen = {name: [] for name in names}

    def watch(name):
        def loss(outputs, targets):
            if len(targets):
                seen[name].append(targets.reshape(-1).tolist())
            return (outputs.reshape(-1) - targets.reshape(-1)) ** 2

        return loss

    tasks = [pt.Task(name, loss=watch(name)) for name in names]
    make(tasks=tasks).fit(data, **{**FIT, "train_metrics": False, **more})
    return seen if len(names) > 1 else seen["length"]


def joined(batches):
    return [length for batch in batches for length in batch]


def spread(batches):
    return sum(max(batch) - min(batch) for batch in batches)


def test_rows_of_similar_length_come_together_in_an_order_of_each_epochs_own():
    batches = watched((TEXTS, LENGTHS))
    each = -(-len(TEXTS) // SIZE)
    epochs = [batches[at : at + each] for at in range(0, len(batches), each)]
    assert len(epochs) == 3
    for epoch in epochs:
        assert sorted(joined(epoch)) == sorted(LENGTHS)
    assert epochs[0] != epochs[1] != epochs[2]
    assert 4 * spread(batches) < spread(watched((TEXTS, LENGTHS), group_by_length=False))
    longest = [max(batch) for batch in epochs[0]]
    assert longest != sorted(longest) != longest[::-1]


def test_each_data_set_of_a_mix_is_grouped():
    data = {"length": (TEXTS, LENGTHS), "other": (MORE_TEXTS, MORE_LENGTHS)}
    seen = watched(data, ("length", "other"))
    plain = watched(data, ("length", "other"), group_by_length=False)
    for name, lengths in (("length", LENGTHS), ("other", MORE_LENGTHS)):
        assert sorted(joined(seen[name])) == sorted([*lengths] * 3)
        assert 3 * spread(seen[name]) < spread(plain[name])


@pytest.mark.parametrize("after", [1, 7, 26, 40])
@pytest.mark.parametrize("mixed", [False, True])
def test_a_run_resumes_at_any_batch_with_the_same_bits(tmp_path, after, mixed):
    data = {"tag": (TEXTS, TAGS), "length": (MORE_TEXTS, MORE_LENGTHS)} if mixed else WHOLE
    want = make()
    history = want.fit(data, **FIT)
    checkpoint = [pt.Checkpoint(tmp_path, every_steps=1)]
    with pytest.raises(SystemExit):
        make(callbacks=checkpoint).fit(data, callbacks=[Interrupt(after)], **FIT)
    resumed = make(callbacks=checkpoint)
    got = resumed.fit(data, resume=tmp_path, **FIT)
    assert same_bits(resumed.model.state_dict(), want.model.state_dict())
    assert without_seconds(got) == without_seconds(history)


def test_networks_of_several_seeds_train_as_each_alone():
    alone = make()
    history = alone.fit(WHOLE, **FIT)
    together = make()
    histories = together.fit(WHOLE, seeds=2, **FIT)
    assert without_seconds(histories.runs[0]) == without_seconds(history)
    assert same_bits(together.model.state_dict(), alone.model.state_dict())


def test_metrics_of_an_epoch_are_those_of_the_rows_whatever_their_order():
    def off(predicted, targets):
        return (predicted - targets).abs().max()

    tasks = [pt.Task("length", metrics=["mae", "r2", off]), pt.Task("tag", classes=["noun", "other"], per="token")]
    model = pt.MultiTaskModel(pt.Inputs(text=pt.Text().fit(TEXTS)), tasks=tasks, encoder=pt.encoder.Recurrent([8]))
    trainer = pt.Trainer(model, lr=1e-30)
    row = trainer.fit(WHOLE, **{**FIT, "epochs": 1}).rows[-1]
    found = trainer.evaluate(WHOLE)
    for name in ("length/mae", "length/r2", "length/off", "length/loss", "tag/accuracy", "tag/loss"):
        assert row[name] == pytest.approx(found[name], rel=1e-5), name


def test_a_run_is_resumed_as_it_was_grouped(tmp_path):
    trainer = make(callbacks=[pt.Checkpoint(tmp_path)])
    trainer.fit(WHOLE, **{**FIT, "epochs": 1, "group_by_length": False})

    def earlier(notes):
        """As versions before wrote it."""
        assert notes["loop"]["same"].pop("group_by_length") is False

    for file in tmp_path.glob("*.safetensors"):
        changed(file, earlier)
    make(callbacks=[pt.Checkpoint(tmp_path)]).fit(WHOLE, resume=tmp_path, **{**FIT, "group_by_length": False})
    with pytest.raises(ValueError, match="made with group_by_length False; got True"):
        make().fit(WHOLE, resume=tmp_path, **FIT)


class Items(Dataset):
    def __len__(self):
        return len(TEXTS)

    def __getitem__(self, i):
        return TEXTS[i], LENGTHS[i]


class Lines(IterableDataset):
    def __iter__(self):
        return iter(zip(TEXTS, LENGTHS, strict=True))


def batches():
    yield TEXTS[:8], LENGTHS[:8]


def loader():
    pairs = list(zip(TEXTS, LENGTHS.tolist(), strict=True))
    return DataLoader(pairs, batch_size=8)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (loader, "the loader of `data` makes its batches"),
        (lambda: batches, "the loader of `data` makes its batches"),
        (lambda: list(batches()), "the loader of `data` makes its batches"),
        (Lines, "the loader of `data` makes its batches"),
        (Items, "the rows of `data` are read one by one, and how long they are is not known before"),
        (lambda: pt.data.Mix([(TEXTS, LENGTHS), loader()]), r"the loader of `data\[1\]` makes its batches"),
    ],
)
def test_batches_from_outside_are_not_grouped(data, says):
    trainer = make(tasks=[pt.Task("length")])
    with pytest.raises(ValueError, match=f"^`group_by_length`: {says}"):
        trainer.fit(data(), **FIT)
    assert trainer.steps == 0


def test_what_has_no_length_and_what_keeps_its_order_is_refused():
    with pytest.raises(ValueError, match=r"^`group_by_length`: the length of a row is how many positions it has"):
        pt.Trainer(make_model()).fit(Data().whole, **FIT)
    with pytest.raises(ValueError, match=r"^`group_by_length` chooses an order of rows, and shuffle=False keeps"):
        make().fit(WHOLE, shuffle=False, **FIT)
    with pytest.raises(TypeError, match=r"`group_by_length`; it is said by pt.Trainer\(...\).fit\(..., group"):
        pt.Trainer(make_model(), group_by_length=True)
