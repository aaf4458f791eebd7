"""Copies and pickles of models, trainers and what belongs to them."""

import copy
import io
import pickle
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polytask as pt
import pytest
import torch
from conftest import make_model, make_tasks, same_bits, without_seconds

FILES = Path(__file__).parents[1] / "files"
sys.path.append(str(FILES))
import make  # noqa: E402

QUIET = {"batch_size": 32, "progress": False}


class Names(pickle.Unpickler):
    """Everything that a pickle looks up by name."""

    def __init__(self, data):
        super().__init__(io.BytesIO(data))
        self.found = set()

    def find_class(self, module, name):
        self.found.add((module, name))
        return super().find_class(module, name)


def names(data):
    unpickler = Names(data)
    unpickler.load()
    return unpickler.found


def through_torch(thing):
    file = io.BytesIO()
    torch.save(thing, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


WAYS = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{f"pickle {p}": lambda thing, p=p: pickle.loads(pickle.dumps(thing, p)) for p in (2, pickle.HIGHEST_PROTOCOL)},
    "torch": through_torch,
}


def half(outputs, targets):
    """A loss of the caller's own."""
    return (outputs - targets) ** 2 / 2


def closeness(predictions, targets):
    """A metric of the caller's own."""
    return 1 / (1 + (predictions - targets).abs().mean())


closeness.higher_is_better = True


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_copy_of_a_model_is_another_one_that_predicts_the_same(data, way):
    model = make_model(sharing="mmoe")
    pt.Trainer(model).fit(data.whole, epochs=1, **QUIET)
    model.freeze("heads.age")
    model.note = ["by the caller"]
    other = way(model)
    assert type(other) is pt.MultiTaskModel
    assert repr(other) == repr(model)
    assert other.note == ["by the caller"]
    assert other.frozen == model.frozen
    assert same_bits(other.state_dict(), model.state_dict())
    assert same_bits(other.predict(data.x), model.predict(data.x))
    before = model.state_dict()
    for view in other.parameters().values():
        view += 1
    assert same_bits(model.state_dict(), before)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_losses_and_metrics_of_ones_own_go_along(data, way):
    tasks = [pt.Task("a", loss=half, metrics=["r2", closeness]), pt.Task("b", metrics=["mae"]), pt.Task("c")]
    model = pt.MultiTaskModel(8, tasks=tasks, encoder=pt.encoder.MLP([4]))
    batch = data.x, data.age, data.age, data.age
    other = way(model)
    assert [[m.name for m in metrics] for metrics in other.metrics] == [["r2", "closeness"], ["mae"], ["mae", "r2"]]
    assert other.tasks[0].loss is half
    assert other.tasks[1].loss == pt.loss.MeanSquared()
    kept = other.state_dict()
    rows = [pt.Trainer(each, lr=0.01).fit(batch, epochs=2, **QUIET) for each in (model, other)]
    assert without_seconds(rows[0]) == without_seconds(rows[1])
    assert "a/closeness" in rows[0].columns
    assert same_bits(model.state_dict(), other.state_dict())
    assert not same_bits(kept, other.state_dict())


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_what_was_learned_of_frames_goes_along(way):
    frame = make.frame().assign(value=make.numbers(1)[:, 0])
    inputs = pt.Inputs.from_frame(frame.drop(columns="value"), bags=["genres"], bins=3)
    model = pt.MultiTaskModel(inputs, tasks=[pt.Task("value")], encoder=pt.encoder.MLP([4]))
    assert same_bits(way(model).predict(frame), model.predict(frame))
    assert repr(way(inputs)) == repr(inputs)
    plain = pt.MultiTaskModel(2, tasks=[pt.Task("value")], encoder=pt.encoder.MLP([4]))
    pt.Trainer(plain).fit(frame[["height", "weight", "value"]].fillna(0.0), epochs=1, progress=False)
    turned = frame[["value", "weight", "height"]].fillna(0.0)
    assert same_bits(way(plain).predict(turned), plain.predict(turned))


RUNS = {
    "plain": {},
    "states": {
        "optimizer": pt.optim.AdamW(lr={"encoders": 0.01, "default": 0.02}, weight_decay=0.1),
        "schedule": pt.schedule.Plateau(patience=0),
        "weighting": pt.weighting.FAMO(),
        "regularizers": ["l1", pt.regularizer.TaskRelation(0.1, refresh=2)],
        "clip_norm": 1.0,
        "observe": ["weights", "gradients"],
    },
    "gradients": {"weighting": pt.weighting.NashMTL(refresh=10), "accumulate": 2},
}


