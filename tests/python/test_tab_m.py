"""TabM: as published, in every scheme, with every kind of prediction."""

import subprocess
import sys

import numpy as np
import polytask as pt
import pytest
import tabm
import torch
from torch.nn import functional

VARIANTS = {"full": "tabm", "mini": "tabm-mini", "packed": "tabm-packed"}
SCHEMES = [
    "hard",
    "soft",
    "cross_stitch",
    "sluice",
    "nddr",
    "mmoe",
    "omoe",
    "cgc",
    "ple",
    "dselect_k",
    "ltb",
    "branched",
]
ROWS, WIDTH, MEMBERS = 48, 5, 3


def tasks():
    return [
        pt.Task("topic", classes=3),
        pt.Task("sale", loss="binary_cross_entropy"),
        pt.Task("price"),
        pt.Task("visits", loss="poisson"),
        pt.Task("age", loss="gaussian_nll"),
        pt.Task("wage", loss=pt.loss.Quantile([0.1, 0.9])),
        pt.Task("degree", classes=4, loss="ordinal"),
        pt.Task("own", loss=lambda raw, y: (raw - y).abs()),
    ]


def make(sharing="hard", variant="full", of=None, dropout=0.0, **more):
    encoder = pt.encoder.TabM([8, 8], members=MEMBERS, variant=variant, dropout=dropout)
    return pt.MultiTaskModel(
        WIDTH, tasks=tasks() if of is None else of, encoder=encoder, sharing=sharing, seed=3, **more
    )


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
    y = {
        "topic": rng.integers(0, 3, ROWS),
        "sale": rng.integers(0, 2, ROWS),
        "price": (x[:, 0] + 0.1 * rng.normal(size=ROWS)).astype(np.float32),
        "visits": rng.poisson(1.5, ROWS).astype(np.float32),
        "age": rng.normal(size=ROWS).astype(np.float32),
        "wage": rng.normal(size=ROWS).astype(np.float32),
        "degree": rng.integers(0, 4, ROWS),
        "own": rng.normal(size=ROWS).astype(np.float32),
    }
    y["price"][::7] = np.nan
    return x, y


def published(model, variant):
    """The published backbone and a published last layer a task, with the parameters of a model."""
    own = {name: torch.from_numpy(array.copy()) for name, array in model.state_dict().items()}
    backbone = tabm.make_tabm_backbone(
        d_in=WIDTH, n_blocks=2, d_block=8, dropout=0.0, k=MEMBERS, arch_type=VARIANTS[variant],
        start_scaling_init=None if variant == "packed" else "random-signs",
        start_scaling_init_chunks=None if variant == "packed" else [1] * WIDTH,
    )  # fmt: skip
    for i in range(2):
        layer, of = backbone.blocks[i][0], f"encoder.{i}"
        weight = own[f"{of}.weight"]
        layer.weight.data = weight.transpose(1, 2).contiguous() if variant == "packed" else weight
        layer.bias.data = own[f"{of}.output.bias" if variant == "full" else f"{of}.bias"]
        if variant == "full":
            layer.r.data, layer.s.data = own[f"{of}.input.scale"], own[f"{of}.output.scale"]
    if variant == "mini":
        backbone.affine.weight.data = own["encoder.0.input.scale"]
    heads = torch.nn.ModuleDict()
    for task in model.tasks:
        weight = own[f"heads.{task.name}.weight"]
        heads[task.name] = tabm.LinearEnsemble(8, weight.shape[1], k=MEMBERS)
        heads[task.name].weight.data = weight.transpose(1, 2).contiguous()
        heads[task.name].bias.data = own[f"heads.{task.name}.bias"]
    return torch.nn.ModuleDict({"backbone": backbone, "heads": heads})


def outputs(module, x):
    features = module["backbone"](torch.from_numpy(x).unsqueeze(1).expand(-1, MEMBERS, -1))
    return {name: head(features) for name, head in module["heads"].items()}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.usefixtures("own_seed")
