"""A convolution over the characters of words is that of PyTorch, in every scheme and in all backwards."""

import copy
import json
import pickle
import re

import numpy as np
import polytask as pt
import pytest
import torch
from conftest import same_bits
from test_backends import AWAY, near
from test_positions import FUNNELS
from test_weighting_walk import names
from torch.nn import functional

WORDS = ["Paris", "aaaa", "walked", "walking", "a", "New-York", "x1", "running", "internationalisation", "שלום"]
RNG = np.random.default_rng(0)
ROWS = [list(RNG.choice(WORDS, n)) for n in [0, *RNG.integers(1, 7, 40), 0]]
#: Words that end so, and rows that have one of them.
ENDS = [[int(word.endswith("ing")) for word in row] for row in ROWS]
ANY = np.array([int(any(row)) for row in ENDS])
CNN = pt.embedding.CharCNN(filters=21, width=3, embedding=5, length=8)


def make_text(characters=CNN, **more):
    return pt.Text(min_count=1, characters=characters, width=4, **more).fit(ROWS)


def make_model(text=None, encoder="mlp", sharing="hard"):
    tasks = [pt.Task("ends", classes=2, per="text"), pt.Task("any", classes=2, weight=0.5)]
    return pt.MultiTaskModel(pt.Inputs(text=text or make_text()), tasks=tasks, encoder=encoder, sharing=sharing, seed=2)


class Plain:
    """The same by PyTorch, word by word, with a model's parameters."""

    def __init__(self, model):
        self.state = {name: torch.from_numpy(x).clone().requires_grad_() for name, x in model.state_dict().items()}
        self.text = model.inputs.text["text"]

    def word(self, codes):
        of_characters = codes[-CNN.length :]
        there = of_characters[of_characters >= 0]
        table, kernel, bias = (
            self.state[f"embedding.text.{name}"] for name in ("1.weight", "1.convolution.weight", "1.convolution.bias")
        )
        each = functional.conv1d(table[there].T, kernel.permute(1, 2, 0), bias, padding=1)
        return torch.cat([self.state["embedding.text.0.weight"][codes[0]], torch.relu(each).amax(1)])

    def __call__(self, rows):
        codes = torch.from_numpy(self.text.read(rows, "rows").values.astype(np.int64))
        x = torch.stack([self.word(each) for each in codes])
        linear = lambda x, path: functional.linear(x, self.state[f"{path}.weight"], self.state[f"{path}.bias"])  # noqa: E731
        h = torch.relu(linear(x, "encoder.0"))
        each = h.split([len(row) for row in rows])
        pooled = torch.stack([h.mean(0) if len(h) else h.new_zeros(h.shape[1]) for h in each])
        return linear(h, "heads.ends"), linear(pooled, "heads.any")

    def losses(self):
        ends, any_of = self(ROWS)
        flat = torch.from_numpy(np.concatenate(ENDS).astype(np.int64))
        return functional.cross_entropy(ends, flat), 0.5 * functional.cross_entropy(any_of, torch.from_numpy(ANY))


