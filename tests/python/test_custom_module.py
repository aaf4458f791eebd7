"""Encoders that are PyTorch modules: the same steps as with the core's own, whatever trains them."""

import copy
import pickle
import re
import threading
import traceback
import warnings
from contextlib import contextmanager, nullcontext

import numpy as np
import polytask as pt
import pytest
import torch
from conftest import Data, make_tasks, same_bits, without_seconds
from test_backends import AWAY, near
from test_weighting_walk import conflicting, names
from torch import nn
from torch.nn import functional

FIT = {"epochs": 3, "batch_size": 32, "progress": False}
STEPS = 20


@contextmanager
def seeded(seed):
    """Torch's generator from a seed, and afterwards as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def layers(features=8, *widths, dropout=0.0):
    """Linear, batch norm, ReLU, as `pt.encoder.MLP(norm="batch")` has them."""
    found = []
    with seeded(3):
        for inner, outer in zip((features, *widths), widths, strict=False):
            found += [nn.Linear(inner, outer), nn.BatchNorm1d(outer), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*found)


class Backbone(nn.Module):
    """Of a user's own: tied weights, a parameter that does not learn, one that nothing uses, a buffer that counts."""

    def __init__(self, features=8, width=6):
        super().__init__()
        with seeded(5):
            self.first = nn.Linear(features, width)
            self.second = nn.Linear(width, width)
        self.again = self.second
        self.norm = nn.BatchNorm1d(width)
        self.scale = nn.Parameter(torch.full((), 2.0), requires_grad=False)
        self.idle = nn.Parameter(torch.ones(3))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
        self.register_buffer("offset", torch.full((width,), 0.5), persistent=False)
        self.seen = None

    def forward(self, x):
        if self.training:
            self.calls += 1
        h = functional.dropout(torch.tanh(self.first(x)), 0.2, self.training)
        return self.norm(self.again(self.second(h))) * self.scale + self.offset


def heads_of(model, tasks):
    """The heads of a model as torch has them."""
    state = model.state_dict()
    found = {}
    for name, width in tasks.items():
        found[name] = nn.utils.skip_init(nn.Linear, state[f"heads.{name}.weight"].shape[1], width)
        found[name].weight.data = torch.from_numpy(state[f"heads.{name}.weight"])
        found[name].bias.data = torch.from_numpy(state[f"heads.{name}.bias"])
    return found


def theirs(state):
    """The encoder's part of a model's state, under the module's own names."""
    return {name.removeprefix("encoder."): x for name, x in state.items() if name.startswith("encoder.")}


@pytest.mark.parametrize("where", ["loops", *AWAY])
def test_the_same_losses_and_parameters_as_a_loop_of_plain_pytorch(data, where):
    module = layers(8, 16, 8)
    model = pt.MultiTaskModel(8, tasks=[pt.Task("income", classes=2), pt.Task("age", weight=0.5)], encoder=module)
    model._core.to(where)
    trainer = pt.Trainer(model, pt.optim.SGD(lr=0.1, momentum=0.9))
    plain, heads = copy.deepcopy(module), heads_of(model, {"income": 2, "age": 1})
    learned = [*plain.parameters(), *(p for head in heads.values() for p in head.parameters())]
    optimizer = torch.optim.SGD(learned, lr=0.1, momentum=0.9)
    ours, others = [], []
    for step in range(STEPS):
        rows = slice(32 * (step % 5), 32 * (step % 5 + 1))
        x, income, age = (torch.from_numpy(array[rows]) for array in (data.x, data.income, data.age))
        ours.append(trainer.step((data.x[rows], data.income[rows], data.age[rows]))["loss"])
        h = plain(x)
        loss = functional.cross_entropy(heads["income"](h), income)
        loss = loss + 0.5 * functional.mse_loss(heads["age"](h)[:, 0], age)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        others.append(float(loss.detach()))
    np.testing.assert_allclose(ours, others, rtol=1e-5)
    state = theirs(model.state_dict())
    assert state.keys() == plain.state_dict().keys()
    for name, want in plain.state_dict().items():
        near(state[name], want.numpy(), name)
    # The module that was given has learned.
    learned = {name: parameter.detach().numpy() for name, parameter in module.named_parameters()}
    assert same_bits(learned, {name: state[name] for name in learned})


