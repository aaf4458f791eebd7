"""How many threads a run uses, what its history and its checkpoints say of that, and what torch has afterwards."""

import copy
import pickle
import threading

import numpy as np
import polytask as pt
import pytest
import torch
from conftest import make_model, same_bits

FIT = {"epochs": 2, "batch_size": 32, "progress": False}


@pytest.fixture(autouse=True)
def two():
    """Torch was told two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def wide(loss=None):
    """A model whose step is worth two threads, and its rows."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1024, 256)).astype(np.float32)
    model = pt.MultiTaskModel(256, tasks=[pt.Task("a", loss=loss)], encoder=pt.encoder.MLP([512, 512]), seed=0)
    return model, (x, {"a": x[:, 0]})


def seeing():
    """A loss that notes how many threads torch has when it is called."""
    seen = []

    def loss(p, y):
        seen.append(torch.get_num_threads())
        return (p - y) ** 2

    return loss, seen


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_number_holds_in_every_call_and_torch_has_its_own_again_after_each(count):
    loss, seen = seeing()
    model, data = wide(loss)
    trainer = pt.Trainer(model, threads=count)
    between = []

    class Between(pt.Callback):
        every_steps = 1

        def on_steps(self, trainer):
            between.append(torch.get_num_threads())

    history = trainer.fit(data, validation=data, callbacks=[Between()], **FIT)
    trainer.fit([data], epochs=1, progress=False)
    trainer.evaluate(data)
    trainer.step(data)
    assert set(seen) == {count}
    assert set(between) == {2}
    assert torch.get_num_threads() == 2
    assert history.threads == [(0, count)]


def test_other_threads_have_what_torch_was_told():
    elsewhere = []

    def loss(p, y):
        if not elsewhere:
            other = threading.Thread(target=lambda: elsewhere.append(torch.get_num_threads()))
            other.start()
            other.join()
        return (p - y) ** 2

    model, data = wide(loss)
    pt.Trainer(model, threads=1).fit(data, **FIT)
    assert elsewhere == [2]


def test_a_call_that_fails_leaves_torch_its_number():
    def loss(p, y):
        raise ZeroDivisionError

    model, data = wide(loss)
    with pytest.raises(ZeroDivisionError):
        pt.Trainer(model, threads=1).fit(data, **FIT)
    assert torch.get_num_threads() == 2


def test_a_number_gives_the_bits_of_a_process_that_has_so_many():
    def trained(told, threads):
        torch.set_num_threads(told)
        model, data = wide()
        pt.Trainer(model, threads=threads).fit(data, validation=data, **FIT)
        return model.state_dict()

    assert same_bits(trained(2, 1), trained(1, "auto"))
    assert same_bits(trained(1, 2), trained(2, 2))


def test_auto_begins_with_what_torch_was_told(data):
    trainer = pt.Trainer(make_model())
    assert trainer.threads == "auto"
    assert trainer.fit(data.whole, **FIT).threads[0] == (0, 2)
    torch.set_num_threads(1)
    steps = trainer.steps
    assert trainer.fit(data.whole, **FIT).threads[-1] == (steps, 1)


def test_a_resumed_run_goes_on_with_the_number_that_held(data, tmp_path):
    class Interrupt(pt.Callback):
        every_steps = 7

        def on_steps(self, trainer):
            raise SystemExit

    def trainer():
        return pt.Trainer(make_model(), callbacks=[pt.Checkpoint(tmp_path, every_steps=1)])

    torch.set_num_threads(1)
    with pytest.raises(SystemExit):
        trainer().fit(data.whole, callbacks=[Interrupt()], **FIT)
    torch.set_num_threads(2)
    resumed = trainer()
    assert resumed.fit(data.whole, resume=tmp_path, **FIT).threads == [(0, 1)]
    assert resumed.steps == 10


def pickled(thing):
    return pickle.loads(pickle.dumps(thing))


@pytest.mark.parametrize("way", [copy.deepcopy, pickled])
def test_copies_have_the_number_and_what_it_was_before(data, way):
    trainer = pt.Trainer(make_model(), threads=1)
    trainer.fit(data.whole, **FIT)
    twin = way(trainer)
    assert twin.threads == 1
    assert twin.history.threads == [(0, 1)]
    assert twin.fit(data.whole, **FIT).threads == [(0, 1)]


def test_a_history_of_an_earlier_version_has_no_threads():
    history = pt.History([{"epoch": 1}])
    state = {"rows": history.rows}
    history.__setstate__(state)
    assert history.threads == []
    assert pt.History(threads=[(0, 2)])[:].threads == [(0, 2)]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [(0, ValueError), (-1, ValueError), (5000, ValueError), (1.5, TypeError), ("many", TypeError), (True, TypeError),
     (None, TypeError), ([2], TypeError)],
)  # fmt: skip
def test_other_numbers_are_refused_in_words(wrong, error):
    with pytest.raises(error, match=r"`threads` should be \"auto\" or a whole number .*; got "):
        pt.Trainer(make_model(), threads=wrong)


def test_a_numpy_number_is_one():
    assert pt.Trainer(make_model(), threads=np.int64(2)).threads == 2