@pytest.mark.parametrize("settings", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_copy_of_a_trainer_goes_on_with_the_same_bits(data, way, settings):
    model = pt.MultiTaskModel(
        8, tasks=make_tasks(), encoder=pt.encoder.MLP([8], dropout=0.1), sharing="soft", head="linear"
    )
    trainer = pt.Trainer(model, **settings, seed=3, callbacks=[pt.EarlyStopping("age/loss", patience=50)])
    trainer.fit(data.whole, epochs=2, **QUIET)
    other = way(trainer)
    assert other.model is not model
    assert repr(other) == repr(trainer)
    assert (other.steps, other.epochs, other.batches) == (trainer.steps, 2, trainer.batches)
    before = model.state_dict()
    other.fit(data.whole, epochs=2, **QUIET)
    assert same_bits(model.state_dict(), before)
    trainer.fit(data.whole, epochs=2, **QUIET)
    assert same_bits(model.state_dict(), other.model.state_dict())
    assert without_seconds(trainer.history) == without_seconds(other.history)
    assert len(trainer.history) == 4
    watched = [each.callbacks[0] for each in (trainer, other)]
    assert watched[0] is not watched[1]
    assert watched[0].best == watched[1].best != [None]


def test_a_model_and_its_trainer_stay_together(data, model):
    trainer = pt.Trainer(model)
    trainer.fit(data.whole, epochs=1, **QUIET)
    for way in (copy.deepcopy, WAYS["pickle 2"]):
        other = way({"model": model, "trainer": trainer})
        assert other["trainer"].model is other["model"]


class Snapshot(pt.Callback):
    """Copies the trainer in the middle of an epoch, and at its end."""

    every_steps = 3

    def __init__(self):
        self.kept = []

    def on_steps(self, trainer):
        self.kept.append(trainer.model.state_dict())
        self.kept.append(copy.deepcopy(trainer.model).state_dict())

    def on_epoch_end(self, trainer, row):
        self.copy = copy.deepcopy(trainer)


def test_copies_may_be_made_while_fit_runs(data):
    def run(epochs, *callbacks):
        trainer = pt.Trainer(make_model(), lr=0.01)
        trainer.fit(data.whole, epochs=epochs, callbacks=callbacks, **QUIET)
        return trainer

    snapshot = Snapshot()
    run(2, snapshot)
    assert len(snapshot.kept) == 6
    assert all(same_bits(*pair) for pair in zip(*[iter(snapshot.kept)] * 2, strict=True))
    assert (snapshot.copy.epochs, len(snapshot.copy.history)) == (2, 2)
    snapshot.copy.fit(data.whole, epochs=1, **QUIET)
    assert same_bits(snapshot.copy.model.state_dict(), run(3).model.state_dict())


def test_batches_that_wait_for_a_step_are_in_no_copy(data, model):
    trainer = pt.Trainer(model, accumulate=2)
    trainer.step(data.whole)
    with pytest.raises(ValueError, match="only between steps: 1 batches wait"):
        copy.deepcopy(trainer)
    trainer.step(data.whole)
    assert copy.deepcopy(trainer).steps == 1


def parts():
    """One of each public class."""
    frame = pd.DataFrame({"age": [20.0, 30, 40], "city": ["Rome", "Oslo", "Lima"]})
    model = make_model()
    trainer = pt.Trainer(model, callbacks=[pt.EarlyStopping("loss")], seed=1)
    return [
        model,
        trainer,
        pt.History([{"epoch": 1, "loss": 0.5}]),
        pt.Results({"a": {"loss": 0.5}}, 0.5),
        pt.Inputs.from_frame(frame),
        pt.Inputs(numeric=2, categorical=[5, pt.Bag(4, 2)]),
        pt.Task("a", classes=["no", "yes"], metrics=["auroc"]),
        pt.Task("a", loss=pt.loss.CrossEntropy(class_weights=[1.0, 2.0]), classes=2),
        pt.EarlyStopping(["loss", "a/auroc"], patience=3, mode={"loss": "max"}),
        pt.Checkpoint("runs", best=["loss", "a/auroc"]),
        pt.Checkpoint("runs"),
        pt.Callback(),
        pt.Bag(9, 3),
        pt.encoder.MLP([16]),
        pt.weighting.UPGrad(),
        pt.sharing.Hard(),
    ]


@pytest.mark.parametrize("part", parts(), ids=lambda part: type(part).__name__)
def test_pickles_name_public_classes_alone(part):
    public = {"polytask", *(f"polytask.{family}" for family in ("encoder", "loss", "sharing", "weighting"))}
    data = pickle.dumps(part)
    assert names(data)
    assert {module for module, _ in names(data)} <= public
    assert repr(pickle.loads(data)) == repr(part)


def test_a_task_takes_the_scale_that_was_learned_along():
    model = pt.MultiTaskModel(2, tasks=[pt.Task("a", scale="robust")])
    x = np.arange(16, dtype=np.float32).reshape(8, 2)
    pt.Trainer(model).fit((x, x.sum(1)), epochs=1, progress=False)
    (task,) = model.tasks
    data = pickle.dumps(task)
    assert task.scaling is not None
    assert pickle.loads(data).scaling == task.scaling
    assert {module for module, _ in names(data)} == {"polytask", "polytask.loss"}


def test_public_classes_are_called_as_they_are_imported():
    for name in pt.__all__:
        each = getattr(pt, name)
        if isinstance(each, type):
            assert (each.__module__, each.__qualname__) == ("polytask", name)


def test_reading_a_pickle_of_a_model_calls_nothing_but_our_reader():
    assert names(pickle.dumps(make_model())) == {("polytask", "MultiTaskModel")}


def test_a_damaged_pickle_of_a_model_is_refused(model):
    data = pickle.dumps(model)
    at = data.index(b'{"__metadata__"')
    with pytest.raises(ValueError, match="a model in memory"):
        pickle.loads(data[:at] + b"[" + data[at + 1 :])


@pytest.mark.parametrize("kind", ["model", "trainer"])
def test_a_pickle_of_an_earlier_commit_opens(kind):
    folder = FILES / "pickles"
    found = pickle.loads((folder / f"{kind}.pickle").read_bytes())
    model = found if kind == "model" else found.model
    with np.load(folder / "expected.npz") as stored:
        for task, predicted in model.predict(make.numbers(4)).items():
            want = stored[f"{kind}/{task}"]
            assert np.linalg.norm(predicted - want) <= 1e-6 * np.linalg.norm(want), task
    if kind == "trainer":
        assert (found.steps, found.epochs, len(found.history)) == (6, 2, 2)
        found.fit(make.data(model, make.numbers(4)), epochs=1, batch_size=8, progress=False)
        assert (found.steps, found.epochs, len(found.history)) == (9, 3, 3)