#: A path of the module's to that of the core's own encoder.
PATHS = {"0.": "0.", "1.": "0.norm.", "4.": "1.", "5.": "1.norm."}


def renamed(state):
    """A state of the module's as one of the core's own encoder."""
    found = {}
    for name, x in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        layer = name.removeprefix("encoder.")[:2]
        own = name.startswith("encoder.")
        found[name.replace(f"encoder.{layer}", f"encoder.{PATHS[layer]}", 1) if own else name] = x
    return found


def pair(where, weighting, lr, **more):
    """Trainers of a model with the module and of one with the core's own encoder."""
    tasks = [pt.Task("up"), pt.Task("down", weight=0.5), pt.Task("side", classes=2)]
    tasks.append(pt.Task("flags", loss="binary_cross_entropy", outputs=2))
    found = []
    for encoder in (layers(6, 8, 8), pt.encoder.MLP([8, 8], norm="batch")):
        model = pt.MultiTaskModel(6, tasks=tasks, encoder=encoder, seed=2)
        model._core.to(where)
        more = {"weighting": weighting, "observe": ("weights", "gradients"), "seed": 4, **more}
        found.append(pt.Trainer(model, pt.optim.SGD(lr=lr), **more))
    return found


def one_step(trainer, batch, sharing):
    data, validation = conflicting(sharing, rows=60), conflicting(sharing, rows=24, seed=5)
    trainer.fit(data, validation=validation, epochs=1, batch_size=batch, shuffle=False, progress=False)
    return {name: x for name, x in trainer.history.rows[-1].items() if name not in ("epoch", "seconds")}


