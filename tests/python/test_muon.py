"""Muon on weight matrices of hidden layers, and AdamW on all else, are PyTorch's side by side."""

import re

import numpy as np
import polytask as pt
import pytest
import torch
from conftest import same_bits
from torch.nn import functional

ROWS, STEPS = 40, 10
MUON = {"lr": 0.03, "momentum": 0.9, "weight_decay": 0.1}
ADAMW = {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6}

#: What the paths of weights of hidden layers are, in models with towers of one hidden layer.
HIDDEN = {
    "hard": ["encoder.0", "encoder.1", "heads.a.0", "heads.b.0"],
    "soft": [f"encoders.{task}.{i}" for task in "ab" for i in (0, 1)] + ["heads.a.0", "heads.b.0"],
    "cross_stitch": [f"encoders.{task}.{i}" for task in "ab" for i in (0, 1)] + ["heads.a.0", "heads.b.0"],
    "mmoe": [f"experts.{k}.{i}" for k in range(8) for i in (0, 1)]
    + ["gates.a", "gates.b", "heads.a.0", "heads.b.0"],
}  # fmt: skip


def make(sharing="hard", encoder=None, head=None, **more):
    encoder = pt.encoder.MLP([12, 6], activation="tanh", norm="layer") if encoder is None else encoder
    head = pt.head.Tower([7], activation="tanh") if head is None else head
    inputs = pt.Inputs(numeric=4, categorical=[9], embedding=3, **more)
    tasks = [pt.Task("a", classes=3), pt.Task("b")]
    return pt.MultiTaskModel(inputs, tasks=tasks, encoder=encoder, sharing=sharing, head=head, seed=3)


def batches(count=STEPS):
    rng = np.random.default_rng(0)
    for _ in range(count):
        x = {"numeric": rng.normal(size=(ROWS, 4)).astype("float32"), "categorical": rng.integers(0, 9, (ROWS, 1))}
        yield x, {"a": rng.integers(0, 3, ROWS), "b": rng.normal(size=ROWS).astype("float32")}


def rows():
    parts = list(batches())
    x = {name: np.concatenate([x[name] for x, _ in parts]) for name in ("numeric", "categorical")}
    return x, {name: np.concatenate([y[name] for _, y in parts]) for name in "ab"}


def muon(**more):
    rest = {f"adamw_{name}": value for name, value in ADAMW.items()}
    return pt.optim.Muon(**{**MUON, **rest, **more})


def orthogonalised(gradient, coefficients, steps, eps):
    """As torch has it, without rounding to bfloat16."""
    a, b, c = coefficients
    tall = gradient.size(0) > gradient.size(1)
    x = gradient.T if tall else gradient
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


def theirs(module, hidden, lr=MUON["lr"], **arguments):
    """Optimizers of torch for a module's parameters."""
    matrices, decaying, rest = [], [], []
    for name, parameter in module.named_parameters():
        if name.removesuffix(".weight") in hidden:
            matrices.append(parameter)
        else:
            decays = name.startswith("embedding") or (name.startswith("heads") and name.endswith("weight"))
            (decaying if decays else rest).append(parameter)
    assert len(matrices) == len(hidden)
    groups = [{"params": decaying, "weight_decay": MUON["weight_decay"]}, {"params": rest, "weight_decay": 0.0}]
    return [torch.optim.Muon(matrices, **{**MUON, **arguments, "lr": lr}), torch.optim.AdamW(groups, **ADAMW)]


def follow(ours, sharing="hard", **arguments):
    """The parameters after some steps, ours and torch's."""
    model = make(sharing)
    module = model.to_torch(raw=True).train()
    optimizers = theirs(module, HIDDEN[sharing], **arguments)
    trainer = pt.Trainer(model, ours)
    for x, y in batches():
        trainer.step((x, y))
        outputs = module(**{name: torch.from_numpy(each) for name, each in x.items()})
        a, b = (torch.from_numpy(y[name]) for name in "ab")
        for optimizer in optimizers:
            optimizer.zero_grad()
        (functional.cross_entropy(outputs["a"], a) + functional.mse_loss(outputs["b"].flatten(), b)).backward()
        for optimizer in optimizers:
            optimizer.step()
    return model.state_dict(), {name: each.detach().numpy() for name, each in module.named_parameters()}


@pytest.fixture
def unrounded(monkeypatch):
    monkeypatch.setattr(torch.optim._muon, "_zeropower_via_newtonschulz", orthogonalised)


@pytest.mark.usefixtures("own_seed", "unrounded")
@pytest.mark.parametrize("sharing", HIDDEN)
def test_steps_are_those_of_torch_in_every_place(sharing):
    ours, torchs = follow(muon(), sharing)
    assert set(torchs) <= set(ours)
    for name, value in torchs.items():
        np.testing.assert_allclose(ours[name], value, atol=2e-5, err_msg=name)


