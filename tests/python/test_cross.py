"""Cross layers are those of DCN-V2, in every scheme."""

import re
from itertools import pairwise

import numpy as np
import polytask as pt
import pytest
import torch
from conftest import same_bits
from polytask import _core
from torch import nn
from torch.nn import functional

ROWS, FEATURES, CODES, WIDTH = 40, 4, 7, 2
INNER = FEATURES + WIDTH
SCHEMES = sorted(info["name"] for info in _core.components() if info["family"] == "sharing")
FUNNELS = {"esmm", "aitm"}
#: Stacked and parallel, of full and of low rank, and without deep layers.
VARIANTS = {
    "stacked": {"hidden": [6, 6]},
    "parallel": {"hidden": [6, 4], "structure": "parallel"},
    "low rank": {"hidden": [6], "layers": 3, "rank": 2},
    "parallel, low rank": {"hidden": 6, "layers": 1, "rank": 1, "structure": "parallel"},
    "cross alone": {"hidden": [], "layers": 3},
    "cross alone, parallel": {"hidden": [], "structure": "parallel"},
}


class Published(nn.Module):
    """As the paper writes it."""

    def __init__(self, hidden, layers=2, rank=None, structure="stacked"):
        super().__init__()
        hidden = [hidden] if isinstance(hidden, int) else hidden
        self.embedding = nn.Embedding(CODES, WIDTH)
        self.rank, self.structure = rank, structure
        if rank is None:
            self.cross = nn.ModuleList(nn.Linear(INNER, INNER) for _ in range(layers))
        else:
            self.v = nn.ParameterList(torch.zeros(INNER, rank) for _ in range(layers))
            self.u = nn.ParameterList(torch.zeros(INNER, rank) for _ in range(layers))
            self.b = nn.ParameterList(torch.zeros(INNER) for _ in range(layers))
        widths = [INNER, *hidden]
        self.deep = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.head = nn.Linear(widths[-1] + (INNER if structure == "parallel" and hidden else 0), 1)

    def forward(self, numeric, codes):
        x0 = torch.cat([numeric, self.embedding(codes[:, 0])], 1)
        x = x0
        if self.rank is None:
            for layer in self.cross:
                x = x0 * (x @ layer.weight.T + layer.bias) + x
        else:
            for u, v, b in zip(self.u, self.v, self.b, strict=True):
                x = x0 * ((x @ v) @ u.T + b) + x
        deep = x if self.structure == "stacked" else x0
        for layer in self.deep:
            deep = torch.relu(layer(deep))
        if self.structure == "parallel":
            deep = torch.cat([x, deep], 1) if len(self.deep) else x
        return self.head(deep)[:, 0]


def taken(module, state):
    """The module with the parameters of a model."""
    for name, parameter in module.named_parameters():
        kind, _, rest = name.partition(".")
        if kind in "uvb":
            place = {"u": f"{rest}.up.weight", "v": f"{rest}.down.weight", "b": f"{rest}.up.bias"}[kind]
            array = state[f"encoder.cross.{place}"]
        else:
            above = {"embedding": "embedding.0", "head": "heads.y"}.get(kind, f"encoder.{kind}")
            array = state[f"{above}.{rest}"]
        parameter.data = torch.from_numpy((array.T if kind == "v" else array).copy())
    return module


def inputs():
    return pt.Inputs(numeric=FEATURES, categorical=[CODES], embedding=WIDTH)


def features(rows=ROWS):
    rng = np.random.default_rng(0)
    return {
        "numeric": rng.normal(size=(rows, FEATURES)).astype(np.float32),
        "categorical": rng.integers(0, CODES, (rows, 1)),
    }