def compare_steps(where, weighting, pair=pair, renamed=renamed, sharing="hard", **more):
    """Losses, weights, Gramian and gradients of each step, from the same parameters."""
    foreign, own = pair(where, weighting, 1.0, **more)
    path, _ = pair(where, weighting, 0.05)
    for k in range(6):
        state = path.model.state_dict()
        foreign.model.load_state_dict(state)
        own.model.load_state_dict(renamed(state))
        got, want = (one_step(trainer, 60 // more.get("accumulate", 1), sharing) for trainer in (foreign, own))
        assert got.keys() == want.keys()
        for kind in {name.split("/")[0] for name in want}:
            part = [name for name in want if name.split("/")[0] == kind]
            near([got[name] for name in part], [want[name] for name in part], (k, kind))
        after, known = renamed(foreign.model.state_dict()), own.model.state_dict()
        before = renamed(state)
        near(
            np.concatenate([(after[name] - before[name]).ravel() for name in known]),
            np.concatenate([(known[name] - before[name]).ravel() for name in known]),
            (k, "gradient"),
        )
        one_step(path, 60, sharing)


@pytest.mark.parametrize("where", ["loops", *AWAY])
@pytest.mark.parametrize("weighting", names("weighting"))
def test_every_weighting_makes_the_steps_it_makes_with_the_cores_own_encoder(weighting, where):
    compare_steps(where, weighting)


@pytest.mark.parametrize(
    ("weighting", "more"),
    [
        (pt.weighting.UPGrad(at="representation"), {}),
        (pt.weighting.CAGrad(per="layer"), {}),
        (pt.weighting.MGDA(normalize="l2"), {"clip_norm": 0.5}),
        ("equal", {"regularizers": [pt.regularizer.L2(0.1), pt.regularizer.L1(0.1)]}),
    ],
)
def test_modes_clipping_and_regularizers_work_on_it(weighting, more):
    compare_steps("loops", weighting, **more)


@pytest.mark.parametrize("sparse", [False, True])
def test_embeddings_before_it_learn(sparse):
    rng = np.random.default_rng(0)
    x, codes = rng.normal(size=(64, 2)).astype(np.float32), rng.integers(0, 5, size=(64, 1))
    y, z = rng.normal(size=(2, 64)).astype(np.float32)
    inputs = pt.Inputs(numeric=2, categorical=[5], embedding=3, sparse=sparse)
    model = pt.MultiTaskModel(inputs, tasks=[pt.Task("y"), pt.Task("z")], encoder=layers(5, 8), seed=1)
    plain, heads = layers(5, 8), heads_of(model, {"y": 1, "z": 1})
    table = model.state_dict()["embedding.0.weight"]
    leaf = torch.from_numpy(table).clone().requires_grad_()
    pt.Trainer(model, "sgd", lr=0.1).step(({"numeric": x, "categorical": codes}, y, z))
    h = plain(torch.cat([torch.from_numpy(x), leaf[codes[:, 0]]], 1))
    for name, labels in (("y", y), ("z", z)):
        functional.mse_loss(heads[name](h)[:, 0], torch.from_numpy(labels)).backward(retain_graph=True)
    near(model.state_dict()["embedding.0.weight"] - table, -0.1 * leaf.grad.numpy(), "gradient")


@pytest.mark.parametrize("inplace", [False, True])
def test_a_module_may_write_on_what_it_is_given(inplace):
    """Embeddings before it learn all the same, and the caller's features stay what they are."""
    rng = np.random.default_rng(0)
    x, codes = rng.normal(size=(64, 2)).astype(np.float32), rng.integers(0, 5, size=(64, 1))
    given, y = x.copy(), rng.normal(size=64).astype(np.float32)
    with seeded(0):
        module = nn.Sequential(nn.ReLU(inplace=inplace), nn.Linear(5, 4))
    inputs = pt.Inputs(numeric=2, categorical=[5], embedding=3)
    model = pt.MultiTaskModel(inputs, tasks=[pt.Task("y")], encoder=module, seed=1)
    plain, heads = copy.deepcopy(module), heads_of(model, {"y": 1})
    table = model.state_dict()["embedding.0.weight"]
    leaf = torch.from_numpy(table).clone().requires_grad_()
    pt.Trainer(model, "sgd", lr=0.1).step(({"numeric": x, "categorical": codes}, y))
    h = plain(torch.cat([torch.from_numpy(given), leaf[codes[:, 0]]], 1))
    functional.mse_loss(heads["y"](h)[:, 0], torch.from_numpy(y)).backward()
    near(model.state_dict()["embedding.0.weight"] - table, -0.1 * leaf.grad.numpy(), "gradient")
    np.testing.assert_array_equal(x, given)
    features = {"numeric": x, "categorical": codes}
    np.testing.assert_array_equal(model.predict(features)["y"], model.predict(features)["y"])
    np.testing.assert_array_equal(x, given)


def test_autocast_sees_each_steps_parameters(data):
    """It keeps what it has made of parameters until it ends, and the core moves them without its noticing."""

    class Casting(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layers(8, 4)

        def forward(self, x):
            return self.layer(x).float()

    ends = []
    for around_all in (nullcontext(), torch.autocast("cpu", torch.bfloat16)):
        model = pt.MultiTaskModel(8, tasks=make_tasks(), encoder=Casting(), seed=1)
        trainer = pt.Trainer(model, "sgd", lr=0.1)
        with around_all:
            for _ in range(4):
                with torch.autocast("cpu", torch.bfloat16):
                    trainer.step(data.whole)
        ends.append(model.state_dict())
    assert same_bits(*ends)


def resumed(make, data, folder, after, weighting):
    """The state of a run that broke off after so many steps and went on, which ends as one that did not."""

    class Interrupt(pt.Callback):
        every_steps = after

        def on_steps(self, trainer):
            raise SystemExit

    def new(*callbacks):
        return pt.Trainer(make(), lr=0.01, weighting=weighting, seed=7, callbacks=callbacks)

    want = new()
    history = want.fit(data.whole, validation=0.2, **FIT)
    broken = new(pt.Checkpoint(folder, every_steps=1))
    with pytest.raises(SystemExit):
        broken.fit(data.whole, validation=0.2, callbacks=[Interrupt()], **FIT)
    again = new(pt.Checkpoint(folder, every_steps=1))
    got = again.fit(data.whole, validation=0.2, resume=folder, **FIT)
    assert same_bits(again.model.state_dict(), want.model.state_dict())
    assert without_seconds(got) == without_seconds(history)
    return again.model.state_dict()


@pytest.mark.parametrize("after", [1, 4, 7, 11])
@pytest.mark.parametrize("weighting", ["equal", "upgrad", "famo"])
def test_a_run_resumes_at_any_batch_with_the_same_bits(data, tmp_path, after, weighting):
    """Batch statistics, a counter and what dropout draws included."""

    def make():
        return pt.MultiTaskModel(8, tasks=make_tasks(), encoder=Backbone())

    assert resumed(make, data, tmp_path, after, weighting)["encoder.calls"] == 12


def test_what_it_draws_follows_from_the_seed_and_takes_nothing_from_torchs_generator(data):
    def run(seed, before):
        with seeded(before):
            state = torch.get_rng_state()
            model = pt.MultiTaskModel(8, tasks=make_tasks(), encoder=layers(8, 16, dropout=0.5))
            pt.Trainer(model, seed=seed).fit(data.whole, shuffle=False, **FIT)
            assert torch.equal(torch.get_rng_state(), state)
            return model.state_dict()

    assert same_bits(run(1, 5), run(1, 6))
    assert not same_bits(run(1, 5), run(2, 5))


def test_looks_ahead_see_the_masks_of_the_step(data):
    """A weighting that sees all micro-batches before the first backward runs the module twice on each."""
    drawn = []

    class Drawing(nn.Module):
        def forward(self, x):
            if self.training:
                drawn.append(float(torch.rand(())))
            return x * 1.0

    with seeded(0):
        module = nn.Sequential(nn.Linear(8, 4), Drawing())
    model = pt.MultiTaskModel(8, tasks=make_tasks(), encoder=module)
    trainer = pt.Trainer(model, weighting="dwa", accumulate=2)
    trainer.fit(data.whole, epochs=2, batch_size=40, shuffle=False, progress=False)
    again = [drawn.count(each) for each in dict.fromkeys(drawn)]
    assert len(set(drawn)) == 8
    assert len(set(again)) == 1


class Failing(nn.Module):
    """Raises in one of its forwards, or backwards; its buffer is another tensor after each."""

    def __init__(self, at, backward=False):
        super().__init__()
        with seeded(1):
            self.layer = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4))
        self.register_buffer("mean", torch.zeros(()))
        self.at = at
        self.backward = backward
        self.forwards = 0

    def forward(self, x):
        h = self.layer(x)
        if self.training:
            self.forwards += 1
            self.mean = 0.9 * self.mean + 0.1 * h.detach().mean()
            if self.forwards == self.at:
                if not self.backward:
                    self.break_off()
                h.register_hook(self.break_off)
        return h

    def break_off(self, *_):
        raise LookupError("not today")


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("weighting", ["equal", "upgrad"])
def test_an_exception_reaches_the_user_with_its_traceback_and_the_run_goes_on(data, tmp_path, weighting, backward):
    def new(at):
        model = pt.MultiTaskModel(8, tasks=make_tasks(), encoder=Failing(at, backward))
        return pt.Trainer(model, lr=0.01, weighting=weighting)

    want = new(0)
    want.fit(data.whole, **FIT)
    trainer = new(8)
    with pytest.raises(LookupError, match="not today") as raised:
        trainer.fit(data.whole, callbacks=[pt.Checkpoint(tmp_path, every_steps=1)], **FIT)
    assert "break_off" in [frame.name for frame in traceback.extract_tb(raised.value.__traceback__)]
    at = trainer.model.state_dict()
    trainer.fit(data.whole, resume=tmp_path, **FIT)
    assert not same_bits(trainer.model.state_dict(), at)
    assert same_bits(trainer.model.state_dict(), want.model.state_dict())


@pytest.mark.parametrize("where", ["encoder", "loss"])
def test_its_code_may_ask_for_predictions_of_the_model_in_training(data, where):
    """From the training thread it gets them with the parameters before this step; nothing changes by that."""
    found = []
    refused = []
    asking = []

    def ask():
        if not asking:
            return
        asking.clear()
        found.append((model.state_dict(), model.predict(data.x)["age"]))
        other = threading.Thread(target=lambda: refused.append(_error(lambda: model.predict(data.x))))
        other.start()
        other.join()
        refused.append(_error(lambda: model.load_state_dict(model.state_dict())))
        asking.append(True)

    class Asking(Backbone):
        def forward(self, x):
            h = self.norm(self.first(x))
            if self.training and where == "encoder":
                ask()
            return functional.dropout(self.second(h), 0.3, self.training)

    def loss(outputs, targets):
        if where == "loss":
            ask()
        return (outputs - targets) ** 2

    ends = []
    for asks in (False, True):
        asking[:] = [True] * asks
        model = pt.MultiTaskModel(8, tasks=[pt.Task("age", loss=loss), pt.Task("other")], encoder=Asking())
        pt.Trainer(model, lr=0.01, seed=3).fit((data.x, data.age, data.age), **{**FIT, "epochs": 1})
        ends.append(model.state_dict())
    assert same_bits(*ends)
    assert len(found) == 5
    for state, predicted in found:
        asking.clear()
        model.load_state_dict(state)
        np.testing.assert_array_equal(model.predict(data.x)["age"], predicted)
    assert all("the model is busy" in message for message in refused), refused


def _error(call):
    try:
        call()
    except ValueError as error:
        return str(error)
    return "no error"


def test_several_threads_predict_at_once(data):
    model = pt.MultiTaskModel(8, tasks=make_tasks(), encoder=Backbone())
    pt.Trainer(model).fit(data.whole, **FIT)  # which leaves the module training
    state = model.state_dict()
    wants = [model.predict(data.x[: 20 + k])["age"] for k in range(8)]
    apart = []

    def work(k):
        for _ in range(30):
            got = model.predict(data.x[: 20 + k])["age"]
            apart.append(not np.array_equal(got, wants[k]))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(apart) == 240
    assert not any(apart)
    assert same_bits(model.state_dict(), state)


def test_its_tensors_are_the_models_memory():
    seen = {}

    class Looking(nn.Module):
        def __init__(self):
            super().__init__()
            with seeded(0):
                self.layer = nn.Linear(8, 4)

        def forward(self, x):
            seen.update(weight=self.layer.weight.data_ptr(), x=x.data_ptr(), count=len(x))
            return self.layer(x)

    model = pt.MultiTaskModel(8, tasks=make_tasks(), encoder=Looking())
    model.predict(np.zeros((5, 8), np.float32))
    first = dict(seen)
    assert first["count"] == 5
    assert first["weight"] == model.parameters()["encoder.layer.weight"].ctypes.data
    model.predict(np.zeros((5, 8), np.float32))
    assert seen == first
    model.parameters()["encoder.layer.weight"][:] = 0.0
    model.parameters()["encoder.layer.bias"][:] = 2.0
    assert (model.predict(np.ones((3, 8), np.float32), raw=True)["age"] == model.predict(np.zeros((3, 8)))["age"]).all()


def test_parameters_that_require_no_gradient_are_frozen_and_buffers_kept(data):
    module = Backbone()
    model = pt.MultiTaskModel(8, tasks=make_tasks(), encoder=module)
    assert model.frozen == ["encoder.scale"]
    state = model.state_dict()
    paths = {name for name in state if name.startswith("encoder.")}
    # What is tied is there once, what is no part of a state dict not at all.
    assert paths == {f"encoder.{name}" for name in module.state_dict() if not name.startswith("again.")}
    assert state["encoder.mask"].tolist() == [0.0, -np.inf]
    trainer = pt.Trainer(model, "sgd", lr=0.1)
    trainer.fit(data.whole, **FIT)
    after = model.state_dict()
    moved = {name for name in paths if not np.array_equal(after[name], state[name])}
    still = {"encoder.scale", "encoder.mask", "encoder.idle", "encoder.second.weight"}
    assert moved == paths - still | {"encoder.second.weight"}
    assert after["encoder.calls"] == 15
    assert after["encoder.norm.num_batches_tracked"] == 15
    model.load_state_dict(state)
    assert same_bits(model.state_dict(), state)


def test_frozen_batch_norms_normalise_with_what_they_have(data):
    model = pt.MultiTaskModel(8, tasks=make_tasks(), encoder=layers(8, 16, 8))
    trainer = pt.Trainer(model, "sgd", lr=0.1)
    trainer.fit(data.whole, **FIT)
    model.freeze("encoder.1", "encoder.0")
    before = model.state_dict()
    trainer.fit(data.whole, **FIT)
    after = model.state_dict()
    still = {name for name in before if np.array_equal(before[name], after[name])}
    assert still == {name for name in before if name.startswith(("encoder.0.", "encoder.1."))}
    # The other batch norm saw what the frozen one makes of the data in evaluation.
    plain = layers(8, 16, 8)
    plain.load_state_dict({name: torch.from_numpy(np.asarray(x)) for name, x in theirs(before).items()})
    plain.train()
    plain[1].eval()
    with torch.no_grad():
        plain(torch.from_numpy(data.x))
    model.load_state_dict(before)
    pt.Trainer(model, "sgd", lr=0.0 + 1e-12).step(data.whole)
    near(model.state_dict()["encoder.5.running_mean"], plain[5].running_mean.numpy(), "statistics")
    model.unfreeze("encoder")
    trainer.fit(data.whole, **FIT)
    assert not np.array_equal(model.state_dict()["encoder.1.running_mean"], before["encoder.1.running_mean"])


def test_files_pickles_and_copies(data, tmp_path):
    model = pt.MultiTaskModel(8, tasks=make_tasks(), encoder=Backbone())
    pt.Trainer(model).fit(data.whole, **FIT)
    want, state = model.predict(data.x), model.state_dict()
    model.save(tmp_path / "model.safetensors")
    loaded = pt.MultiTaskModel.load(tmp_path / "model.safetensors", encoder=Backbone())
    twins = [loaded, copy.deepcopy(model), copy.copy(model), pickle.loads(pickle.dumps(model))]
    for twin in twins:
        assert repr(twin) == repr(model)
        assert same_bits(twin.state_dict(), state)
        assert same_bits(twin.predict(data.x), want)
        assert twin.frozen == model.frozen
        pt.Trainer(twin).fit(data.whole, **FIT)
    assert all(same_bits(twin.state_dict(), loaded.state_dict()) for twin in twins)
    trainer = pt.Trainer(loaded)
    trainer.fit(data.whole, **FIT)
    again = pickle.loads(pickle.dumps(trainer))
    for each in (trainer, again):
        each.fit(data.whole, **FIT)
    assert same_bits(again.model.state_dict(), loaded.state_dict())
    assert same_bits(model.state_dict(), state)


def test_a_file_opens_without_the_module_and_says_what_it_needs(data, tmp_path):
    model = pt.MultiTaskModel(8, tasks=make_tasks(), encoder=Backbone())
    model.save(tmp_path / "model.safetensors")
    loaded = pt.MultiTaskModel.load(tmp_path / "model.safetensors")
    assert "encoder=Backbone(...)" in repr(loaded)
    assert same_bits(loaded.state_dict(), model.state_dict())
    loaded.save(tmp_path / "again.safetensors")
    message = r"this model's encoder was Python code, which a file cannot hold: pass it to `load` again, `encoder=`"
    with pytest.raises(ValueError, match=message):
        loaded.predict(data.x)
    with pytest.raises(ValueError, match=message):
        pt.Trainer(loaded).fit(data.whole, **FIT)
    again = pt.MultiTaskModel.load(tmp_path / "again.safetensors", encoder=Backbone())
    assert same_bits(again.predict(data.x), model.predict(data.x))
    others = {
        "made with a module `Backbone` of other parameters: `first.weight` is [6, 8] there and [5, 8]": Backbone(8, 5),
        "made with a module `Backbone` of other parameters: `scale` is [] there and missing here": layers(8, 6),
        "should take features": Backbone(7),
    }
    for message, other in others.items():
        with pytest.raises(ValueError, match=re.escape(message)):
            pt.MultiTaskModel.load(tmp_path / "model.safetensors", encoder=other)
    pt.MultiTaskModel(8, tasks=make_tasks()).save(tmp_path / "own.safetensors")
    with pytest.raises(ValueError, match="the model's encoder is 'mlp', which needs no module; leave it out"):
        pt.MultiTaskModel.load(tmp_path / "own.safetensors", encoder=Backbone())


def test_tasks_are_added_and_removed_and_parameters_taken_over(data):
    model = pt.MultiTaskModel(8, tasks=make_tasks(), encoder=Backbone())
    pt.Trainer(model).fit(data.whole, **FIT)
    more = model.add_task(pt.Task("new"))
    state = model.state_dict()
    assert same_bits(theirs(more.state_dict()), theirs(state))
    assert same_bits({n: x for n, x in more.predict(data.x).items() if n != "new"}, model.predict(data.x))
    pt.Trainer(more).fit((data.x, {**data.targets, "new": data.age}), **FIT)
    assert same_bits(model.state_dict(), state)
    fewer = more.remove_task("age")
    assert fewer.predict(data.x).keys() == {"income", "topics", "new"}
    fresh = pt.MultiTaskModel(8, tasks=[pt.Task("other")], encoder=Backbone())
    fresh.start_from(model, "encoder")
    assert same_bits(theirs(fresh.state_dict()), theirs(state))


class Wrong(nn.Module):
    """Gives what it is told to make of a representation."""

    def __init__(self, make, from_rows=0):
        super().__init__()
        with seeded(0):
            self.layer = nn.Linear(8, 4)
        self.make = make
        self.from_rows = from_rows

    def forward(self, x):
        return self.make(self.layer(x)) if len(x) > self.from_rows else self.layer(x)


WRONG = [
    (lambda h: h[:, 0], r"should give a float32 tensor \[rows, width\]; for zeros of \[2, 8\] it gave float32 \[2\]"),
    (lambda h: h.double(), r"it gave float64 \[2, 4\]"),
    (lambda h: (h, h), "it gave a tuple"),
    (lambda h: h[:1], r"it gave float32 \[1, 4\]"),
    (lambda h: 1 / 0, r"should take features \[rows, 8\]; on zeros of \[2, 8\] it raised ZeroDivisionError"),
]


@pytest.mark.parametrize(("make", "message"), WRONG)
def test_what_is_wrong_at_once_is_said_at_once(make, message):
    with pytest.raises(ValueError, match=message):
        pt.MultiTaskModel(8, tasks=make_tasks(), encoder=Wrong(make))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda h: h[:, :3], r"should give a float32 tensor \[32, 4\]; it gave float32 \[32, 3\]"),
        (lambda h: h.detach(), "should be differentiable; it gives a tensor without a gradient"),
        (lambda h: h.double(), r"should give a float32 tensor \[32, 4\]; it gave float64 \[32, 4\]"),
    ],
)
def test_what_is_wrong_later_is_said_then(data, make, message):
    model = pt.MultiTaskModel(8, tasks=make_tasks(), encoder=Wrong(make, from_rows=2))
    before = model.state_dict()
    with pytest.raises(ValueError, match=message):
        pt.Trainer(model).fit(data.whole, **FIT)
    assert same_bits(model.state_dict(), before)


