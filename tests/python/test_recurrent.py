"""Recurrent layers are those of PyTorch over packed sequences, in every scheme and in all backwards."""

import re

import numpy as np
import polytask as pt
import pytest
import torch
from conftest import same_bits, without_seconds
from gradients import upgrad
from test_backends import AWAY, near
from test_positions import FUNNELS, Sentences
from test_weighting_walk import names
from torch import nn
from torch.nn import functional
from torch.nn.utils import rnn

WORDS, TAGS, WIDTH = 20, 3, 6
INPUTS = pt.Inputs(positions={"tokens": pt.Inputs(categorical=[WORDS], embedding=WIDTH)})
#: Layers of equal width as one module of PyTorch has them, in one direction and in both.
KINDS = {
    "lstm": {"hidden": [9, 9]},
    "gru": {"hidden": [9, 9], "cell": "gru"},
    "lstm, forward": {"hidden": 17, "bidirectional": False},
    "gru, forward": {"hidden": [5, 5, 5], "cell": "gru", "bidirectional": False},
}


def make_model(encoder, sharing="hard", **more):
    tasks = [pt.Task("tag", classes=TAGS, per="tokens"), pt.Task("mood", classes=2, weight=0.5)]
    return pt.MultiTaskModel(INPUTS, tasks=tasks, encoder=encoder, sharing=sharing, seed=3, **more)


class Packed(nn.Module):
    """A tagger and a classifier of rows by PyTorch, with the parameters of a model."""

    def __init__(self, state, hidden, cell="lstm", bidirectional=True):
        super().__init__()
        layers = 1 if isinstance(hidden, int) else len(hidden)
        width = hidden if isinstance(hidden, int) else hidden[0]
        gates = {"lstm": 4, "gru": 3}[cell]
        kind = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.rnn = kind(WIDTH, width, layers, batch_first=True, bidirectional=bidirectional)
        self.state = {name: torch.from_numpy(x).clone().requires_grad_() for name, x in state.items()}
        self.width = width * (2 if bidirectional else 1)
        names = ["recurrent", "reversed"][: 2 if bidirectional else 1]
        self.places = {}
        for layer in range(layers):
            for direction, name in enumerate(names):
                part = slice(direction * gates * width, (direction + 1) * gates * width)
                end = f"l{layer}{'_reverse' if direction else ''}"
                self.places[f"weight_ih_{end}"] = (f"encoder.{layer}.weight", part)
                self.places[f"bias_ih_{end}"] = (f"encoder.{layer}.bias", part)
                self.places[f"weight_hh_{end}"] = (f"encoder.{layer}.{name}.weight", slice(None))
                self.places[f"bias_hh_{end}"] = (f"encoder.{layer}.{name}.bias", None)

    def own(self, name):
        """A parameter of the module of PyTorch, from those of the model."""
        place, part = self.places[name]
        if part is not None:
            return self.state[place][part]
        # Of the biases of `W h` the last gate of a GRU has one alone.
        zeros = torch.zeros_like(getattr(self.rnn, name))
        if place not in self.state:
            return zeros
        bias = self.state[place]
        return torch.cat([zeros[: len(zeros) - len(bias)], bias])

    def forward(self, sentences):
        there = [words for words in sentences if len(words)]
        x = [self.state["embedding.tokens.0.weight"][torch.as_tensor(words, dtype=torch.long)] for words in there]
        packed = rnn.pack_sequence(x, enforce_sorted=False)
        y, _ = torch.func.functional_call(self.rnn, {name: self.own(name) for name in self.places}, (packed,))
        padded, lengths = rnn.pad_packed_sequence(y, batch_first=True)
        rows = iter([row[:length] for row, length in zip(padded, lengths, strict=True)])
        each = [next(rows) if len(words) else x[0].new_zeros(0, self.width) for words in sentences]
        pooled = torch.stack([row.mean(0) if len(row) else row.new_zeros(self.width) for row in each])
        linear = lambda x, path: functional.linear(x, self.state[f"{path}.weight"], self.state[f"{path}.bias"])  # noqa: E731
        return linear(torch.cat(each), "heads.tag"), linear(pooled, "heads.mood")

    def losses(self, data):
        x, y = data
        tags, moods = self(x["tokens"])
        of_tags = functional.cross_entropy(tags, torch.from_numpy(np.concatenate(y["tag"])), ignore_index=-1)
        return of_tags, 0.5 * functional.cross_entropy(moods, torch.from_numpy(y["mood"]), ignore_index=-1)


