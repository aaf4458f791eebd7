"""A model as a module of torch: it predicts the same, trains the same way, and comes back as a model."""

import numpy as np
import polytask as pt
import pytest
import torch
from polytask import _core
from torch import fx
from torch.nn import functional

ROWS = 40
#: Largest difference of predictions, and of parameters after 20 steps.
SAME = 1e-6
FOLLOWS = 1e-5

SCHEMES = {info["name"] for info in _core.components() if info["family"] == "sharing"}
FUNNELS = {"esmm", "aitm"}
#: With arguments of their own, so that every branch of a translation runs.
SHARINGS = {
    **{name: name for name in SCHEMES},
    "sluice, 3 subspaces": pt.sharing.Sluice(subspaces=3),
    "nddr without norm": pt.sharing.NDDR(norm=False),
    "dselect_k of 5": pt.sharing.DSelectK(experts=5, k=2, entropy=0.3),
    "dselect_k of 4": pt.sharing.DSelectK(experts=4, k=3, entropy=0.0),
    "branched": pt.sharing.Branched([[["a", "b", "c"]], [["a", "c"], ["b"]]]),
    "ltb of 5": pt.sharing.LTB(branches=5),
}
ENCODERS = {
    "plain": pt.encoder.MLP([12, 12]),
    "layer norm": pt.encoder.MLP([12, 12], norm="layer", activation="gelu"),
    "batch norm": pt.encoder.MLP([12, 12], norm="batch", activation="tanh", residual=True),
    "linear": pt.encoder.MLP(12, activation=None),
    **{name: pt.encoder.MLP([12], activation=name) for name in ("leaky_relu", "elu", "silu", "sigmoid")},
}
HEADS = {"linear": pt.head.Linear(), "tower": pt.head.Tower([6, 5], activation="silu")}


def tasks(sharing="hard"):
    name = sharing if isinstance(sharing, str) else type(sharing).__name__.lower()
    if name in FUNNELS:
        return [pt.Task(task, loss="binary_cross_entropy") for task in "abc"]
    return [pt.Task("a", classes=3), pt.Task("b", weight=0.5), pt.Task("c", loss="binary_cross_entropy", outputs=2)]


def inputs():
    return pt.Inputs(numeric=5, categorical=[7, pt.Bag(9, 3)], embedding=4)


def make(sharing="hard", encoder=None, head="linear", seed=3, **more):
    encoder = encoder or pt.encoder.MLP([12, 12], norm="batch")
    given = {"tasks": tasks(sharing), "encoder": encoder, "sharing": sharing, "head": head, "seed": seed, **more}
    return settled(pt.MultiTaskModel(inputs(), **given))


def settled(model):
    """With choices beyond all noise, so that sampled branches are the same ones everywhere; and with statistics."""
    state = model.state_dict()
    rng = np.random.default_rng(1)
    for name in state:
        if name.startswith("branching"):
            state[name][rng.integers(len(state[name]))] = 1e4
        if name.endswith(("running_mean", "running_var")):
            state[name][:] = rng.uniform(0.5, 1.5, state[name].shape)
    model.load_state_dict(state)
    return model


def features(rows=ROWS, seed=0):
    rng = np.random.default_rng(seed)
    bags = rng.integers(-1, 9, (rows, 3))
    codes = np.concatenate([rng.integers(0, 7, (rows, 1)), bags], 1)
    return {"numeric": rng.normal(size=(rows, 5)).astype(np.float32), "categorical": codes}


def targets(model, rows=ROWS):
    rng = np.random.default_rng(2)
    kinds = {
        "classes": lambda task: rng.integers(0, task.classes, rows),
        "binary": lambda task: rng.integers(0, 2, (rows, task.outputs)).squeeze(1 if task.outputs == 1 else ()),
        "values": lambda task: rng.normal(size=rows).astype(np.float32),
    }
    return {task.name: kinds[kind](task) for task, kind in zip(model.tasks, model.kinds, strict=True)}


def apart(found, expected):
    """The largest difference of what two dicts have by the same names."""
    assert set(found) == set(expected)
    differences = []
    for name in expected:
        one, other = (torch.as_tensor(each[name]).detach().double() for each in (found, expected))
        assert one.shape == other.shape, name
        differences.append((one - other).abs().max().item())
    return max(differences)


def losses(model, outputs, y):
    """As a PyTorch user writes them."""
    loss_of = {
        "classes": functional.cross_entropy,
        "binary": lambda raw, labels: functional.binary_cross_entropy_with_logits(raw, labels.float()),
        "values": functional.mse_loss,
    }
    pairs = zip(model.tasks, model.kinds, strict=True)
    return [task.weight * loss_of[kind](outputs[task.name], torch.as_tensor(y[task.name])) for task, kind in pairs]


def steps(model, module, x, y, count=20, lr=0.05):
    """SGD on all rows at once."""
    optimizer = torch.optim.SGD(module.parameters(), lr=lr)
    module.train()
    with torch.random.fork_rng(devices=[]):
        for _ in range(count):
            optimizer.zero_grad()
            outputs, terms = module(**x)
            sum([*losses(model, outputs, y), *terms.values()]).backward()
            optimizer.step()
    module.eval()


def ours(model, x, y, count=20, lr=0.05):
    trainer = pt.Trainer(model, optimizer=pt.optim.SGD(lr=lr))
    trainer.fit((x, y), epochs=count, batch_size=ROWS, shuffle=False, progress=False)


CASES = [
    *[pytest.param(sharing, "batch norm", "linear", id=name) for name, sharing in SHARINGS.items()],
    *[pytest.param(sharing, "plain", "tower", id=f"{name}, towers") for name, sharing in SHARINGS.items()],
    *[pytest.param("hard", name, "tower", id=f"encoder {name}") for name in ENCODERS],
    *[pytest.param("mmoe", name, "linear", id=f"experts {name}") for name in ENCODERS],
]


@pytest.mark.parametrize(("sharing", "encoder", "head"), CASES)
def test_it_predicts_what_the_model_predicts(sharing, encoder, head):
    model = make(sharing, ENCODERS[encoder], HEADS[head])
    x = features()
    module = model.to_torch()
    assert isinstance(module, fx.GraphModule)
    assert not module.training
    assert apart(module.state_dict(), model.state_dict()) == 0
    assert apart(module(**model.tensors(x)), model.predict(x)) < SAME
    assert apart(model.to_torch(raw=True)(**model.tensors(x)), model.predict(x, raw=True)) < SAME


@pytest.mark.parametrize(("sharing", "encoder", "head"), CASES)
def test_it_trains_as_the_trainer_does(sharing, encoder, head):
    model = make(sharing, ENCODERS[encoder], HEADS[head])
    x, y = features(), targets(model)
    module = model.to_torch(raw=True, terms=True)
    before = model.state_dict()
    steps(model, module, model.tensors(x), y)
    ours(model, x, y)
    state = model.state_dict()
    assert apart(state, before) > 1e-2
    assert apart(module.state_dict(), state) < FOLLOWS
    predicted = pt.MultiTaskModel.from_torch(module).predict(x)
    assert apart(predicted, model.predict(x)) < FOLLOWS


def test_the_parts_that_are_tried_are_all_there_are():
    families = {family: {info["name"] for info in _core.components() if info["family"] == family}
                for family in ("encoder", "head")}  # fmt: skip
    # The window is tried on positions.
    assert families == {"encoder": {"mlp", "window"}, "head": {"linear", "tower"}}