def test_it_is_the_published_one(data, variant):
    x, y = data[0], {name: data[1][name] for name in ("topic", "sale")}
    model = make(variant=variant, of=tasks()[:2])
    module = published(model, variant)
    raw = outputs(module, x)
    expected = {"topic": raw["topic"].softmax(2).mean(1), "sale": raw["sale"].sigmoid().mean(1).squeeze(1)}
    predicted = model.predict(x)
    for name, each in expected.items():
        np.testing.assert_allclose(predicted[name], each.detach().numpy(), atol=1e-6)
    # And after steps: the loss is the mean over members.
    trainer = pt.Trainer(model, optimizer=pt.optim.SGD(lr=0.1, momentum=0.9), seed=0)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    topic, sale = torch.from_numpy(y["topic"]), torch.from_numpy(y["sale"]).float()
    for _ in range(10):
        of_step = trainer.step((x, y))
        raw = outputs(module, x)
        losses = [
            functional.cross_entropy(raw["topic"].flatten(0, 1), topic.repeat_interleave(MEMBERS)),
            functional.binary_cross_entropy_with_logits(raw["sale"].flatten(), sale.repeat_interleave(MEMBERS)),
        ]
        assert [of_step["topic/loss"], of_step["sale/loss"]] == pytest.approx(
            [each.item() for each in losses], abs=1e-5
        )
        optimizer.zero_grad()
        sum(losses).backward()
        optimizer.step()
    state = model.state_dict()
    for i in range(2):
        weight = module["backbone"].blocks[i][0].weight.detach()
        expected = weight.transpose(1, 2) if variant == "packed" else weight
        np.testing.assert_allclose(state[f"encoder.{i}.weight"], expected.numpy(), atol=1e-5)


