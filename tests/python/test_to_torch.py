"""A model as a module of torch: it predicts the same, trains the same way, and comes back as a model."""

import copy
import io
import pickle

import numpy as np
import polytask as pt
import pytest
import torch
from polytask import _core
from torch import fx, nn
from torch.nn import functional

ROWS = 40
#: Largest difference of predictions, and of parameters after 20 steps.
SAME = 1e-6
FOLLOWS = 1e-5

SCHEMES = {info["name"] for info in _core.components() if info["family"] == "sharing"}
FUNNELS = {"esmm", "aitm"}
#: With arguments of their own, so that every branch of a translation runs.
SHARINGS = {
    **{name: name for name in sorted(SCHEMES)},
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
        if name.endswith("running_mean"):
            state[name][:] = rng.uniform(-0.3, 0.3, state[name].shape)
        if name.endswith("running_var"):
            state[name][:] = rng.uniform(0.1, 0.5, state[name].shape)
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
        differences.append((one - other).abs().max().item() if one.numel() else 0.0)
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


def every_loss():
    """A task a loss."""
    return [
        pt.Task("classes", classes=4),
        pt.Task("focal", loss="focal", classes=3),
        pt.Task("focal_binary", loss="focal", outputs=2),
        pt.Task("binary", loss="binary_cross_entropy"),
        *[pt.Task(name, loss=name, outputs=2) for name in ("mean_squared", "mean_absolute", "huber", "poisson")],
        pt.Task("quantile", loss=pt.loss.Quantile([0.2, 0.8]), outputs=3),
        pt.Task("gaussian_nll", loss="gaussian_nll", outputs=2),
        pt.Task("one_mean_and_variance", loss="gaussian_nll"),
        pt.Task("own", loss=lambda raw, y: (raw.squeeze(1) - y) ** 2),
        pt.Task("own_classes", loss=lambda raw, y: functional.cross_entropy(raw, y, reduction="none"), classes=3),
    ]


def test_predictions_have_the_link_of_every_loss():
    model = make(tasks=every_loss())
    known = {info["name"] for info in _core.components() if info["family"] == "loss"}
    assert known <= {task.loss.name for task in model.tasks if not task.custom}
    x = features()
    assert apart(model.to_torch()(**model.tensors(x)), model.predict(x)) < SAME
    assert apart(model.to_torch(raw=True)(**model.tensors(x)), model.predict(x, raw=True)) < SAME


def test_predictions_are_in_the_units_of_targets():
    scales = ("standardize", "robust", "quantile", "log1p")
    scaled = [
        *[pt.Task(name, scale=name, outputs=outputs, columns=[f"{name}{j}" for j in range(outputs)])
          for name, outputs in zip(scales, (1, 2, 2, 1), strict=True)],
        pt.Task("quantiles", loss=pt.loss.Quantile([0.1, 0.9]), scale="standardize"),
        pt.Task("spread", loss="gaussian_nll", scale="robust"),
    ]  # fmt: skip
    model = make(tasks=scaled)
    rng = np.random.default_rng(5)
    x = features()
    wide = {task.name: task.outputs for task in scaled}
    y = {name: rng.gamma(2, 50, (ROWS, count)).squeeze(1 if count == 1 else ()) for name, count in wide.items()}
    pt.Trainer(model, lr=1e-2).fit((x, y), epochs=2, progress=False)
    predicted = model.predict(x)
    largest = max(np.abs(each).max() for each in predicted.values())
    assert largest > 50
    found = model.to_torch()(**model.tensors(x))
    for name, expected in predicted.items():
        np.testing.assert_allclose(found[name].detach(), expected, rtol=2e-6, err_msg=name)
    again = pt.MultiTaskModel.from_torch(model.to_torch())
    assert apart(again.predict(x), predicted) == 0


WORDS = pt.Inputs(numeric=2, positions={"tokens": pt.Inputs(numeric=3, categorical=[11], embedding=4)})


def sentences(rows=9, seed=0):
    """Rows of no to six tokens."""
    rng = np.random.default_rng(seed)
    lengths = [0, *rng.integers(0, 7, rows - 2), 0]
    tokens = {
        "numeric": [rng.normal(size=(n, 3)).astype(np.float32) for n in lengths],
        "categorical": [rng.integers(0, 11, (n, 1)) for n in lengths],
    }
    return {"numeric": rng.normal(size=(rows, 2)).astype(np.float32), "tokens": tokens}


def tagger(encoder, sharing="hard"):
    each = [pt.Task("tag", classes=4, per="tokens"), pt.Task("mood"), pt.Task("rude", loss="binary_cross_entropy")]
    return pt.MultiTaskModel(WORDS, tasks=each, encoder=encoder, sharing=sharing, seed=1)


def flat(predicted):
    """Positions end to end."""
    return {name: np.concatenate(list(y)) if y.dtype == object else y for name, y in predicted.items()}


@pytest.mark.parametrize("sharing", ["hard", "mmoe", "dselect_k", "nddr", "sluice"])
@pytest.mark.parametrize("pool", ["mean", "sum", "max", "attention"])
def test_positions_lie_end_to_end(pool, sharing):
    model = tagger(pt.encoder.Window([8, 8], radius=2, pool=pool), sharing)
    x = sentences()
    module = model.to_torch()
    assert apart(module(**model.tensors(x)), flat(model.predict(x))) < SAME
    # A batch without any position has one of each pool too.
    none = {"numeric": x["numeric"][:1], "tokens": {name: rows[:1] for name, rows in x["tokens"].items()}}
    assert apart(module(**model.tensors(none)), flat(model.predict(none))) < SAME


@pytest.mark.parametrize("sharing", ["hard", "dselect_k", "nddr"])
def test_positions_train_as_the_trainer_does(sharing):
    scheme = pt.sharing.DSelectK(experts=3, k=2, entropy=0.2) if sharing == "dselect_k" else sharing
    model = tagger(pt.encoder.Window([8, 8], activation="tanh", pool="attention"), scheme)
    x = sentences(ROWS)
    rng = np.random.default_rng(4)
    tags = [rng.integers(0, 4, len(n)) for n in x["tokens"]["categorical"]]
    y = {"tag": tags, "mood": rng.normal(size=ROWS).astype(np.float32), "rude": rng.integers(0, 2, ROWS)}
    module = model.to_torch(raw=True, terms=True)
    steps(model, module, model.tensors(x), {**y, "tag": np.concatenate(tags)})
    ours(model, x, y)
    assert apart(module.state_dict(), model.state_dict()) < FOLLOWS


class Reads(nn.Module):
    """An encoder of positions that is told where they are."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(9, 6, batch_first=True)

    def forward(self, x, there):
        return self.rnn(x)[0] * there.unsqueeze(2)


@pytest.mark.usefixtures("own_seed")
def test_a_module_of_the_callers_own_over_positions():
    model = tagger(Reads())
    x = sentences()
    assert apart(model.to_torch()(**model.tensors(x)), flat(model.predict(x))) < SAME


class Own(nn.Module):
    """With statistics, a counter, a parameter that two layers have, and a layer that writes on what it is given."""

    def __init__(self, width=10):
        super().__init__()
        self.first = nn.Sequential(nn.Hardtanh(-0.5, 0.5, inplace=True), nn.Linear(13, width))
        self.norm = nn.BatchNorm1d(width)
        self.last = nn.Linear(width, width)
        self.again = nn.Linear(width, width)
        self.again.weight = self.last.weight

    def forward(self, x):
        return torch.tanh(self.again(self.last(self.norm(self.first(x)))))


def own_model(sharing, **more):
    torch.manual_seed(0)
    encoder = Own() if sharing == "hard" else Own if sharing == "soft" else (lambda: Own())
    each = [pt.Task("a", classes=3, head=lambda features, outputs: nn.Linear(features, outputs)), pt.Task("b"),
            pt.Task("c", head=pt.head.Tower(4))]  # fmt: skip
    return make(sharing, encoder, tasks=each, **more)


@pytest.mark.usefixtures("own_seed")
@pytest.mark.parametrize("sharing", ["hard", "soft", "mmoe"])
def test_modules_of_the_callers_own_are_part_of_it(sharing):
    model = own_model(sharing)
    x, y = features(), targets(model)
    given = model.tensors(x)
    kept = given["numeric"].clone()
    module = model.to_torch(raw=True, terms=True)
    assert apart(module(**given)[0], model.predict(x, raw=True)) < SAME
    assert torch.equal(given["numeric"], kept)
    steps(model, module, given, y)
    ours(model, x, y)
    state = {name: tensor for name, tensor in module.state_dict().items() if "again.weight" not in name}
    assert apart(state, model.state_dict()) < FOLLOWS
    again = pt.MultiTaskModel.from_torch(module)
    assert apart(again.predict(x), model.predict(x)) < FOLLOWS


@pytest.mark.usefixtures("own_seed")
def test_a_model_that_lost_its_modules_says_so(tmp_path):
    own_model("hard").save(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="`encoder` was Python code"):
        pt.MultiTaskModel.load(tmp_path / "model.safetensors").to_torch()


def test_memory_is_shared_when_asked():
    model = make("nddr")
    x, y = features(), targets(model)
    module = model.to_torch(share=True, raw=True, terms=True)
    before = model.state_dict()
    steps(model, module, model.tensors(x), y, count=3)
    after = model.state_dict()
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    # A bias before a batch norm has no effect.
    assert moved >= {name for name in before if not name.endswith("bias")}
    assert apart(module.state_dict(), after) == 0
    assert apart(module(**model.tensors(x))[0], model.predict(x, raw=True)) < SAME
    ours(model, x, y, count=3)
    assert apart(module.state_dict(), after) > 1e-3
    assert apart(module(**model.tensors(x))[0], model.predict(x, raw=True)) < SAME
    # All modules of a model have the very same parameters; a copy has others.
    other = dict(model.to_torch(share=True).named_parameters())
    assert all(parameter is other[name] for name, parameter in module.named_parameters())
    apart_from_it = model.to_torch()
    with torch.no_grad():
        next(apart_from_it.parameters()).add_(1)
    assert apart(module.state_dict(), model.state_dict()) == 0


@pytest.mark.usefixtures("own_seed")
def test_modules_of_the_callers_own_share_memory_too():
    model = own_model("hard")
    x, y = features(), targets(model)
    module = model.to_torch(share=True, raw=True, terms=True)
    steps(model, module, model.tensors(x), y, count=3)
    assert apart(module(**model.tensors(x))[0], model.predict(x, raw=True)) < SAME
    ours(model, x, y, count=3)
    assert apart(module(**model.tensors(x))[0], model.predict(x, raw=True)) < SAME


def test_shared_memory_outlives_the_model():
    model = make()
    x = model.tensors(features())
    module, expected = model.to_torch(share=True), model.predict(features())
    del model
    assert apart(module(**x), expected) < SAME


def test_parameters_follow_the_model_to_other_memory():
    model = make()
    x = features()
    module = model.to_torch(share=True)
    parameter = next(module.parameters())
    parameter.grad = torch.ones_like(parameter)
    # A card has other memory, and is tried where there is one.
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in [*devices, "cpu"]:
        model.to(device)
        assert next(module.parameters()) is parameter
        assert parameter.device.type == device
        with torch.no_grad():
            parameter.mul_(0.5)
        assert apart({k: v.cpu() for k, v in module(**model.tensors(x)).items()}, model.predict(x)) < 2e-6


def test_a_model_is_called_on_tensors():
    model = make("mmoe", pt.encoder.MLP([12], activation="tanh"))
    x, y = features(), targets(model)
    given = model.tensors(x)
    given["numeric"].requires_grad_()
    outputs = model(given)
    assert apart(outputs, model.predict(x, raw=True)) < SAME
    assert apart(model(given, raw=False), model.predict(x)) < SAME
    sum(losses(model, outputs, y)).backward()
    parameters = dict(model.to_torch(share=True).named_parameters())
    expected = model._core.gradients(model.reader.rows((x, y)).core(), "sum")
    gradients = {name: parameter.grad for name, parameter in parameters.items()}
    assert apart(gradients, {name: expected[name] for name in gradients}) < SAME
    assert max(gradient.abs().max() for gradient in gradients.values()) > 1e-2


def test_a_call_is_differentiable_with_regard_to_its_input():
    model = pt.MultiTaskModel(4, tasks=[pt.Task("a"), pt.Task("b", classes=3)],
                              encoder=pt.encoder.MLP([8, 8], activation="tanh"), seed=1)  # fmt: skip
    x = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    given = torch.from_numpy(x).requires_grad_()
    outputs = model(given)
    (outputs["a"].sum() + outputs["b"][:, 1].sum()).backward()
    size = 1e-2

    def total(moved):
        raw = model.predict(moved, raw=True)
        return raw["a"].astype(float) + raw["b"][:, 1]

    slopes = np.stack([(total(x + size * e) - total(x - size * e)) / (2 * size) for e in np.eye(4, dtype=x.dtype)], 1)
    np.testing.assert_allclose(given.grad, slopes, atol=1e-3)
    assert np.abs(slopes).max() > 0.05


@pytest.mark.usefixtures("own_seed")
def test_a_model_trains_as_part_of_another_module():
    model = make()
    x, y = features(), targets(model)
    given = model.tensors(x)
    before = nn.Linear(5, 5)
    nn.init.eye_(before.weight)
    nn.init.zeros_(before.bias)
    parameters = [*before.parameters(), *model.to_torch(share=True).parameters()]
    optimizer = torch.optim.Adam(parameters, 1e-2)
    history = []
    for _ in range(30):
        outputs = model({**given, "numeric": before(given["numeric"])}, training=True)
        loss = sum(losses(model, outputs, y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.8 * history[0]
    with torch.no_grad():
        moved = {**x, "numeric": before(given["numeric"]).numpy()}
        assert apart(model({**given, "numeric": before(given["numeric"])}), model.predict(moved, raw=True)) < 2e-6
    assert not torch.equal(before.weight, torch.eye(5))


def test_terms_are_those_of_the_network():
    model = make(pt.sharing.DSelectK(experts=5, k=2, entropy=0.3))
    x, y = features(), targets(model)
    outputs, terms = model(model.tensors(x), terms=True, training=True)
    trainer = pt.Trainer(model, optimizer=pt.optim.SGD(lr=0.0))
    history = trainer.fit((x, y), epochs=1, batch_size=ROWS, shuffle=False, progress=False)
    assert set(terms) == {"entropy", "spare_codes"}
    for name, term in terms.items():
        assert term.item() == pytest.approx(history[f"term/{name}"][0], abs=1e-5)
        assert term.item() > 1e-3
    total = sum([*losses(model, outputs, y), *terms.values()]).item()
    assert total == pytest.approx(history["loss"][0], abs=1e-5)
    assert make("hard").to_torch(terms=True)(**model.tensors(x))[1] == {}


@pytest.mark.usefixtures("own_seed")
def test_training_draws_and_evaluation_does_not():
    encoder = pt.encoder.MLP([200], activation=None, dropout=0.25)
    module = pt.MultiTaskModel(4, tasks=[pt.Task("a"), pt.Task("b")], encoder=encoder).to_torch()
    x = torch.ones(50, 4)
    assert torch.equal(module(x)["a"], module(x)["a"])
    dropped = []
    module.get_submodule("dropout.1").register_forward_hook(lambda _, given, found: dropped.append((given[0], found)))
    module.train()
    assert not torch.equal(module(x)["a"], module(x)["a"])
    given, found = dropped[0]
    assert ((found == 0) | torch.isclose(found, given / 0.75)).all()
    assert (found == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)


@pytest.mark.usefixtures("own_seed")
def test_sampled_branches_follow_their_law():
    each = [pt.Task("a"), pt.Task("b")]
    scheme = pt.sharing.LTB(branches=3, temperature=2.0, decay=0.5, lowest=1e-3)
    model = pt.MultiTaskModel(4, tasks=each, encoder=pt.encoder.MLP([6]), sharing=scheme)
    state = model.state_dict()
    for name in state:
        if name.startswith("branching"):
            state[name][:] = [0.3, 1.5, -0.6]
    model.load_state_dict(state)
    module = model.to_torch()
    (choice,) = [part for part in module.modules() if type(part).__name__ == "Choice"]
    weights = torch.tensor([[0.3, 1.5, -0.6]]).expand(20_000, 3)
    assert torch.equal(choice(weights)[0], torch.tensor([0.0, 1.0, 0.0]))
    module.train()
    soft = choice(weights)
    assert int(choice.steps) == 1
    assert torch.allclose(soft.sum(1), torch.ones(()))
    # At a low temperature samples are single sources, as often as the softmax says.
    choice.steps.fill_(100)
    frequencies = choice(weights).mean(0)
    assert torch.allclose(frequencies, weights[0].softmax(0), atol=0.02)
    assert soft.max(1).values.mean() < 0.9 < choice(weights).max(1).values.mean()


def test_what_is_frozen_requires_no_gradient_and_stays():
    model = make()
    model.freeze("encoder", "heads.a.bias")
    x, y = features(), targets(model)
    module = model.to_torch(raw=True, terms=True)
    learning = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert set(model.state_dict()) - learning == set(model.frozen)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    steps(model, module, model.tensors(x), y)
    after = module.state_dict()
    assert {name for name in before if torch.equal(before[name], after[name])} == set(model.frozen)
    ours(model, x, y)
    assert apart(after, model.state_dict()) < FOLLOWS
    shared = dict(model.to_torch(share=True).named_parameters())
    assert not shared["heads.a.bias"].requires_grad
    model.unfreeze()
    model(model.tensors(x))
    assert shared["heads.a.bias"].requires_grad


def test_a_batch_of_one_row_has_no_statistics():
    model = make()
    x = model.tensors(features(1))
    module = model.to_torch()
    expected = module(**x)
    assert apart(module.train()(**x), expected) == 0
    assert apart(module.state_dict(), model.state_dict()) == 0


def test_states_load_into_each_other():
    one, other = make("ple", seed=1), make("ple", seed=2)
    module = one.to_torch()
    x = features()
    other.load_state_dict(module.state_dict())
    assert apart(other.predict(x), one.predict(x)) == 0
    third = make("ple", seed=3)
    module.load_state_dict({name: torch.from_numpy(array) for name, array in third.state_dict().items()})
    assert apart(module(**third.tensors(x)), third.predict(x)) < SAME


#: Tasks that are called as parts of modules are, or as other tasks with a dot.
NAMES = ["type", "train", "weight", "children", "a", "a.b", "forward", "dépôt", "two words", "class"]


def test_tasks_may_be_called_as_parts_of_modules_are():
    model = make(tasks=[pt.Task(name) for name in NAMES], head=pt.head.Tower(3))
    x = features()
    module = model.to_torch()
    module.train()
    module.eval()
    for each in (module, copy.deepcopy(module)):
        assert apart(each(**model.tensors(x)), model.predict(x)) < SAME
        assert apart(each.state_dict(), model.state_dict()) == 0
        each.load_state_dict(each.state_dict())
    pickled = pickle.loads(pickle.dumps(module))
    assert apart(pt.MultiTaskModel.from_torch(pickled).predict(x), model.predict(x)) == 0


def test_a_name_that_no_module_can_have_is_refused():
    with pytest.raises(ValueError, match=r"`heads.a..b.0?"):
        make(tasks=[pt.Task("a..b"), pt.Task("c")]).to_torch()


def saved(module):
    """Through a file of torch."""
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {
    "itself": lambda module: module,
    "a copy": copy.deepcopy,
    "a pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "a file": saved,
    "a copy of a pickle of a copy": lambda module: copy.deepcopy(saved(copy.deepcopy(module))),
    "in double precision": lambda module: module.double(),
}


@pytest.mark.parametrize("through", COPIES)
def test_a_module_becomes_a_model_again(through):
    labelled = [pt.Task("animal", classes=["cat", "dog", "emu"]), pt.Task("b", metrics=["mae"]), pt.Task("c")]
    model = make(pt.sharing.DSelectK(experts=3), tasks=labelled)
    model.freeze("embedding")
    module = model.to_torch(raw=True)
    with torch.no_grad():
        module.get_submodule("heads.b").weight.mul_(2)
    again = pt.MultiTaskModel.from_torch(COPIES[through](module))
    x = features()
    expected = model.state_dict()
    expected["heads.b.weight"] *= 2
    assert apart(again.state_dict(), expected) == 0
    assert repr(again) == repr(model)
    assert again.frozen == model.frozen
    assert again.classes(again.predict(x))["animal"][0] in ("cat", "dog", "emu")
    y = {"animal": ["cat"] * ROWS, "b": np.zeros(ROWS), "c": np.ones(ROWS)}
    pt.Trainer(again).fit((x, y), epochs=1, progress=False)
    assert apart(again.state_dict(), expected) > 0
    assert np.array_equal(model.state_dict()["heads.c.weight"], expected["heads.c.weight"])


def test_a_python_loss_is_given_back():
    model = make(tasks=every_loss())
    module = model.to_torch()
    lost = pt.MultiTaskModel.from_torch(module)
    x = features()
    assert apart(lost.predict(x), model.predict(x)) == 0
    own = {task.name: task.loss for task in model.tasks if task.custom}
    assert repr(pt.MultiTaskModel.from_torch(module, own).tasks) == repr(model.tasks)


@pytest.mark.parametrize(("module", "error"), [(nn.Linear(2, 2), ValueError), ("model", TypeError)])
def test_other_modules_become_no_model(module, error):
    with pytest.raises(error, match="`module` should be"):
        pt.MultiTaskModel.from_torch(module)


def test_a_frame_goes_through_what_was_learned_of_it():
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"age": rng.normal(40, 10, 60), "city": rng.choice(["Rome", "Oslo"], 60), "y": rng.normal(size=60)}
    )
    model = pt.MultiTaskModel(pt.Inputs.from_frame(frame, exclude=["y"]), tasks=[pt.Task("y")])
    pt.Trainer(model).fit(frame, epochs=1, progress=False)
    given = model.tensors(frame.drop(columns="y"))
    assert {name: tensor.dtype for name, tensor in given.items()} == {
        "numeric": torch.float32,
        "categorical": torch.int64,
    }
    module = model.to_torch()
    assert apart(module(**given), model.predict(frame)) < SAME
    assert apart(pt.MultiTaskModel.from_torch(module).predict(frame), model.predict(frame)) == 0


WRONG = [
    (lambda x: np.ones((3, 4)), TypeError, r"should be a torch.Tensor.*got ndarray.*`predict` takes"),
    (lambda x: x["numeric"], TypeError, "dict of tensors with the keys `numeric`, `categorical`; got one tensor"),
    (lambda x: {"numeric": x["numeric"]}, ValueError, "keys `numeric`, `categorical`; got `numeric`"),
    (
        lambda x: {**x, "numeric": x["numeric"].double()},
        ValueError,
        r"\[rows, 5\] of float32; got \[40, 5\] of float64",
    ),
    (lambda x: {**x, "numeric": x["numeric"][:, :3]}, ValueError, r"`x\['numeric'\]` should be \[rows, 5\]"),
    (lambda x: {**x, "categorical": x["numeric"][:, :4]}, ValueError, r"of int64; got \[40, 4\] of float32"),
    (lambda x: {**x, "categorical": [1]}, TypeError, r"`x\['categorical'\]` should be a torch.Tensor; got list"),
]


@pytest.mark.parametrize(("wrong", "error", "says"), WRONG)
def test_a_call_on_something_else_is_refused(wrong, error, says):
    model = make()
    with pytest.raises(error, match=says):
        model(wrong(model.tensors(features())))


def test_a_node_without_translation_is_named(monkeypatch):
    from polytask.torch.module import nodes

    monkeypatch.delitem(nodes.TRANSLATIONS, "Mixture")
    with pytest.raises(ValueError, match="node `Mixture`, which has no translation"):
        make("mmoe").to_torch()


def test_copies_of_a_model_share_nothing_with_its_modules():
    model = make()
    module = model.to_torch(share=True)
    twins = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    with torch.no_grad():
        next(module.parameters()).add_(1)
    x = features()
    for twin in twins:
        assert apart(twin.predict(x), model.predict(x)) > 1e-3
        assert apart(twin(twin.tensors(x)), twin.predict(x, raw=True)) < SAME


@pytest.mark.parametrize("sharing", SHARINGS)
def test_it_is_exported_for_any_number_of_rows(sharing):
    model = make(SHARINGS[sharing])
    given, fewer = model.tensors(features()), features(7, seed=1)
    dynamic = {name: {0: torch.export.Dim.DYNAMIC} for name in given}
    program = torch.export.export(model.to_torch(), (), given, dynamic_shapes=dynamic)
    assert apart(program.module()(**model.tensors(fewer)), model.predict(fewer)) < SAME


def test_positions_are_exported_too():
    model = tagger(pt.encoder.Window([8, 8], pool="attention"))
    given, fewer = model.tensors(sentences(12)), sentences(5, seed=1)
    dynamic = {name: {0: torch.export.Dim.DYNAMIC} for name in given}
    program = torch.export.export(model.to_torch(), (), given, dynamic_shapes=dynamic)
    assert apart(program.module()(**model.tensors(fewer)), flat(model.predict(fewer))) < SAME


@pytest.mark.parametrize("sharing", ["hard", "ple", "ltb"])
def test_it_is_compiled(sharing):
    model = make(sharing)
    module = model.to_torch(raw=True)
    compiled = torch.compile(module, backend="eager", fullgraph=True, dynamic=True)
    for rows in (ROWS, 7):
        x = features(rows)
        assert apart(compiled(**model.tensors(x)), model.predict(x, raw=True)) < SAME
    torch._dynamo.reset()