class Changing(nn.Module):
    """Puts something else in the place of its buffer while training."""

    def __init__(self, new):
        super().__init__()
        with seeded(0):
            self.layer = nn.Linear(8, 4)
        self.register_buffer("mean", torch.zeros(2))
        self.new = new

    def forward(self, x):
        if self.training:
            self.mean = self.new
        return self.layer(x)


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (None, r"buffer `mean` of the module `Changing` should stay a tensor \[2\]; the module made it None"),
        (torch.zeros(3), r"should stay a tensor \[2\]; the module made it float32 \[3\]"),
    ],
)
def test_buffers_stay_what_they_are(data, new, message):
    model = pt.MultiTaskModel(8, tasks=make_tasks(), encoder=Changing(new))
    with pytest.raises(ValueError, match=message):
        pt.Trainer(model).fit(data.whole, **FIT)


def test_expanded_buffers_have_memory_of_their_own(data):
    class Expanded(nn.Module):
        def __init__(self):
            super().__init__()
            with seeded(0):
                self.layer = nn.Linear(8, 4)
            self.register_buffer("steps", torch.zeros(1).expand(3))

        def forward(self, x):
            if self.training:
                self.steps[0] += 1
            return self.layer(x)

    model = pt.MultiTaskModel(8, tasks=make_tasks(), encoder=Expanded())
    pt.Trainer(model).fit(data.whole, **FIT)
    assert model.state_dict()["encoder.steps"].tolist() == [15, 0, 0]