@pytest.mark.usefixtures("own_seed")
@pytest.mark.parametrize("away", ["loops", *AWAY])
def test_predictions_and_all_gradients_are_those_of_pytorch(away):
    model = make_model()
    model._core.to(away)
    plain = Plain(model)
    predicted = model.predict(ROWS, raw=True)
    ends, any_of = plain(ROWS)
    np.testing.assert_allclose(np.concatenate(predicted["ends"]), ends.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(predicted["any"], any_of.detach().numpy(), atol=1e-5)
    rows = model.reader.rows((ROWS, {"ends": ENDS, "any": ANY}))
    found, jacobian = model._core.gradients(rows.core(), "jacobian")
    assert {f"embedding.text.1.{name}" for name in ("weight", "convolution.weight", "convolution.bias")} < set(found)
    leaves = [plain.state[name] for name in found]
    for row, loss in zip(jacobian, plain.losses(), strict=True):
        gradients = torch.autograd.grad(loss, leaves, retain_graph=True)
        near(row, torch.cat([gradient.reshape(-1) for gradient in gradients]).numpy(), "gradient")
    near(model._core.gradients(rows.core(), "gramian"), jacobian @ jacobian.T, "Gramian")


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("sharing", names("sharing"))
def test_every_scheme_trains_it_and_it_leaves_as_a_module(sharing, activation):
    cnn = pt.embedding.CharCNN(filters=16, width=5, embedding=3, activation=activation)
    inputs = pt.Inputs(text=make_text(cnn, affixes=True))
    tasks = [pt.Task("ends", classes=2, per="text"), pt.Task("any", classes=2)]
    y = {"ends": ENDS, "any": ANY}
    if sharing in FUNNELS:
        tasks = [pt.Task(name, loss="binary_cross_entropy", per="text") for name in ("long", "ends")]
        y = {"long": [[int(len(word) > 4) for word in row] for row in ROWS], "ends": ENDS}
    branches = pt.sharing.Branched([[["ends", "any"]], [["ends"], ["any"]]])
    scheme = branches if sharing == "branched" else sharing
    encoder = pt.encoder.MLP([8, 8])
    model = pt.MultiTaskModel(inputs, tasks=tasks, encoder=encoder, sharing=scheme, seed=3)
    trainer = pt.Trainer(model, lr=0.02, weighting="upgrad", seed=0)
    losses = trainer.fit((ROWS, y), epochs=8, batch_size=100, shuffle=False, progress=False)["loss"]
    assert losses[-1] < 0.95 * losses[0]
    x = {"text": ROWS}
    with torch.no_grad():
        given = model.to_torch()(**model.tensors(x))
    for name, want in model.predict(x).items():
        want = np.concatenate(list(want)) if want.dtype == object else want
        np.testing.assert_allclose(given[name].numpy(), want, atol=1e-5)


def test_words_that_were_never_seen_are_told_by_their_characters():
    rng = np.random.default_rng(1)
    letters = list("abcdefghijklmnop")
    stems = ["".join(rng.choice(letters, rng.integers(2, 7))) for _ in range(400)]
    words = [stem + str(rng.choice(["ing", "gin", "ed", ""])) for stem in stems]
    ends = [[int(word.endswith("ing"))] for word in words]
    rows = [[word] for word in words]
    text = pt.Text(characters=pt.embedding.CharCNN(filters=16, width=5, embedding=8)).fit(rows[:300])
    task = pt.Task("ends", classes=2, per="text")
    model = pt.MultiTaskModel(pt.Inputs(text=text), tasks=[task], encoder="mlp", seed=0)
    pt.Trainer(model, lr=0.01).fit((rows[:300], {"ends": ends[:300]}), epochs=60, progress=False)
    found = model.classes(model.predict(rows[300:]))["ends"]
    right = [given[0] == want[0] for given, want in zip(found, ends[300:], strict=True)]
    assert np.mean(right) > 0.95


def test_rows_padded_by_others_and_in_another_order_are_the_same():
    model = make_model(encoder="convolution1d")
    want = model.predict(ROWS, raw=True)
    order = np.random.default_rng(1).permutation(len(ROWS))
    turned = model.predict([ROWS[i] for i in order], raw=True)
    few = model.predict(ROWS, raw=True, batch_size=5)
    for i, place in enumerate(order):
        for name in ("ends", "any"):
            np.testing.assert_allclose(turned[name][i], want[name][place], atol=1e-6)
            np.testing.assert_allclose(few[name][place], want[name][place], atol=1e-6)


def test_files_copies_and_descriptions_keep_it(tmp_path):
    model = make_model()
    model.save(tmp_path / "model")
    again = pt.MultiTaskModel.load(tmp_path / "model")
    assert repr(again) == repr(model)
    assert "CharCNN(filters=21, embedding=5, length=8)" in repr(again.inputs)
    assert same_bits(again.state_dict(), model.state_dict())
    for other in (again, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert np.array_equal(other.predict(ROWS)["any"], model.predict(ROWS)["any"])
    text = model.inputs.text["text"]
    restored = pt.Text.restore(json.loads(json.dumps(text.describe())))
    assert restored.describe() == text.describe()
    assert restored.features() == text.features()
    # What an earlier version wrote has no word of a convolution.
    averaged = make_text(characters=8).describe()
    del averaged["convolution"]
    earlier = pt.Text.restore(averaged)
    assert (earlier.characters, earlier.features()[-1].combine) == (8, "mean")


def test_a_frozen_table_stays():
    model = make_model()
    model.freeze("embedding.text.1.weight")
    before = model.state_dict()
    pt.Trainer(model, pt.optim.SGD(lr=0.5), weighting="upgrad").step((ROWS, {"ends": ENDS, "any": ANY}))
    stayed = {name for name, x in model.state_dict().items() if np.array_equal(x, before[name])}
    assert stayed == {"embedding.text.1.weight"}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"width": 2}, ValueError, "`width` should be odd, so that a kernel has a middle; got 2"),
        ({"filters": 0}, ValueError, "`filters` should be a whole number of at least 1; got 0"),
        ({"embedding": 1.5}, TypeError, "`embedding` should be a whole number of at least 1; got 1.5"),
        ({"length": 0}, ValueError, "`length` should be a whole number of at least 1; got 0"),
        ({"activation": "gelu"}, ValueError, '`activation` should be "relu" or "tanh"; got \'gelu\''),
    ],
)
def test_arguments_that_cannot_be_are_named(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        pt.embedding.CharCNN(**arguments)


def test_characters_are_those_of_words():
    with pytest.raises(ValueError, match="`characters` are those of words"):
        pt.Text("characters", characters=CNN)
    with pytest.raises(TypeError, match="`characters` should be"):
        pt.Text(characters="all")