@pytest.mark.usefixtures("own_seed")
@pytest.mark.parametrize("variant", VARIANTS)
def test_it_is_that_of_the_paper(variant):
    x = features()
    y = x["numeric"][:, 0] * x["numeric"][:, 1]
    encoder = pt.encoder.Cross(**VARIANTS[variant])
    model = pt.MultiTaskModel(inputs(), tasks=[pt.Task("y")], encoder=encoder, seed=1)
    state = model.state_dict()
    module = taken(Published(**VARIANTS[variant]), state)
    assert sum(each.numel() for each in module.parameters()) == sum(each.size for each in state.values())
    trainer = pt.Trainer(model, optimizer=pt.optim.SGD(lr=0.05), seed=0)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    given = torch.from_numpy(x["numeric"]), torch.from_numpy(x["categorical"])
    for _ in range(10):
        loss = functional.mse_loss(module(*given), torch.from_numpy(y))
        assert trainer.step((x, y))["loss"] == pytest.approx(loss.item(), abs=1e-5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    np.testing.assert_allclose(model.predict(x)["y"], module(*given).detach().numpy(), atol=1e-5)


def tasks(sharing):
    kind = {"loss": "binary_cross_entropy"} if sharing in FUNNELS else {}
    return [pt.Task("a", loss="binary_cross_entropy"), pt.Task("b", **kind)]


def make(sharing, variant="stacked", **more):
    encoder = pt.encoder.Cross(**{**VARIANTS[variant], **more})
    return pt.MultiTaskModel(inputs(), tasks=tasks(sharing), encoder=encoder, sharing=sharing, seed=1)


def data(sharing, rows=200):
    x = features(rows)
    one, two, three, _ = x["numeric"].T
    a = (one * two > 0).astype(int)
    return x, {"a": a, "b": a * (three > 0) if sharing in FUNNELS else one * three}


@pytest.mark.parametrize("variant", ["stacked", "parallel, low rank"])
@pytest.mark.parametrize("sharing", SCHEMES)
def test_it_learns_in_schemes_and_leaves_as_a_module(sharing, variant):
    if sharing == "branched":
        sharing_of = pt.sharing.Branched([[["a", "b"]], [["a"], ["b"]]]) if variant == "stacked" else "branched"
    else:
        sharing_of = sharing
    encoder = pt.encoder.Cross(**VARIANTS[variant], dropout=0.1)
    model = pt.MultiTaskModel(inputs(), tasks=tasks(sharing), encoder=encoder, sharing=sharing_of, seed=1)
    x, y = data(sharing)
    trainer = pt.Trainer(model, lr=0.02, weighting="upgrad", seed=0)
    history = trainer.fit((x, y), epochs=15, batch_size=50, progress=False)
    assert history["loss"][-1] < 0.95 * history["loss"][0]
    with torch.no_grad():
        given = model.to_torch()(**{name: torch.from_numpy(each) for name, each in x.items()})
    for name, expected in model.predict(x).items():
        np.testing.assert_allclose(given[name].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("weighting", ["equal", "uncertainty", "pcgrad", "nash_mtl", "famo"])
@pytest.mark.parametrize("sharing", ["hard", "mmoe", "cross_stitch", "soft"])
@pytest.mark.parametrize("variant", ["stacked", "parallel, low rank"])
def test_formulas_make_the_steps_of_loops(variant, sharing, weighting):
    ways = []
    for where in ("loops", "formulas"):
        model = make(sharing, variant)
        model._core.to(where)
        trainer = pt.Trainer(model, pt.optim.SGD(lr=0.05), weighting=weighting, seed=0)
        trainer.fit(data(sharing, 60), epochs=5, batch_size=60, shuffle=False, progress=False)
        ways.append(model.state_dict())
    for name, want in ways[0].items():
        np.testing.assert_allclose(ways[1][name], want, atol=1e-4, err_msg=name)


def test_it_is_saved_and_loaded_with_its_arguments(tmp_path):
    model = make("mmoe", "low rank")
    pt.Trainer(model, seed=0).fit(data("mmoe"), epochs=1, batch_size=50, progress=False)
    model.save(tmp_path / "model")
    again = pt.MultiTaskModel.load(tmp_path / "model")
    assert same_bits(again.state_dict(), model.state_dict())
    assert same_bits(again.predict(features()), model.predict(features()))


def test_positions_are_crossed_each_by_itself():
    words = pt.Inputs(positions={"words": pt.Inputs(numeric=3)})
    tags = [pt.Task("tag", classes=2, per="words")]
    model = pt.MultiTaskModel(words, tasks=tags, encoder=pt.encoder.Cross([4]), seed=0)
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(4, 3)).astype(np.float32), rng.normal(size=(2, 3)).astype(np.float32)
    both = model.predict({"words": [one, other]}, raw=True)["tag"]
    turned = model.predict({"words": [other[::-1].copy()]}, raw=True)["tag"]
    np.testing.assert_allclose(both[1], turned[0][::-1], atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden": [4, 0]}, "Cross: argument `hidden` should be at least 1; got [4,0]"),
        ({"layers": 0}, "Cross: argument `layers` should be at least 1; got 0"),
        ({"rank": 0}, "Cross: argument `rank` should be at least 1; got 0"),
        ({"structure": "beside"}, 'Cross: argument `structure` should be "stacked" or "parallel"; got "beside"'),
        ({"dropout": 1.0}, "Cross: argument `dropout` should be at least 0 and below 1; got 1.0"),
    ],
)
def test_arguments_that_cannot_be_are_named(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        pt.encoder.Cross(**arguments)
