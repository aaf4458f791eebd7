"""A model as a module of torch: it predicts the same, trains the same way, and comes back as a model."""

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


def test_selectors_that_choose_codes_of_no_expert_come_back_as_ours_do():
    # Of codes 0 to 7 only the first five are experts; here their weights add up to less than a tenth.
    model = make(pt.sharing.DSelectK(experts=5, k=2, gamma=1.0))
    state = model.state_dict()
    for name in state:
        if name.endswith("bits.bias"):
            state[name][:] = 0.4
        if name.endswith("bits.weight"):
            state[name] *= 0.02
    model.load_state_dict(state)
    x, y = features(), targets(model)
    module = model.to_torch(raw=True, terms=True)
    # `1 / 0.1 - 1` a selector is what their term would be at least, were it not less.
    assert module(**model.tensors(x))[1]["spare_codes"] > 3 * 2 * 9
    steps(model, module, model.tensors(x), y, count=5, lr=1e-3)
    ours(model, x, y, count=5, lr=1e-3)
    assert apart(module.state_dict(), model.state_dict()) < FOLLOWS


def test_the_parts_that_are_tried_are_all_there_are():
    families = {family: {info["name"] for info in _core.components() if info["family"] == family}
                for family in ("encoder", "head")}  # fmt: skip
    # Those over positions, or pairs of them, are tried there, or in files of their own as the others are.
    assert families == {
        "encoder": {"convolution1d", "cross", "mlp", "recurrent", "residual", "tab_m", "transformer", "window"},
        "head": {"biaffine", "linear", "tower"},
    }


def every_loss():
    """A task a loss."""
    return [
        pt.Task("classes", classes=4),
        pt.Task("focal", loss="focal", classes=3),
        pt.Task("ordinal", loss="ordinal", classes=4),
        pt.Task("ordinal_of_two", loss="ordinal", classes=2),
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
    # Chains, lists and trees are of positions: see test_chains.py, test_ranking.py and test_relations.py.
    assert known - {"crf", "ranking", "tree"} <= {task.loss.name for task in model.tasks if not task.custom}
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


def test_one_code_a_position_may_be_an_array_of_one_dimension():
    inputs = pt.Inputs(positions={"tokens": pt.Inputs(categorical=[7], embedding=3)})
    model = pt.MultiTaskModel(inputs, tasks=[pt.Task("tag", classes=2, per="tokens")], encoder="window")
    x = {"tokens": [np.array([1, 2]), np.array([], np.int64), np.array([6])]}
    assert apart(model.to_torch()(**model.tensors(x)), flat(model.predict(x))) < SAME


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