def test_the_first_run_of_a_module_leaves_nothing_in_it():
    class Keeping(nn.Module):
        def __init__(self):
            super().__init__()
            with seeded(0):
                self.layer = nn.Linear(8, 4)
            self.seen = []
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.seen.append(len(x))
            self.calls += 1
            return self.layer(x)

    module = Keeping()
    model = pt.MultiTaskModel(8, tasks=make_tasks(), encoder=module)
    assert model.state_dict()["encoder.calls"] == 0
    assert module.seen == []
    torch.set_default_dtype(torch.float64)
    try:
        pt.MultiTaskModel(8, tasks=make_tasks(), encoder=module)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_module_that_computes_with_what_is_outside_is_refused():
    class Outside(nn.Module):
        def __init__(self):
            super().__init__()
            with seeded(0):
                layer = self.layer = nn.Linear(8, 4)
            self.run = lambda x: layer(x)

        def forward(self, x):
            return self.run(x)

    with pytest.raises(ValueError, match="the module `Outside` should compute with its own parameters, and"):
        pt.MultiTaskModel(8, tasks=make_tasks(), encoder=Outside())


def strange(change):
    module = nn.Sequential(nn.Linear(8, 4))
    change(module)
    return module


@pytest.mark.parametrize(
    ("encoder", "error", "message"),
    [
        (nn.Linear, TypeError, r"`encoder` should be a module, not its class; write Linear\(...\)"),
        (nn.Linear(7, 4), ValueError, r"the module `Linear` should take features \[rows, 8\]; on zeros of \[2, 8\] it"),
        (strange(lambda m: m.register_parameter("w", nn.Parameter(torch.ones(2).double()))), TypeError,
         r"parameter `w` of the module `Sequential` should be float32, as `module.float\(\)` makes it; got float64"),
        (strange(lambda m: m.register_buffer("n", torch.tensor(2**24 + 1))), ValueError,
         "buffer `n` of the module `Sequential` should hold numbers that float32 has too; it is int64 of others"),
        (nn.DataParallel(nn.Linear(8, 4)), TypeError, "pass the module inside, `module.module`, not its DataParallel"),
        (lambda x: x, TypeError, r"`encoder`: a function should make a module of nothing; got <function <lambda>"),
        (lambda: "mlp", TypeError, "`encoder`: a function should make a torch.nn.Module; it made 'mlp'"),
        (pt.encoder.MLP, TypeError, "`encoder` should be one of pt.encoder or its name"),
        (3, TypeError, "`encoder` should be one of pt.encoder or its name"),
    ],
)  # fmt: skip
def test_modules_that_cannot_be_encoders(encoder, error, message):
    with pytest.raises(error, match=message):
        pt.MultiTaskModel(8, tasks=make_tasks(), encoder=encoder)