def test_members_start_apart_as_published():
    state = make(of=tasks()[:1]).state_dict()
    assert set(np.unique(state["encoder.0.input.scale"])) == {-1.0, 1.0}
    assert (state["encoder.1.input.scale"] == 1).all()
    assert (state["encoder.0.output.scale"] == 1).all()
    bias = state["encoder.0.output.bias"]
    assert (bias == bias[0]).all()
    assert len(np.unique(bias[0])) == 8
    assert np.abs(bias).max() <= WIDTH**-0.5
    normal = pt.encoder.TabM([8], members=64, first="normal")
    scale = pt.MultiTaskModel(40, tasks=tasks()[:1], encoder=normal).state_dict()["encoder.0.input.scale"]
    assert scale.std() == pytest.approx(1, abs=0.05)
    experts = make("mmoe", of=tasks()[:2]).state_dict()
    first, second = (experts[f"experts.{e}.0.output.bias"] for e in (0, 1))
    assert (first == first[0]).all()
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("sharing", SCHEMES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_it_learns_in_every_scheme(data, sharing, variant):
    model = make(sharing, variant, of=tasks()[:3], dropout=0.1)
    labels = {name: data[1][name] for name in ("topic", "sale", "price")}
    trainer = pt.Trainer(model, lr=1e-2, weighting="upgrad", seed=0)
    history = trainer.fit((data[0], labels), epochs=30, batch_size=24, progress=False)
    assert history["loss"][-1] < 0.97 * history["loss"][0]
    path = model.to_torch()
    with torch.no_grad():
        given = path(torch.from_numpy(data[0]))
    for name, expected in model.predict(data[0]).items():
        np.testing.assert_allclose(given[name].numpy(), expected, atol=2e-6)


def test_steps_of_a_funnel_serve_members(data):
    x, y = data
    y = {"click": y["sale"], "buy": y["sale"] * (y["topic"] == 0)}
    for sharing in ("esmm", "aitm"):
        steps = [pt.Task(name, loss="binary_cross_entropy") for name in y]
        model = make(sharing, of=steps)
        pt.Trainer(model, lr=1e-2, seed=0).fit((x, y), epochs=3, batch_size=24, progress=False)
        assert all(np.isfinite(each).all() for each in model.predict(x).values())


def test_what_is_evaluated_is_what_is_predicted(data):
    x, y = data
    model = make()
    trainer = pt.Trainer(model, lr=1e-2, seed=0)
    trainer.fit(data, epochs=5, batch_size=24, progress=False)
    loss = {name: each["loss"] for name, each in trainer.evaluate(data).items()}
    predicted = model.predict(x)
    known = np.isfinite(y["price"])
    mean, variance = predicted["age"].T
    low, high = (y["wage"] - q for q in predicted["wage"].T)
    pinball = np.maximum(0.1 * low, -0.9 * low), np.maximum(0.9 * high, -0.1 * high)
    expected = {
        "topic": -np.log(predicted["topic"][np.arange(ROWS), y["topic"]]).mean(),
        "sale": -np.log(np.where(y["sale"] == 1, predicted["sale"], 1 - predicted["sale"])).mean(),
        "price": np.mean((predicted["price"] - y["price"])[known] ** 2),
        "visits": np.mean(predicted["visits"] - y["visits"] * np.log(predicted["visits"])),
        "age": np.mean(0.5 * (np.log(variance) + (y["age"] - mean) ** 2 / variance)),
        "own": np.mean(np.abs(predicted["own"] - y["own"])),
    }
    for name, each in expected.items():
        assert loss[name] == pytest.approx(each, rel=1e-4), name
    assert loss["wage"] == pytest.approx(np.mean(pinball), rel=1e-4)


def ordered(z):
    beyond = functional.pad(functional.pad(z.sigmoid().cumprod(2), (1, 0), value=1.0), (0, 1))
    return beyond[..., :-1] - beyond[..., 1:]


@pytest.mark.usefixtures("own_seed")
def test_the_mean_of_members_is_that_of_predictions(data):
    x, _ = data
    model = make()
    raw = outputs(published(model, "full"), x)
    of_members = {name: each.detach().double() for name, each in raw.items()}
    predicted = model.predict(x)
    mean, s = of_members["age"].unbind(2)
    epsilon = 1e-6
    variance = functional.softplus(s) + epsilon
    center = mean.mean(1)
    mixture = (variance + (mean - center.unsqueeze(1)) ** 2).mean(1)
    expected = {
        "visits": of_members["visits"].exp().mean(1).squeeze(1),
        "price": of_members["price"].mean(1).squeeze(1),
        "age": torch.stack([center, mixture], 1),
        "wage": of_members["wage"].mean(1),
        "degree": ordered(of_members["degree"]).mean(1),
    }
    for name, each in expected.items():
        np.testing.assert_allclose(predicted[name], each.numpy(), rtol=2e-5, atol=2e-6)


def test_what_is_all_but_sure_stays_so():
    model = make(of=tasks()[:2])
    state = model.state_dict()
    state["heads.sale.bias"] = np.full_like(state["heads.sale.bias"], 60.0)
    state["heads.topic.bias"] = np.tile(np.float32([80.0, 0.0, -80.0]), (MEMBERS, 1))
    model.load_state_dict(state)
    raw = model.predict(np.zeros((2, WIDTH), np.float32), raw=True)
    assert raw["sale"] == pytest.approx(60, rel=0.05)
    assert raw["topic"][0, 2] - raw["topic"][0, 0] == pytest.approx(-160, rel=0.05)


def test_towers_and_files(data, tmp_path):
    model = make(head=pt.head.Tower([6]))
    trainer = pt.Trainer(model, lr=1e-2, seed=0)
    trainer.fit(data, epochs=2, batch_size=24, progress=False)
    model.save(tmp_path / "m.safetensors")
    loaded = pt.MultiTaskModel.load(tmp_path / "m.safetensors", losses={"own": lambda raw, y: (raw - y).abs()})
    for name, each in model.predict(data[0]).items():
        np.testing.assert_array_equal(loaded.predict(data[0])[name], each)


def test_positions_are_refused():
    inputs = pt.Inputs(positions={"tokens": pt.Inputs(categorical=[9])})
    with pytest.raises(ValueError, match=r"TabM is of rows; got a value of `tokens`"):
        pt.MultiTaskModel(inputs, tasks=tasks()[:1], encoder=pt.encoder.TabM([8]))


def test_no_layers_are_no_ensemble():
    with pytest.raises(ValueError, match=r"TabM: `hidden` should have a layer at least"):
        pt.MultiTaskModel(WIDTH, tasks=tasks()[:1], encoder=pt.encoder.TabM([]))


@pytest.mark.usefixtures("own_seed")
def test_a_head_of_your_own_serves_each_member(data):
    x, _ = data
    head = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
    model = make(of=[pt.Task("price", head=head), pt.Task("sale", loss="binary_cross_entropy")])
    state = model.state_dict()
    assert state["heads.price.0.weight"].shape == (4, 8)
    module = published(make(of=tasks()[1:3]), "full")
    for i, block in enumerate(module["backbone"].blocks):
        of = f"encoder.{i}"
        parts = {"weight": "weight", "r": "input.scale", "s": "output.scale", "bias": "output.bias"}
        for name, own in parts.items():
            getattr(block[0], name).data = torch.from_numpy(state[f"{of}.{own}"].copy())
    with torch.no_grad():
        features = module["backbone"](torch.from_numpy(x).unsqueeze(1).expand(-1, MEMBERS, -1))
        expected = head(features).mean(1).squeeze(1)
    np.testing.assert_allclose(model.predict(x)["price"], expected.numpy(), atol=1e-6)


def test_rows_are_predicted_in_parts(data):
    model = make()
    whole = model.predict(data[0])
    for size in (1, 4, 17):
        for name, each in model.predict(data[0], batch_size=size).items():
            np.testing.assert_allclose(each, whole[name], rtol=1e-5, atol=1e-6)


#: Prints by how many MiB the peak grows where 2,000 rows of 32 members are predicted, and inspected, by default.
PEAK = """
import resource
import numpy as np
import polytask as pt

tasks = [pt.Task("a"), pt.Task("b")]
model = pt.MultiTaskModel(4, tasks=tasks, encoder=pt.encoder.TabM([512]), sharing=pt.sharing.MMoE(experts=1))
x = np.zeros((2000, 4), np.float32)
model.predict(x[:100])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model.predict(x)
model.inspect(x)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_members_count_as_rows_where_memory_is_taken():
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True)
    # One value of all 2,000 rows at once would be 125 MiB.
    assert int(done.stdout) < 100, done.stderr