@pytest.mark.usefixtures("own_seed", "unrounded")
@pytest.mark.parametrize(
    "arguments",
    [{"nesterov": False}, {"ns_steps": 3}, {"adjust_lr_fn": "match_rms_adamw"}, {"momentum": 0.0}],
    ids=repr,
)
def test_arguments_are_those_of_torch(arguments):
    ours, torchs = follow(muon(**arguments), **arguments)
    for name, value in torchs.items():
        np.testing.assert_allclose(ours[name], value, atol=2e-5, err_msg=name)


@pytest.mark.usefixtures("own_seed")
def test_what_torch_rounds_is_near():
    """Its own iteration is in bfloat16."""
    before = make().state_dict()
    ours, torchs = follow(muon())
    for name in HIDDEN["hard"]:
        here, there = (state[f"{name}.weight"] - before[f"{name}.weight"] for state in (ours, torchs))
        assert 0 < np.linalg.norm(here - there) < 0.1 * np.linalg.norm(there), name


def moved(optimizer, model, steps=1, frozen=None):
    """How far steps move the parameters."""
    if frozen is not None:
        model.freeze(frozen)
    before = model.state_dict()
    trainer = pt.Trainer(model, optimizer)
    for batch in batches(steps):
        trainer.step(batch)
    return {name: value - before[name] for name, value in model.state_dict().items()}


def test_each_member_has_matrices_of_its_own():
    encoder = pt.encoder.TabM([6, 5], members=3, variant="packed", dropout=0.0)
    plain = moved(pt.optim.SGD(lr=1.0), make(encoder=encoder))
    ours = moved(pt.optim.Muon(lr=0.5, adamw_lr=0.0), make(encoder=encoder))
    for name, gradients in plain.items():
        if name not in ("encoder.0.weight", "encoder.1.weight", "heads.a.0.weight", "heads.b.0.weight"):
            assert not ours[name].any(), name
            continue
        shape = (-1, *gradients.shape[-2:])
        for got, gradient in zip(ours[name].reshape(shape), gradients.reshape(shape), strict=True):
            x = orthogonalised(torch.from_numpy(gradient).double(), (3.4445, -4.7750, 2.0315), 5, 1e-7)
            ratio = max(1, gradient.shape[0] / gradient.shape[1]) ** 0.5
            np.testing.assert_allclose(got, 0.5 * ratio * x.numpy(), atol=2e-4, err_msg=name)


def test_scales_embeddings_and_last_layers_are_no_hidden_matrices():
    still = {"lr": 0.0, "adamw_lr": 0.01}
    for encoder in (
        pt.encoder.TabM([6, 5], members=3),
        pt.encoder.Cross([6], rank=2),
        pt.encoder.Residual(6, hidden=8),
    ):
        by = moved(pt.optim.Muon(**still), make(encoder=encoder, head="linear"))
        rest = {name for name, change in by.items() if change.any()}
        assert {"embedding.0.weight", "heads.a.weight", "heads.b.weight", "heads.a.bias"} <= rest
        matrices = {name for name, change in by.items() if not change.any()}
        assert matrices
        assert all(name.startswith("encoder") and name.endswith("weight") for name in matrices), matrices
        assert all("scale" not in name and "norm" not in name for name in matrices), matrices
    funnels = [pt.Task("a", loss="binary_cross_entropy"), pt.Task("b", loss="binary_cross_entropy")]
    model = pt.MultiTaskModel(4, tasks=funnels, sharing="esmm", encoder=pt.encoder.MLP([6]), seed=0)
    before = model.state_dict()
    x, y = rows()
    labels = {"a": (y["a"] > 0).astype(int), "b": (y["a"] > 1).astype(int)}
    pt.Trainer(model, pt.optim.Muon(**still)).step((x["numeric"], labels))
    after = model.state_dict()
    kept = {name for name in before if np.array_equal(before[name], after[name])}
    assert kept
    assert not any(name.startswith("heads") for name in kept), kept


