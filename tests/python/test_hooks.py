"""Functions as callbacks, and hooks with parameters of other libraries' names."""

import functools

import numpy as np
import polytask as pt
import pytest
from conftest import make_model

FIT = {"batch_size": 32, "progress": False}


def seen(data, make, epochs=2):
    """What a callback was given in each epoch, and the trainer."""
    calls = []
    trainer = pt.Trainer(make_model(), callbacks=make(calls.append))
    trainer.fit(data.whole, epochs=epochs, **FIT)
    return calls, trainer


FUNCTIONS = {
    "row": lambda keep: lambda row: keep((row["epoch"], row)),
    "a name of one's own": lambda keep: lambda values: keep((values["epoch"], values)),
    "trainer, row": lambda keep: lambda trainer, row: keep((trainer.epochs, row)),
    "row, trainer": lambda keep: lambda row, trainer: keep((trainer.epochs, row)),
    "by name alone": lambda keep: lambda *, epoch, row: keep((epoch, row)),
    "with more that has a default": lambda keep: lambda row, scale=1: keep((row["epoch"] * scale, row)),
    "partial": lambda keep: functools.partial(lambda keep, row: keep((row["epoch"], row)), keep),
    "what takes anything": lambda keep: lambda *args: keep((args[0]["epoch"], args[0])),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_called_after_each_epoch(data, name):
    calls, trainer = seen(data, lambda keep: [FUNCTIONS[name](keep)])
    assert [epoch for epoch, _ in calls] == [1, 2]
    assert all(row is there for (_, row), there in zip(calls, trainer.history, strict=True))
    alone, _ = seen(data, FUNCTIONS[name])
    assert len(alone) == 2


def test_metrics_are_the_row_without_the_epoch(data):
    for make in (
        lambda keep: lambda epoch, metrics: keep((epoch, metrics)),
        lambda keep: lambda epoch, logs=None: keep((epoch, logs)),
        lambda keep: lambda epoch, metrics, /: keep((epoch, metrics)),
    ):
        calls, trainer = seen(data, make)
        rows = [{name: value for name, value in row.items() if name != "epoch"} for row in trainer.history]
        assert calls == [(1, rows[0]), (2, rows[1])]


def test_a_function_of_one_call_and_of_a_class(data):
    calls = []

    class Kept:
        def __call__(self, epoch):
            calls.append(epoch)

        def log(self, row):
            calls.append(-row["epoch"])

    trainer = pt.Trainer(make_model())
    trainer.fit(data.whole, epochs=1, callbacks=[Kept(), Kept().log], **FIT)
    trainer.fit(data.whole, epochs=1, callbacks=Kept(), **FIT)
    assert calls == [1, -1, 2]


def test_print_is_a_callback(data, capsys):
    history = pt.Trainer(make_model(), callbacks=[print]).fit(data.whole, epochs=2, **FIT)
    assert capsys.readouterr().out == f"{history[0]}\n{history[1]}\n"


HOOKS = {
    "ours": lambda keep: lambda self, trainer, row: keep((trainer.epochs, row)),
    "ours by other names": lambda keep: lambda self, run, line: keep((run.epochs, line)),
    "with a default": lambda keep: lambda self, run, line=None: keep((run.epochs, line)),
    "the epoch between": lambda keep: lambda self, trainer, epoch, metrics: keep((epoch, {"epoch": epoch, **metrics})),
    "three of other names": lambda keep: lambda self, a, b, c: keep((b, c)),
    "Keras": lambda keep: lambda self, epoch, logs=None: keep((epoch, {"epoch": epoch, **logs})),
    "the row alone": lambda keep: lambda self, row: keep((row["epoch"], row)),
    "anything": lambda keep: lambda self, *args: keep((args[0].epochs, args[1])),
}


@pytest.mark.parametrize("name", HOOKS)
def test_hooks_of_classes_by_their_parameters(data, name):
    def make(keep):
        return [type("Mine", (pt.Callback,), {"on_epoch_end": HOOKS[name](keep)})()]

    calls, trainer = seen(data, make)
    assert [epoch for epoch, _ in calls] == [1, 2]
    assert [row for _, row in calls] == trainer.history.rows


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (lambda a, b: None, r"a callback that is a function, <lambda>\(a, b\): what `a` should be is not known"),
        (lambda epoch, history: None, "what `history` should be is not known; parameters are called `trainer`, `row`"),
        (lambda epoch, **metrics: None, "what `metrics` should be is not known"),
        (type("Mine", (pt.Callback,), {"on_epoch_end": lambda self, a, b, c, d: None})(),
         "Mine.on_epoch_end: what `a` should be is not known; .* two are the trainer and the row"),
        (pt.EarlyStopping, r"got <class .*EarlyStopping'>; a class is called first, `EarlyStopping\(\.\.\.\)`"),
        ("early", "should be a list of pt.Callback or functions; got 'early'"),
        ([None], "should be a list of pt.Callback or functions; got None"),
    ],
)  # fmt: skip
def test_what_no_callback_can_be(data, callback, message):
    with pytest.raises(TypeError, match=message):
        pt.Trainer(make_model(), callbacks=callback)
    model = make_model()
    before = model.state_dict()
    with pytest.raises(TypeError, match=message):
        pt.Trainer(model).fit(data.whole, epochs=1, callbacks=callback, **FIT)
    assert all(np.array_equal(before[name], array) for name, array in model.state_dict().items())


class PrunedError(Exception):
    """As tools raise it to end a run."""


def test_what_a_hook_raises_passes_and_leaves_all_usable(data, caplog):
    def prune(row):
        if row["epoch"] == 2:
            raise PrunedError("enough")

    trainer = pt.Trainer(make_model(), callbacks=[prune])
    with pytest.raises(PrunedError, match="enough") as raised:
        trainer.fit(data.whole, validation=data.whole, epochs=9, batch_size=32)
    assert raised.value.__cause__ is None
    assert len(trainer.history) == 2
    assert caplog.text == ""
    pruned = pt.Trainer(make_model())
    pruned.fit(data.whole, validation=data.whole, epochs=2, **FIT)
    same, want = (each.evaluate(data.whole).columns() for each in (trainer, pruned))
    assert same == want
    more, unbroken = (each.fit(data.whole, validation=data.whole, epochs=2, **FIT) for each in (trainer, pruned))
    assert more["loss"] == unbroken["loss"]
    assert more["epoch"] == [1, 2, 3, 4]