@pytest.mark.parametrize("sharing", [name for name in names("sharing") if name not in ("hard", "esmm", "aitm")])
def test_schemes_of_several_encoders_refuse_it_by_name(sharing):
    tasks = make_tasks()
    if sharing == "branched":
        one = pt.sharing.Branched([[["income", "age", "topics"]]])
        model = pt.MultiTaskModel(8, tasks=tasks, encoder=Backbone(), sharing=one)
        assert model.predict(np.zeros((2, 8), np.float32))["age"].shape == (2,)
        return
    with pytest.raises(ValueError, match=rf"\"{sharing}\" wants \d+ encoders, and a module of your own is one: give"):
        pt.MultiTaskModel(8, tasks=tasks, encoder=Backbone(), sharing=sharing)


def test_lazy_modules_and_modules_that_were_trained_elsewhere(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lazy = nn.Sequential(nn.LazyLinear(6), nn.ReLU())
    model = pt.MultiTaskModel(8, tasks=make_tasks(), encoder=lazy)
    assert model.state_dict()["encoder.0.weight"].shape == (6, 8)
    module = Backbone().eval()
    want = module(torch.from_numpy(data.x)).detach()
    with torch.inference_mode():
        model = pt.MultiTaskModel(8, tasks=make_tasks(), encoder=module)
        head = model.state_dict()
        got = model.predict(data.x)["age"]
    np.testing.assert_allclose(
        got, (want.numpy() @ head["heads.age.weight"].T + head["heads.age.bias"])[:, 0], rtol=1e-5, atol=1e-6
    )
    history = pt.Trainer(model, lr=0.01).fit(data.whole, **FIT)
    assert history["loss"][-1] < history["loss"][0]


def test_recurrent_modules_with_flat_weights_of_their_own(data):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            with seeded(0):
                self.cell = nn.LSTM(4, 5, batch_first=True)

        def forward(self, x):
            return self.cell(x.reshape(-1, 2, 4))[0][:, -1]

    model = pt.MultiTaskModel(8, tasks=make_tasks(), encoder=Recurrent())
    before = model.state_dict()
    pt.Trainer(model, "sgd", lr=0.5).fit(data.whole, **FIT)
    after = model.state_dict()
    assert all(not np.array_equal(after[name], before[name]) for name in before)
    plain = Recurrent()
    plain.load_state_dict({name: torch.from_numpy(x) for name, x in theirs(after).items()})
    h = plain(torch.from_numpy(data.x)).detach().numpy()
    want = (h @ after["heads.age.weight"].T + after["heads.age.bias"])[:, 0]
    np.testing.assert_allclose(model.predict(data.x)["age"], want, rtol=1e-5, atol=1e-6)


@pytest.fixture
def data():
    return Data()