@pytest.mark.usefixtures("own_seed")
@pytest.mark.parametrize("away", ["loops", *AWAY])
@pytest.mark.parametrize("kind", KINDS)
def test_predictions_and_all_gradients_are_those_of_pytorch(kind, away):
    data = Sentences()
    model = make_model(pt.encoder.Recurrent(**KINDS[kind]))
    # Biases start at 0, where nothing would show.
    rng = np.random.default_rng(1)
    state = {name: (x + 0.2 * rng.normal(size=x.shape)).astype(np.float32) for name, x in model.state_dict().items()}
    model.load_state_dict(state)
    model._core.to(away)
    plain = Packed(state, **KINDS[kind])
    predicted = model.predict(data.whole[0], raw=True)
    tags, moods = plain(data.tokens)
    np.testing.assert_allclose(np.concatenate(predicted["tag"]), tags.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(predicted["mood"], moods.detach().numpy(), atol=1e-5)

    rows = model.reader.rows(data.whole)
    found, jacobian = model._core.gradients(rows.core(), "jacobian")
    assert {"encoder.0.weight", "encoder.0.bias", "encoder.0.recurrent.weight"} < set(found)
    leaves = [plain.state[name] for name in found]
    want = []
    for loss in plain.losses(data.whole):
        gradients = torch.autograd.grad(loss, leaves, retain_graph=True)
        want.append(torch.cat([gradient.reshape(-1) for gradient in gradients]).numpy())
    near(jacobian, want, "Jacobian")
    near(model._core.gradients(rows.core(), "gramian"), np.array(want) @ np.array(want).T, "Gramian")

    # In a step of SGD of a rate of 1 the change is what was decided on.
    every = list(plain.state)
    gradients = torch.autograd.grad(sum(plain.losses(data.whole)), [plain.state[name] for name in every])
    whole = dict(zip(every, (gradient.numpy() for gradient in gradients), strict=True))
    of_shared = np.split(upgrad(np.array(want, np.float64)) * len(want), np.cumsum([leaf.numel() for leaf in leaves]))
    projected = dict(zip(found, of_shared, strict=False))
    for weighting, of_model in (("equal", whole), (pt.weighting.UPGrad(scale="sum"), {**whole, **projected})):
        model.load_state_dict(state)
        pt.Trainer(model, pt.optim.SGD(lr=1.0), weighting=weighting).step(data.whole)
        for name, after in model.state_dict().items():
            near(state[name] - after, of_model[name].reshape(after.shape), (weighting, name), 1e-4)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_neither_the_order_of_rows_nor_where_batches_end_matters(cell):
    data = Sentences()
    model = make_model(pt.encoder.Recurrent([8, 4], cell=cell, pool="attention"))
    want = model.predict(data.whole[0], raw=True)
    order = np.random.default_rng(1).permutation(len(data.tokens))
    turned = model.predict(data.some(order)[0], raw=True)
    few = model.predict(data.whole[0], raw=True, batch_size=7)
    for i, place in enumerate(order):
        for name in ("tag", "mood"):
            np.testing.assert_allclose(turned[name][i], want[name][place], atol=1e-5)
            np.testing.assert_allclose(few[name][place], want[name][place], atol=1e-5)
    before = model.state_dict()
    steps = []
    for part in (np.arange(len(order)), order):
        model.load_state_dict(before)
        pt.Trainer(model, pt.optim.SGD(lr=1.0), weighting="upgrad").step(data.some(part))
        steps.append(np.concatenate([x.ravel() for x in model.state_dict().values()]))
    near(*steps, "order", 1e-5)


def columns(data):
    """Words as a column each row, of which a module of torch reads the first."""
    return {"tokens": [words[:, None] for words in data.tokens]}


def with_scheme(sharing, cell, where="loops"):
    encoder = pt.encoder.Recurrent([5, 5], cell=cell, pool="max", dropout=0.1)
    data = Sentences(30)
    if sharing in FUNNELS:
        tasks = [pt.Task(name, loss="binary_cross_entropy", per="tokens") for name in ("click", "buy")]
        above = {"click": 0, "buy": 1}
        y = {name: [np.where(tags < 0, np.nan, tags > at) for tags in data.tags] for name, at in above.items()}
        model = pt.MultiTaskModel(INPUTS, tasks=tasks, encoder=encoder, sharing=sharing, seed=3)
    else:
        branches = pt.sharing.Branched([[["tag", "mood"]], [["tag"], ["mood"]]])
        model = make_model(encoder, branches if sharing == "branched" else sharing)
        y = data.whole[1]
    model._core.to(where)
    return model, (columns(data), y)


@pytest.mark.parametrize("away", AWAY)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("sharing", names("sharing"))
def test_every_scheme_trains_it_and_it_leaves_as_a_module(sharing, cell, away):
    states = []
    for where in ("loops", away):
        model, data = with_scheme(sharing, cell, where)
        trainer = pt.Trainer(model, pt.optim.SGD(lr=0.5), weighting="upgrad", seed=0)
        losses = trainer.fit(data, epochs=3, batch_size=100, shuffle=False, progress=False)["loss"]
        assert losses[-1] < losses[0]
        states.append(model.state_dict())
    for name, want in states[0].items():
        near(states[1][name], want, name, 1e-4)
    model, data = with_scheme(sharing, cell)
    module = model.to_torch()
    with torch.no_grad():
        given = module(**model.tensors(data[0]))
    for name, want in model.predict(data[0]).items():
        want = np.concatenate(list(want)) if want.dtype == object else want
        np.testing.assert_allclose(given[name].numpy(), want, atol=1e-5)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_module_trains_as_the_model_does(cell):
    data = Sentences(30)
    model = make_model(pt.encoder.Recurrent([5, 3], cell=cell))
    module = model.to_torch(raw=True)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    tags, moods = (torch.from_numpy(x) for x in (np.concatenate(data.tags), data.mood))
    for _ in range(5):
        raw = module(**model.tensors(columns(data)))
        loss = functional.cross_entropy(raw["tag"], tags, ignore_index=-1)
        loss = loss + 0.5 * functional.cross_entropy(raw["mood"], moods, ignore_index=-1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    pt.Trainer(model, pt.optim.SGD(lr=0.1)).fit(data.whole, epochs=5, batch_size=100, shuffle=False, progress=False)
    after = module.state_dict()
    for name, want in model.state_dict().items():
        near(after[name].numpy(), want, name, 1e-5)


def test_it_is_saved_and_resumed_with_the_same_bits(tmp_path):
    class Interrupt(pt.Callback):
        every_steps = 5

        def on_steps(self, trainer):
            raise SystemExit

    def new(*callbacks):
        model = make_model(pt.encoder.Recurrent([7, 5], cell="gru", dropout=0.2, pool="attention"))
        return pt.Trainer(model, lr=0.01, weighting="upgrad", seed=7, callbacks=callbacks)

    data = Sentences()
    fit = {"epochs": 3, "batch_size": 16, "progress": False}
    want = new()
    history = want.fit(data.whole, validation=0.2, **fit)
    with pytest.raises(SystemExit):
        new(pt.Checkpoint(tmp_path, every_steps=1)).fit(data.whole, validation=0.2, callbacks=[Interrupt()], **fit)
    resumed = new()
    got = resumed.fit(data.whole, validation=0.2, resume=tmp_path, **fit)
    assert same_bits(resumed.model.state_dict(), want.model.state_dict())
    assert without_seconds(got) == without_seconds(history)
    want.model.save(tmp_path / "model")
    again = pt.MultiTaskModel.load(tmp_path / "model")
    assert repr(again) == repr(want.model)
    assert same_bits(again.state_dict(), want.model.state_dict())
    assert np.array_equal(again.predict(data.whole[0])["mood"], want.model.predict(data.whole[0])["mood"])


def test_frozen_layers_stay():
    data = Sentences(30)
    model = make_model(pt.encoder.Recurrent([5, 5], cell="gru"))
    model.freeze("encoder.0", "encoder.1.recurrent")
    before = model.state_dict()
    pt.Trainer(model, pt.optim.SGD(lr=0.5), weighting="upgrad").step(data.whole)
    stayed = {name for name, x in model.state_dict().items() if np.array_equal(x, before[name])}
    assert stayed == {name for name in before if name.startswith(("encoder.0.", "encoder.1.recurrent."))}


@pytest.mark.usefixtures("own_seed")
def test_rows_of_one_position_and_of_none():
    data = Sentences(12)
    words = [row[:1] for row in data.tokens]
    model = make_model(pt.encoder.Recurrent([4], bidirectional=False))
    plain = Packed(model.state_dict(), hidden=4, bidirectional=False)
    np.testing.assert_allclose(
        np.concatenate(model.predict({"tokens": words}, raw=True)["tag"]), plain(words)[0].detach().numpy(), atol=1e-5
    )
    none = model.predict({"tokens": [np.zeros(0, int)] * 3}, raw=True)
    assert [len(row) for row in none["tag"]] == [0, 0, 0]
    np.testing.assert_allclose(none["mood"], np.tile(model.state_dict()["heads.mood.bias"], (3, 1)), atol=1e-6)


def test_what_has_no_positions_is_refused():
    message = "Recurrent: the inputs have no positions within rows; use MLP, or inputs with `positions`"
    with pytest.raises(ValueError, match=re.escape(message)):
        pt.MultiTaskModel(8, tasks=[pt.Task("a")], encoder=pt.encoder.Recurrent([4]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden": [4, 0]}, "Recurrent: argument `hidden` should be at least 1; got [4,0]"),
        ({"cell": "rnn"}, 'Recurrent: argument `cell` should be "lstm" or "gru"; got "rnn"'),
        ({"dropout": 1.0}, "Recurrent: argument `dropout` should be at least 0 and below 1; got 1.0"),
        ({"bidirectional": 2}, "Recurrent: argument `bidirectional` should be True or False; got 2"),
        ({"pool": "last"}, 'Recurrent: argument `pool` should be "mean", "sum", "max" or "attention"; got "last"'),
    ],
)
def test_arguments_that_cannot_be_are_named(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        pt.encoder.Recurrent(**arguments)