class Own(torch.nn.Module):
    """A table, a kernel and a matrix."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(4, 5)
        self.kernel = torch.nn.Conv1d(1, 2, 2)
        self.layer = torch.nn.Linear(10, 5)

    def forward(self, x):
        seen = torch.cat([x, self.kernel(x.unsqueeze(1)).flatten(1)], 1)
        return torch.tanh(self.layer(seen) + self.table.weight.sum(0))


@pytest.mark.usefixtures("own_seed")
def test_matrices_of_a_module_of_ones_own_may_be_excluded():
    x, y = next(batches(1))
    for exclude in ([], ["encoder.table"]):
        model = pt.MultiTaskModel(4, tasks=[pt.Task("b")], encoder=Own(), seed=0)
        before = model.state_dict()
        pt.Trainer(model, pt.optim.Muon(lr=0.0, adamw_lr=0.01, exclude=exclude)).step((x["numeric"], {"b": y["b"]}))
        after = model.state_dict()
        still = {name for name in before if np.array_equal(before[name], after[name])}
        assert still == {"encoder.layer.weight"} | (set() if exclude else {"encoder.table.weight"})
    with pytest.raises(ValueError, match='`exclude`: no parameter is called "table"'):
        pt.Trainer(model, pt.optim.Muon(exclude=["table"]))


def test_groups_have_rates_of_their_own_and_frozen_pieces_stay():
    plain = moved(muon(weight_decay=0.0), make("soft"))
    faster = moved(muon(weight_decay=0.0, lr={"encoders.a": 0.06, "default": 0.03}), make("soft"))
    slower = moved(muon(weight_decay=0.0, adamw_lr={"encoders.a": 0.005, "default": 0.01}), make("soft"))
    stopped = moved(muon(weight_decay=0.0), make("soft"), frozen="encoders.b")
    for name, by in plain.items():
        matrix = name.removesuffix(".weight") in HIDDEN["soft"]
        of_a, of_b = name.startswith("encoders.a"), name.startswith("encoders.b")
        np.testing.assert_allclose(faster[name], 2 * by if of_a and matrix else by, rtol=1e-3, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(
            slower[name], 0.5 * by if of_a and not matrix else by, rtol=1e-3, atol=1e-6, err_msg=name
        )
        np.testing.assert_allclose(stopped[name], 0 * by if of_b else by, rtol=1e-3, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("sharing", ["hard", "mmoe", "soft"])
def test_formulas_make_the_steps_of_loops(sharing):
    ways = []
    for where in ("loops", "formulas"):
        model = make(sharing)
        model._core.to(where)
        ways.append(moved(muon(), model, STEPS))
    for name, by in ways[0].items():
        np.testing.assert_allclose(ways[1][name], by, atol=5e-5, err_msg=name)


class Interrupt(pt.Callback):
    """Breaks off after so many batches."""

    def __init__(self, after):
        self.every_steps = after

    def on_steps(self, trainer):
        raise SystemExit


def trainer(folder=None, **more):
    callbacks = [] if folder is None else [pt.Checkpoint(folder, every_steps=1)]
    model = make("mmoe", sparse=[True])
    return pt.Trainer(model, muon(), schedule=pt.schedule.Cosine(), clip_norm=1.0, callbacks=callbacks, seed=1)


@pytest.mark.parametrize("after", [1, 13])
def test_a_run_resumes_with_the_same_bits(after, tmp_path):
    fit = {"epochs": 3, "batch_size": 40, "progress": False}
    want = trainer()
    history = want.fit(rows(), **fit)
    with pytest.raises(SystemExit):
        trainer(tmp_path).fit(rows(), callbacks=[Interrupt(after)], **fit)
    resumed = trainer(tmp_path)
    again = resumed.fit(rows(), resume=tmp_path, **fit)
    assert same_bits(resumed.model.state_dict(), want.model.state_dict())
    assert again["loss"] == history["loss"]
    assert history["lr"][0] <= MUON["lr"]


@pytest.mark.parametrize("weighting", ["equal", "upgrad", "uncertainty"])
def test_it_learns(weighting):
    x, _ = rows()
    y = {"a": (x["numeric"][:, 0] > 0).astype(int), "b": x["numeric"][:, 1]}
    model = make("mmoe")
    history = pt.Trainer(model, "muon", weighting=weighting, seed=0).fit(
        (x, y), epochs=5, batch_size=40, progress=False
    )
    assert history["a/loss"][-1] < 0.75 * history["a/loss"][0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"momentum": 1.0}, "Muon: argument `momentum` should be at least 0 and below 1; got 1.0"),
        ({"ns_steps": 0}, "Muon: argument `ns_steps` should be at least 1 and below 100; got 0"),
        ({"adjust_lr_fn": "new"}, 'Muon: argument `adjust_lr_fn` should be "original" or "match_rms_adamw"; got "new"'),
        ({"lr": -1.0}, "Muon: argument `lr` should be at least 0; got -1.0"),
        ({"adamw_betas": (0.9, 1.0)}, "Muon: argument `adamw_betas` should be at least 0 and below 1"),
        ({"exclude": "gates"}, 'Muon: argument `exclude` should be a list of strings; got "gates"'),
    ],
)
def test_arguments_that_cannot_be_are_named(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        pt.optim.Muon(**arguments)


def test_a_rate_of_the_other_kind_is_named():
    model = make(head="linear")
    with pytest.raises(ValueError, match=r'`lr`: "heads" has no weight matrix of a hidden layer; .* `adamw_lr`'):
        pt.Trainer(model, pt.optim.Muon(lr={"heads": 0.1}))
    with pytest.raises(ValueError, match='`adamw_lr`: no parameter is called "encodr"'):
        pt.Trainer(model, pt.optim.Muon(adamw_lr={"encodr": 0.1}))
