"""Convolutions over positions are those of PyTorch, in every scheme and in all backwards."""

import re

import numpy as np
import polytask as pt
import pytest
import torch
from test_backends import AWAY, near
from test_positions import FUNNELS, INPUTS, TAGS, Sentences, make_model
from test_weighting_walk import names
from torch.nn import functional

HIDDEN, WIDTH, DILATION = [8, 8, 8], 3, [1, 2, 4]


def encoder(**more):
    return pt.encoder.Convolution1d(HIDDEN, width=WIDTH, dilation=DILATION, activation="tanh", residual=True, **more)


class Plain:
    """A tagger and a classifier of rows by PyTorch, sentence by sentence, with a model's parameters."""

    def __init__(self, state):
        self.state = {name: torch.from_numpy(x).clone().requires_grad_() for name, x in state.items()}

    def layer(self, x, stage):
        weight, bias = self.state[f"encoder.{stage}.weight"], self.state[f"encoder.{stage}.bias"]
        kernel = weight.reshape(len(weight), WIDTH, -1).transpose(1, 2)
        padding = DILATION[stage] * (WIDTH // 2)
        y = torch.tanh(functional.conv1d(x, kernel, bias, padding=padding, dilation=DILATION[stage]))
        return x + y if x.shape == y.shape else y

    def __call__(self, sentences):
        each = []
        for words in sentences:
            x = self.state["embedding.tokens.0.weight"][torch.as_tensor(words, dtype=torch.long)].T
            for stage in range(len(HIDDEN)):
                x = self.layer(x, stage) if len(words) else x.new_zeros(HIDDEN[stage], 0)
            each.append(x.T)
        pooled = torch.stack([x.mean(0) if len(x) else x.new_zeros(HIDDEN[-1]) for x in each])
        linear = lambda x, path: functional.linear(x, self.state[f"{path}.weight"], self.state[f"{path}.bias"])  # noqa: E731
        return linear(torch.cat(each), "heads.tag"), linear(pooled, "heads.mood")

    def losses(self, data):
        x, y = data
        tags, moods = self(x["tokens"])
        of_tags = functional.cross_entropy(tags, torch.from_numpy(np.concatenate(y["tag"])), ignore_index=-1)
        return of_tags, 0.5 * functional.cross_entropy(moods, torch.from_numpy(y["mood"]), ignore_index=-1)


@pytest.mark.usefixtures("own_seed")
@pytest.mark.parametrize("away", ["loops", *AWAY])
def test_predictions_and_all_gradients_are_those_of_pytorch(away):
    data = Sentences()
    model = make_model(encoder())
    model._core.to(away)
    plain = Plain(model.state_dict())
    predicted = model.predict(data.whole[0], raw=True)
    tags, moods = plain(data.tokens)
    np.testing.assert_allclose(np.concatenate(predicted["tag"]), tags.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(predicted["mood"], moods.detach().numpy(), atol=1e-5)
    rows = model.reader.rows(data.whole)
    found, jacobian = model._core.gradients(rows.core(), "jacobian")
    assert {"encoder.0.weight", "encoder.1.bias", "encoder.2.weight"} < set(found)
    leaves = [plain.state[name] for name in found]
    for row, loss in zip(jacobian, plain.losses(data.whole), strict=True):
        gradients = torch.autograd.grad(loss, leaves, retain_graph=True)
        near(row, torch.cat([gradient.reshape(-1) for gradient in gradients]).numpy(), "gradient")
    near(model._core.gradients(rows.core(), "gramian"), jacobian @ jacobian.T, "Gramian")


def test_neither_the_order_of_rows_nor_where_batches_end_matters():
    data = Sentences()
    model = make_model(encoder(pool="max"))
    want = model.predict(data.whole[0], raw=True)
    order = np.random.default_rng(1).permutation(len(data.tokens))
    turned = model.predict(data.some(order)[0], raw=True)
    few = model.predict(data.whole[0], raw=True, batch_size=7)
    for i, place in enumerate(order):
        for name in ("tag", "mood"):
            np.testing.assert_allclose(turned[name][i], want[name][place], atol=1e-5)
            np.testing.assert_allclose(few[name][place], want[name][place], atol=1e-5)


@pytest.mark.parametrize("sharing", names("sharing"))
def test_every_scheme_trains_it_and_it_leaves_as_a_module(sharing):
    data = Sentences(30)
    tasks = [pt.Task("tag", classes=TAGS, per="tokens"), pt.Task("mood", classes=2)]
    y = data.whole[1]
    if sharing in FUNNELS:
        tasks = [pt.Task(name, loss="binary_cross_entropy", per="tokens") for name in ("click", "buy")]
        above = {"click": 0, "buy": 1}
        y = {name: [np.where(tags < 0, np.nan, tags > at) for tags in data.tags] for name, at in above.items()}
    scheme = pt.sharing.Branched([[["tag", "mood"]], [["tag"], ["mood"]], [["tag"], ["mood"]]])
    scheme = scheme if sharing == "branched" else sharing
    model = pt.MultiTaskModel(INPUTS, tasks=tasks, encoder=encoder(dropout=0.1), sharing=scheme, seed=3)
    # A column each row, as a module of torch reads it.
    x = {"tokens": [words[:, None] for words in data.tokens]}
    trainer = pt.Trainer(model, pt.optim.SGD(lr=0.5), weighting="upgrad", seed=0)
    losses = trainer.fit((x, y), epochs=5, batch_size=100, shuffle=False, progress=False)["loss"]
    assert losses[-1] < losses[0]
    with torch.no_grad():
        given = model.to_torch()(**model.tensors(x))
    for name, want in model.predict(x).items():
        want = np.concatenate(list(want)) if want.dtype == object else want
        np.testing.assert_allclose(given[name].numpy(), want, atol=1e-5)


def test_one_kernel_over_positions_is_a_window():
    data = Sentences(20)
    one = make_model(pt.encoder.Convolution1d(7, width=5))
    other = make_model(pt.encoder.Window(7, radius=2))
    other.load_state_dict(one.state_dict())
    assert np.array_equal(one.predict(data.whole[0])["mood"], other.predict(data.whole[0])["mood"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden": [4, 0]}, "Convolution1d: argument `hidden` should be at least 1; got [4,0]"),
        ({"width": 4}, "Convolution1d: argument `width` should be odd, so that a kernel has a middle; got 4"),
        ({"dilation": 0}, "Convolution1d: argument `dilation` should be at least 1 and below 1000001; got [0]"),
        (
            {"hidden": [4, 4], "dilation": [1, 2, 4]},
            "Convolution1d: argument `dilation` should be one number or one for each of 2 layers; got [1, 2, 4]",
        ),
        ({"dropout": 1.0}, "Convolution1d: argument `dropout` should be at least 0 and below 1; got 1.0"),
    ],
)
def test_arguments_that_cannot_be_are_named(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        pt.encoder.Convolution1d(**arguments)


def test_what_has_no_positions_is_refused():
    message = "Convolution1d: the inputs have no positions within rows; use MLP, or inputs with `positions`"
    with pytest.raises(ValueError, match=re.escape(message)):
        pt.MultiTaskModel(8, tasks=[pt.Task("a")], encoder="convolution1d")
