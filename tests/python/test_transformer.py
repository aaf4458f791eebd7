"""A transformer over positions is that of plain PyTorch over padded rows, in every scheme and in all backwards."""

import re

import numpy as np
import polytask as pt
import pytest
import torch
from conftest import same_bits
from gradients import upgrad
from test_backends import AWAY, near
from test_positions import FUNNELS, INPUTS, TAGS, Sentences, make_model
from test_weighting_walk import names
from torch.nn import functional

LAYERS, WIDTH, HEADS = 2, 12, 3
#: How positions are told their places, and what goes with it.
KINDS = {"rotary": {}, "learned": {"positions": "learned", "max_length": 7}, "none": {"positions": None}}


def encoder(kind="rotary", **more):
    return pt.encoder.Transformer(LAYERS, WIDTH, HEADS, feedforward=2, **{"dropout": 0.0, **KINDS[kind], **more})


class Plain:
    """A tagger and a classifier of rows by PyTorch over padded rows, with a model's parameters."""

    def __init__(self, state, kind):
        self.state = {name: torch.from_numpy(x).clone().requires_grad_() for name, x in state.items()}
        self.kind = kind

    def linear(self, x, path):
        return functional.linear(x, self.state[f"{path}.weight"], self.state[f"{path}.bias"])

    def norm(self, x, path):
        return functional.layer_norm(x, x.shape[-1:], self.state[f"{path}.weight"], self.state[f"{path}.bias"])

    def turned(self, x):
        if self.kind != "rotary":
            return x
        half = x.shape[-1] // 2
        angles = torch.arange(x.shape[-2])[:, None] * 10_000 ** (-torch.arange(half) / half)
        as_complex = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angles), angles)
        return torch.cat([as_complex.real, as_complex.imag], -1)

    def block(self, x, path, there):
        rows, longest, width = x.shape
        inner = self.linear(self.norm(x, f"{path}.attention.norm"), f"{path}.attention.input")
        q, k, v = inner.reshape(rows, longest, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
        mask = there[:, None, None]
        y = functional.scaled_dot_product_attention(self.turned(q), self.turned(k), v, attn_mask=mask)
        x = x + self.linear(y.transpose(1, 2).reshape(rows, longest, width), f"{path}.attention.output")
        hidden = functional.gelu(self.linear(self.norm(x, f"{path}.feedforward.norm"), f"{path}.feedforward.first"))
        return x + self.linear(hidden, f"{path}.feedforward.second")

    def __call__(self, sentences):
        lengths = torch.tensor([len(words) for words in sentences])
        there = torch.arange(int(lengths.max())) < lengths[:, None]
        # What rows without positions attend to is thrown away, and is a number.
        seen = there | (lengths == 0)[:, None]
        codes = torch.zeros(there.shape, dtype=torch.long)
        codes[there] = torch.from_numpy(np.concatenate(sentences).astype(np.int64))
        x = self.linear(self.state["embedding.tokens.0.weight"][codes], "encoder.input")
        if self.kind == "learned":
            x = x + self.state["encoder.places.weight"][: x.shape[1]]
        for layer in range(LAYERS):
            x = self.block(x, f"encoder.{layer}", seen)
        x = self.norm(x, "encoder.norm")
        pooled = (x * there[:, :, None]).sum(1) / lengths.clamp(min=1)[:, None]
        return self.linear(x[there], "heads.tag"), self.linear(pooled, "heads.mood")

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
    model = make_model(encoder(kind))
    rng = np.random.default_rng(1)
    state = {name: (x + 0.2 * rng.normal(size=x.shape)).astype(np.float32) for name, x in model.state_dict().items()}
    model.load_state_dict(state)
    model._core.to(away)
    plain = Plain(state, kind)
    predicted = model.predict(data.whole[0], raw=True)
    tags, moods = plain(data.tokens)
    np.testing.assert_allclose(np.concatenate(predicted["tag"]), tags.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(predicted["mood"], moods.detach().numpy(), atol=1e-5)

    rows = model.reader.rows(data.whole)
    found, jacobian = model._core.gradients(rows.core(), "jacobian")
    assert {"encoder.0.attention.input.weight", "encoder.1.feedforward.norm.bias", "encoder.norm.weight"} < set(found)
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


@pytest.mark.parametrize("kind", KINDS)
def test_neither_the_order_of_rows_nor_rows_beside_them_matter(kind):
    data = Sentences()
    model = make_model(encoder(kind, pool="attention"))
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


def test_without_places_the_order_of_positions_changes_nothing():
    rng = np.random.default_rng(2)
    tokens = [rng.integers(0, 20, n) for n in (3, 6, 5)]
    for kind, same in (("none", True), ("rotary", False), ("learned", False)):
        model = make_model(encoder(kind))
        # Tables of places start small.
        model.load_state_dict({name: 3 * x for name, x in model.state_dict().items()})
        moods = [model.predict({"tokens": [row[::turn] for row in tokens]}, raw=True)["mood"] for turn in (1, -1)]
        assert np.allclose(*moods, atol=1e-4) is same, kind


def test_rotary_weights_depend_on_distances_alone():
    rng = np.random.default_rng(3)
    model = make_model(pt.encoder.Transformer(1, 8, 2, dropout=0.0))
    inner = rng.normal(size=(1, 24)).astype(np.float32)
    module = next(m for m in model.to_torch().modules() if type(m).__name__ == "Attention")
    q = module._turned(torch.from_numpy(np.tile(inner[:, None, :4], (1, 9, 1))))
    k = module._turned(torch.from_numpy(np.tile(inner[:, None, 4:8], (1, 9, 1))))
    scores = (q @ k.transpose(1, 2))[0].numpy()
    for by in range(-8, 9):
        along = np.diagonal(scores, by)
        np.testing.assert_allclose(along, along[0], atol=1e-5)


@pytest.mark.parametrize("kind", ["rotary", "learned"])
@pytest.mark.parametrize("sharing", names("sharing"))
def test_every_scheme_trains_it_and_it_leaves_as_a_module(sharing, kind):
    data = Sentences(30)
    tasks = [pt.Task("tag", classes=TAGS, per="tokens"), pt.Task("mood", classes=2)]
    y = data.whole[1]
    if sharing in FUNNELS:
        tasks = [pt.Task(name, loss="binary_cross_entropy", per="tokens") for name in ("click", "buy")]
        above = {"click": 0, "buy": 1}
        y = {name: [np.where(tags < 0, np.nan, tags > at) for tags in data.tags] for name, at in above.items()}
    branches = pt.sharing.Branched([[["tag", "mood"]], [["tag"], ["mood"]]])
    scheme = branches if sharing == "branched" else sharing
    model = pt.MultiTaskModel(INPUTS, tasks=tasks, encoder=encoder(kind, dropout=0.1), sharing=scheme, seed=3)
    # A column each row, as a module of torch reads it.
    x = {"tokens": [words[:, None] for words in data.tokens]}
    trainer = pt.Trainer(model, lr=0.01, weighting="upgrad", seed=0)
    losses = trainer.fit((x, y), epochs=8, batch_size=100, shuffle=False, progress=False)["loss"]
    assert losses[-1] < losses[0]
    module = model.to_torch()
    for part in (x, {"tokens": x["tokens"][:0]}, {"tokens": [np.zeros((0, 1), int)] * 2}):
        with torch.no_grad():
            given = module(**model.tensors(part))
        for name, want in model.predict(part).items():
            want = np.concatenate([*want, np.zeros((0, *given[name].shape[1:]))]) if want.dtype == object else want
            np.testing.assert_allclose(given[name].numpy(), want, atol=1e-5)


def test_the_module_trains_as_the_model_does():
    data = Sentences(30)
    model = make_model(encoder("learned"))
    module = model.to_torch(raw=True)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    tags, moods = (torch.from_numpy(x) for x in (np.concatenate(data.tags), data.mood))
    for _ in range(5):
        raw = module(**model.tensors({"tokens": [words[:, None] for words in data.tokens]}))
        loss = functional.cross_entropy(raw["tag"], tags, ignore_index=-1)
        loss = loss + 0.5 * functional.cross_entropy(raw["mood"], moods, ignore_index=-1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    pt.Trainer(model, pt.optim.SGD(lr=0.1)).fit(data.whole, epochs=5, batch_size=100, shuffle=False, progress=False)
    after = module.state_dict()
    for name, want in model.state_dict().items():
        near(after[name].numpy(), want, name, 1e-5)


def test_it_is_saved_and_loaded_with_the_same_bits(tmp_path):
    data = Sentences()
    model = make_model(encoder("learned", dropout=0.2))
    pt.Trainer(model, lr=0.01, weighting="upgrad", seed=7).fit(data.whole, epochs=2, batch_size=16, progress=False)
    model.save(tmp_path / "model")
    again = pt.MultiTaskModel.load(tmp_path / "model")
    assert repr(again) == repr(model)
    assert same_bits(again.state_dict(), model.state_dict())
    assert np.array_equal(again.predict(data.whole[0])["mood"], model.predict(data.whole[0])["mood"])


def test_threads_change_nothing():
    rng = np.random.default_rng(0)
    tokens = [rng.integers(0, 20, n) for n in rng.integers(0, 300, 40)]
    data = {"tokens": tokens}, {"tag": [words % TAGS for words in tokens], "mood": rng.integers(0, 2, 40)}
    states = []
    for threads in (1, 2):
        model = make_model(pt.encoder.Transformer(1, 32, 4, dropout=0.0))
        pt.Trainer(model, pt.optim.SGD(lr=0.5), weighting="upgrad", threads=threads).step(data)
        states.append(np.concatenate([x.ravel() for x in model.state_dict().values()]))
    near(*states, "threads", 1e-5)


def test_rows_longer_than_places_are_refused():
    model = make_model(encoder("learned"))
    with pytest.raises(ValueError, match="there are places for 7 positions of a row; got a row of 8: give the encoder"):
        model.predict({"tokens": [np.zeros(8, int)]})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 10, "heads": 4}, "Transformer: argument `width` should be a multiple of `heads`; got 10 and 4"),
        (
            {"width": 9, "heads": 3},
            'argument `width` should give each head an even number for positions="rotary"; got 9 for 3 heads',
        ),
        (
            {"positions": "sine"},
            'Transformer: argument `positions` should be "rotary" or "learned" or None; got "sine"',
        ),
        (
            {"positions": "learned"},
            'Transformer: argument `max_length` goes with positions="learned", and only with it; got none',
        ),
        (
            {"max_length": 5},
            'Transformer: argument `max_length` goes with positions="learned", and only with it; got 5',
        ),
        ({"layers": 0}, "Transformer: argument `layers` should be at least 1; got 0"),
    ],
)
def test_arguments_that_cannot_be_are_named(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        pt.encoder.Transformer(**arguments)


def test_what_has_no_positions_is_refused():
    message = "Transformer: the inputs have no positions within rows; use MLP, or inputs with `positions`"
    with pytest.raises(ValueError, match=re.escape(message)):
        pt.MultiTaskModel(8, tasks=[pt.Task("a")], encoder="transformer")
