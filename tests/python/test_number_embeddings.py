"""Embeddings of numeric features: as published, from every kind of data, in every scheme, through files and back."""

import copy
import pickle
import sys

import numpy as np
import pandas as pd
import polytask as pt
import pytest
import torch
from conftest import Data, make_tasks, same_bits, without_seconds
from polytask.studies.space import Space
from sklearn import tree  # noqa: F401  (what it adds to the environment when it is imported is no test's doing)
from torch import nn
from torch.nn import functional

try:
    import rtdl_num_embeddings as rtdl
except ImportError:
    rtdl = None

needs_package = pytest.mark.skipif(rtdl is None, reason="rtdl_num_embeddings is not installed")

EDGES = "embedding.numeric.edges"
SCHEMES = ["hard", "soft", "cross_stitch", "sluice", "nddr", "mmoe", "omoe", "cgc", "ple", "dselect_k", "ltb"]
PIECEWISE = [
    pt.embedding.Piecewise(6, 5, linear=linear, activation=activation)
    for linear in (False, True)
    for activation in (False, True)
]
PERIODIC = [
    pt.embedding.Periodic(6, 5, scale=0.3),
    pt.embedding.Periodic(6, 5, scale=0.3, activation=False),
    pt.embedding.Periodic(6, 5, scale=0.3, lite=True),
]


def make(embed, sharing="hard", encoder=None, tasks=None, inputs=None, **more):
    inputs = pt.Inputs(numeric=8, embed=embed) if inputs is None else inputs
    encoder = pt.encoder.MLP([16]) if encoder is None else encoder
    tasks = make_tasks() if tasks is None else tasks
    return pt.MultiTaskModel(inputs, tasks=tasks, encoder=encoder, sharing=sharing, seed=3, **more)


def uneven(rows=160):
    """Rows of which some features have few values, and one a single value."""
    data = Data(rows)
    data.x[:, 3] = data.x[:, 3] > 0
    data.x[:, 4] = np.round(data.x[:, 4])
    data.x[:, 5] = 7
    return data


def published(model):
    """The published embeddings with the parameters of a model."""
    own = {
        name.removeprefix("embedding.numeric."): torch.from_numpy(array.copy())
        for name, array in model.state_dict().items()
        if name.startswith("embedding.numeric.")
    }
    embed = model.inputs.embed
    if isinstance(embed, pt.embedding.Piecewise):
        bins = [edges.unique() for edges in own["edges"]]
        version = "B" if embed.linear else "A"
        module = rtdl.PiecewiseLinearEmbeddings(bins, embed.width, activation=embed.activation, version=version)
        weight = own["weight"]
        for f, edges in enumerate(bins):
            # Theirs have the last bin at the end.
            last = len(edges) - 2
            weight[f, -1] = weight[f, last].clone()
            weight[f, last:-1] = 0
        module.linear.weight.data = weight
        if embed.linear:
            module.linear0.weight.data, module.linear0.bias.data = own["slope"], own["bias"]
        else:
            module.linear.bias.data = own["bias"]
        return module
    module = rtdl.PeriodicEmbeddings(
        8, embed.width, n_frequencies=embed.frequencies, frequency_init_scale=embed.scale,
        activation=embed.activation, lite=embed.lite,
    )  # fmt: skip
    module.periodic.weight.data = own["frequencies"]
    if embed.lite:
        module.linear.weight.data, module.linear.bias.data = own["weight"], own["bias"]
    else:
        module.linear.weight.data = torch.stack([own[f"{f}.weight"].T for f in range(8)])
        module.linear.bias.data = torch.stack([own[f"{f}.bias"] for f in range(8)])
    return module


def network(model):
    """The published embeddings before plain layers, with the parameters of a model."""
    own = {name: torch.from_numpy(array.copy()) for name, array in model.state_dict().items()}
    layers = {}
    for path in ("encoder.0", "heads.income", "heads.age"):
        weight = own[f"{path}.weight"]
        layers[path.replace(".", "_")] = layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.weight.data, layer.bias.data = weight, own[f"{path}.bias"]
    return nn.ModuleDict({"embedding": published(model), **layers})


def outputs(module, x):
    h = module["encoder_0"](module["embedding"](x).flatten(1)).relu()
    return {name: module[f"heads_{name}"](h) for name in ("income", "age")}


@needs_package
@pytest.mark.parametrize("embed", PIECEWISE + PERIODIC, ids=repr)
@pytest.mark.usefixtures("own_seed")
def test_they_are_the_published_ones(data, embed):
    tasks = [pt.Task("income", classes=2), pt.Task("age")]
    model = make(embed, tasks=tasks)
    trainer = pt.Trainer(model, optimizer=pt.optim.SGD(lr=0.1, momentum=0.9), seed=0)
    y = {"income": data.income, "age": data.age}
    # Weights of bins move from where they begin at 0, and edges are learned.
    trainer.fit((data.x, y), epochs=2, progress=False)
    x = np.concatenate([data.x, 3 * data.x[:20]])
    module = network(model)
    raw = outputs(module, torch.from_numpy(x))
    for name, got in model.predict(x, raw=True).items():
        expected = raw[name].detach().numpy()
        np.testing.assert_allclose(got.reshape(expected.shape), expected, atol=1e-6 * max(1, np.abs(expected).max()))
    trainer = pt.Trainer(model, optimizer=pt.optim.SGD(lr=0.05), seed=0)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    income, age = torch.from_numpy(data.income), torch.from_numpy(data.age)
    for _ in range(5):
        of_step = trainer.step((data.x, y))
        raw = outputs(module, torch.from_numpy(data.x))
        losses = [functional.cross_entropy(raw["income"], income), functional.mse_loss(raw["age"][:, 0], age)]
        assert [of_step["income/loss"], of_step["age/loss"]] == pytest.approx([x.item() for x in losses], rel=1e-5)
        optimizer.zero_grad()
        sum(losses).backward()
        optimizer.step()
    wanted = published(model).state_dict()
    for name, array in module["embedding"].state_dict().items():
        np.testing.assert_allclose(array.numpy(), wanted[name].numpy(), atol=1e-5, err_msg=name)


def test_features_of_few_values_are_the_published_ones():
    """Theirs take no feature of one value: of it ours is its linear embedding alone."""
    data = uneven()
    for linear in (False, True):
        model = make(pt.embedding.Piecewise(6, 5, linear=linear))
        pt.Trainer(model).fit(data.whole, epochs=2, progress=False)
        state = model.state_dict()
        counts = [len(np.unique(row)) for row in state[EDGES]]
        assert counts[:4] == [6, 6, 6, 2]
        assert counts[5:] == [1, 6, 6]
        assert 2 < counts[4] < 6
        constant = state["embedding.numeric.bias"][5]
        if linear:
            constant = constant + 7 * state["embedding.numeric.slope"][5]
        module = model.to_torch()
        embedded = module.get_submodule("embedding.numeric")(torch.from_numpy(data.x)).detach().numpy()
        np.testing.assert_allclose(embedded[:, 30:36], np.tile(constant, (160, 1)), rtol=1e-6)
        # Two values are a line between their embeddings.
        first, second = (embedded[data.x[:, 3] == value][0, 18:24] for value in (0, 1))
        assert np.abs(first - second).max() > 1e-3
        found = module(torch.from_numpy(data.x))["age"].detach().numpy()
        np.testing.assert_allclose(model.predict(data.x)["age"], found, atol=1e-5)


@needs_package
def test_edges_are_those_of_the_package(data):
    x = torch.from_numpy(data.x)
    model = make(pt.embedding.Piecewise(bins=7))
    pt.Trainer(model).fit(data.whole, epochs=1, progress=False)
    for ours, theirs in zip(model.state_dict()[EDGES], rtdl.compute_bins(x, 7), strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5, atol=1e-6)
    for task, y in ((pt.Task("income", classes=2), data.income), (pt.Task("age"), data.age)):
        model = make(pt.embedding.Piecewise(bins=7, by="trees", leaf=9), tasks=[task])
        # Rows without a label do not count.
        known = np.where(np.arange(len(y)) % 4 > 0, y.astype(np.float32), np.nan)
        pt.Trainer(model).fit((data.x, known), epochs=1, progress=False)
        some = ~np.isnan(known)
        kwargs = {"min_samples_leaf": 9, "random_state": 0}
        labels = torch.from_numpy(y[some])
        theirs = rtdl.compute_bins(x[some], 7, tree_kwargs=kwargs, y=labels, regression=task.name == "age")
        ends = data.x.min(0), data.x.max(0)
        for f, (ours, of) in enumerate(zip(model.state_dict()[EDGES], theirs, strict=True)):
            # The ends are those of all rows.
            np.testing.assert_allclose(np.unique(ours)[1:-1], of.numpy()[1:-1], rtol=1e-5)
            assert ours[0] == ends[0][f]
            assert ours[-1] == ends[1][f]


def test_trees_of_several_tasks_cut_where_any_of_them_splits():
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(400, 2)).astype(np.float32)
    y = {"a": (x[:, 0] > 0.25).astype(int), "b": np.float32(x[:, 0] > 0.75), "c": np.full(400, np.nan, np.float32)}
    tasks = [pt.Task("a", classes=2), pt.Task("b"), pt.Task("c")]

    def edges(bins):
        inputs = pt.Inputs(numeric=2, embed=pt.embedding.Piecewise(bins=bins, by="trees", leaf=20))
        model = make(None, tasks=tasks, inputs=inputs)
        pt.Trainer(model).fit((x, y), epochs=1, progress=False)
        return model.state_dict()[EDGES][0]

    inner = np.unique(edges(6))[1:-1]
    assert any(abs(edge - 0.25) < 0.01 for edge in inner)
    assert any(abs(edge - 0.75) < 0.01 for edge in inner)
    # Of more splits than there is room for some.
    few = edges(2)
    assert len(few) == 3
    assert few[1] in inner


def test_trees_need_scikit_learn(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.tree", None)
    model = make(pt.embedding.Piecewise(by="trees"))
    before = model.state_dict()
    with pytest.raises(ImportError, match=r'by="trees".* needs scikit-learn: pip install scikit-learn'):
        pt.Trainer(model).fit(data.whole, epochs=1, progress=False)
    assert same_bits(before, model.state_dict())


@pytest.mark.parametrize("embed", [pt.embedding.Piecewise(4, 6), pt.embedding.Periodic(4, 6, raw=True)], ids=["p", "w"])
@pytest.mark.parametrize("sharing", SCHEMES)
def test_every_scheme_takes_them(data, sharing, embed):
    for encoder in (pt.encoder.MLP([8, 8]), pt.encoder.Residual(8), pt.encoder.TabM([8], members=3)):
        if sharing in ("cross_stitch", "sluice", "nddr", "ltb") and not isinstance(encoder, pt.encoder.MLP):
            continue
        model = make(embed, sharing, encoder)
        history = pt.Trainer(model, "adam").fit(data.whole, epochs=2, batch_size=40, progress=False)
        assert history[1]["loss"] < history[0]["loss"]
        shape = model.state_dict()["encoder.0.weight"].shape if sharing == "hard" and encoder.name == "mlp" else None
        assert shape in (None, (8, 32), (8, 40))


@pytest.mark.parametrize("first", ["signs", "normal"])
def test_first_scales_of_members_are_of_numbers(first):
    """As published: one for all columns of a number (start_scaling_init_chunks)."""
    inputs = pt.Inputs(numeric=8, categorical=[3, 4], embedding=5, embed=pt.embedding.Periodic(6, 5, raw=True))
    model = make(None, encoder=pt.encoder.TabM([8], members=4, first=first), inputs=inputs)
    scales = model.state_dict()["encoder.0.input.scale"]
    assert scales.shape == (4, 8 + 48 + 10)
    embedded = scales[:, 8:56].reshape(4, 8, 6)
    assert (embedded == embedded[:, :, :1]).all()
    if first == "normal":
        each = np.concatenate([scales[:, :8], embedded[:, :, 0], scales[:, 56:]], 1)
        assert len(np.unique(each)) == each.size
    else:
        assert set(np.unique(scales)) == {-1, 1}


@pytest.mark.parametrize("embed", [*PIECEWISE, *PERIODIC], ids=repr)
def test_files_copies_and_pickles_keep_them(data, embed, tmp_path):
    model = make(embed)
    trainer = pt.Trainer(model)
    trainer.fit(data.whole, epochs=1, progress=False)
    model.save(tmp_path / "model.safetensors")
    others = [
        pt.MultiTaskModel.load(tmp_path / "model.safetensors"),
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        pickle.loads(pickle.dumps(trainer)).model,
    ]
    for other in others:
        assert same_bits(model.state_dict(), other.state_dict())
        assert other.inputs.embed == embed
        np.testing.assert_array_equal(model.predict(data.x)["age"], other.predict(data.x)["age"])
        # Edges stay as they are.
        edges = other.state_dict().get(EDGES)
        pt.Trainer(other).fit((2 * data.x, data.targets), epochs=1, progress=False)
        assert edges is None or np.array_equal(edges, other.state_dict()[EDGES])


def test_a_model_from_a_file_learns_edges_as_it_was_told(data, tmp_path):
    embed = pt.embedding.Piecewise(bins=4, by="trees", leaf=10)
    model = make(embed)
    model.save(tmp_path / "model.safetensors")
    other = pt.MultiTaskModel.load(tmp_path / "model.safetensors")
    assert other.inputs.embed == embed
    assert not other.state_dict()[EDGES].any()
    for each in (model, other):
        pt.Trainer(each).fit(data.whole, epochs=1, progress=False)
    assert same_bits(model.state_dict(), other.state_dict())
    assert model.state_dict()[EDGES].any()


@pytest.mark.parametrize("embed", [PIECEWISE[-1], PERIODIC[-1]], ids=["piecewise", "periodic"])
def test_a_run_is_resumed_with_the_same_bits(data, embed, tmp_path):
    def run(epochs, **more):
        model = make(embed, encoder=pt.encoder.TabM([8], members=2))
        trainer = pt.Trainer(model, "adam", seed=1)
        history = trainer.fit(data.whole, epochs=epochs, batch_size=40, progress=False, **more)
        return model, history

    whole, expected = run(4)
    run(2, callbacks=[pt.Checkpoint(tmp_path)])
    resumed, history = run(4, callbacks=[pt.Checkpoint(tmp_path)], resume=tmp_path)
    assert same_bits(whole.state_dict(), resumed.state_dict())
    assert without_seconds(expected) == without_seconds(history)


def test_networks_beside_each_other_have_the_same_edges(data):
    model = make(PIECEWISE[-1])
    trainer = pt.Trainer(model)
    trainer.fit(data.whole, epochs=1, progress=False, seeds=2)
    first, second = (each.state_dict() for each in trainer.ensemble)
    assert np.array_equal(first[EDGES], second[EDGES])
    assert first[EDGES].any()
    assert not np.array_equal(first["encoder.0.weight"], second["encoder.0.weight"])
    more = model.add_task(pt.Task("more"))
    assert np.array_equal(more.state_dict()[EDGES], first[EDGES])


def test_averages_of_steps_keep_edges(data):
    ema = pt.EMA(0.9)
    model = make(PIECEWISE[-1])
    pt.Trainer(model, callbacks=[ema]).fit(data.whole, epochs=2, batch_size=40, progress=False)
    assert np.array_equal(ema.model.state_dict()[EDGES], model.state_dict()[EDGES])


def test_a_frame_with_missing_numbers_and_categories():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=200), "b": rng.integers(0, 3, 200), "c": rng.choice(["x", "y"], 200)})
    frame.loc[::5, "a"] = np.nan
    frame["y"] = frame["a"].fillna(2) + frame["b"]
    inputs = pt.Inputs.from_frame(frame, categorical=["c"], indicators=True, embed="piecewise")
    model = pt.MultiTaskModel(inputs, tasks=[pt.Task("y")], encoder=pt.encoder.MLP([16]))
    assert model.inputs.numeric == 3
    assert model.inputs.embed == pt.embedding.Piecewise()
    pt.Trainer(model, "adam").fit(frame, epochs=3, batch_size=50, progress=False)
    edges = model.state_dict()[EDGES]
    # The target is left out; the last is where `a` is missing.
    assert edges.shape == (3, 49)
    assert np.unique(edges[2]).tolist() == [0, 1]
    assert np.isfinite(model.predict(frame)["y"]).all()
    assert model.state_dict()["encoder.0.weight"].shape[1] == 3 * 16 + model.state_dict()["embedding.0.weight"].shape[1]


def test_edges_may_be_given(data):
    given = [np.linspace(-1, 1, 3 + f % 2) for f in range(8)]
    model = make(pt.embedding.Piecewise(4, given))
    edges = model.state_dict()[EDGES]
    np.testing.assert_allclose(edges[0], [-1, 0, 1, 1])
    trainer = pt.Trainer(model)
    trainer.step(data.whole)
    trainer.fit(data.whole, epochs=1, progress=False)
    for other in (model, copy.deepcopy(model), model.remove_task("age")):
        assert np.array_equal(other.state_dict()[EDGES], edges)


def test_steps_need_edges(data):
    model = make(pt.embedding.Piecewise(4, 5))
    trainer = pt.Trainer(model)
    with pytest.raises(ValueError, match="edges of bins are not known, which `fit` learns"):
        trainer.step(data.whole)
    assert np.isfinite(model.predict(data.x)["age"]).all()
    with pytest.raises(ValueError, match="`data` can be read only once, and edges of bins"):
        trainer.fit(iter([data.whole]), epochs=1, progress=False)
    trainer.fit([data.whole, data.whole], epochs=1, progress=False)
    batches = model.state_dict()[EDGES]
    other = make(pt.embedding.Piecewise(4, 5))
    pt.Trainer(other).fit(data.whole, epochs=1, progress=False)
    np.testing.assert_allclose(batches, other.state_dict()[EDGES], atol=0.1)
    trainer.step(data.whole)


def test_edges_of_a_refused_call_are_forgotten(data, monkeypatch):
    model = make(pt.embedding.Piecewise(4, 5))
    trainer = pt.Trainer(model)
    learned = []

    def refuse(*_):
        learned.append(model.state_dict()[EDGES].any())
        raise RuntimeError("refused")

    monkeypatch.setattr("polytask.training.trainer.Loop", refuse)
    with pytest.raises(RuntimeError, match="refused"):
        trainer.fit(data.whole, epochs=1, progress=False)
    assert learned == [True]
    assert not model.state_dict()[EDGES].any()


@pytest.mark.parametrize("embed", [*PIECEWISE, *PERIODIC, pt.embedding.Periodic(5, 4, raw=True)], ids=repr)
def test_the_module_of_torch_computes_the_same(embed):
    data = uneven()
    model = make(embed, tasks=make_tasks())
    pt.Trainer(model, "adam").fit(data.whole, epochs=2, batch_size=40, progress=False)
    x = np.concatenate([data.x, 4 * data.x])
    expected = model.predict(x)
    module = model.to_torch()
    given = torch.from_numpy(x)
    for name, got in module(given).items():
        np.testing.assert_allclose(got.detach().numpy(), expected[name], atol=1e-5)
    assert {name for name, _ in module.named_parameters()} | {name for name, _ in module.named_buffers()} == set(
        model.state_dict()
    )
    inner = given.clone().requires_grad_()
    sum(each.sum() for each in module(inner).values()).backward()
    assert inner.grad.abs().sum() > 0


@pytest.mark.parametrize("weighting", ["equal", "upgrad"])
@pytest.mark.parametrize("embed", [*PIECEWISE, *PERIODIC], ids=repr)
@pytest.mark.parametrize("where", ["formulas", *(["cuda:0"] if torch.cuda.is_available() else [])])
def test_loops_and_formulas_agree(where, embed, weighting):
    data = uneven()
    states = []
    for each in ("loops", where):
        model = make(embed)
        model._core.to(each)
        trainer = pt.Trainer(model, pt.optim.SGD(lr=0.02), weighting=weighting)
        trainer.fit(data.whole, epochs=2, batch_size=40, progress=False)
        states.append({**model.state_dict(), **model.predict(data.x)})
    for name, array in states[0].items():
        np.testing.assert_allclose(array, states[1][name], atol=1e-5, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pt.embedding.Piecewise(0), "`width` should be a whole number of at least 1; got 0"),
        (lambda: pt.embedding.Piecewise(bins=0), "`bins` should be a whole number of at least 1; got 0"),
        (lambda: pt.embedding.Piecewise(bins="many"), "`bins` should be a whole number"),
        (lambda: pt.embedding.Piecewise(bins=[[0, 1], [1, 1]]), "edges of feature 1 should rise; got"),
        (lambda: pt.embedding.Piecewise(bins=[[0]]), "edges of feature 0 should be at least two finite numbers"),
        (lambda: pt.embedding.Piecewise(bins=[[0, np.nan]]), "edges of feature 0 should be at least two finite"),
        (lambda: pt.embedding.Piecewise(by="tree"), "unknown source of edges 'tree'"),
        (lambda: pt.embedding.Piecewise(linear="no"), "`linear` should be True or False; got 'no'"),
        (lambda: pt.embedding.Piecewise(leaf=0), "`leaf` should be a whole number of at least 1"),
        (lambda: pt.embedding.Periodic(frequencies=0), "`frequencies` should be a whole number of at least 1"),
        (lambda: pt.embedding.Periodic(scale=0), "`scale` should be a number above 0; got 0"),
        (lambda: pt.embedding.Periodic(scale="1"), "`scale` should be a number above 0; got '1'"),
        (lambda: pt.embedding.Periodic(lite=True, activation=False), "`lite` should come with the activation"),
        (lambda: pt.Inputs(3, embed="picewise"), "unknown embedding 'picewise'"),
        (lambda: pt.Inputs(3, embed=16), "`embed` should be pt.embedding.Piecewise, pt.embedding.Periodic or None"),
        (lambda: pt.Inputs(categorical=[3], embed="periodic"), "`embed` is for numeric features"),
        (lambda: pt.Inputs(3, embed=pt.embedding.Piecewise(bins=[[0, 1]])), "edges for each of 3 numeric features"),
        (lambda: pt.Inputs(positions={"t": pt.Inputs(3, embed="periodic")}), "numbers of `t` are not embedded"),
        (
            lambda: pt.Inputs.from_frame(
                pd.DataFrame({"a": [1.0, 2.0]}), embed=pt.embedding.Piecewise(bins=[[0, 1]])
            ),
            "`bins` should be a number, since numbers of a frame",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(make, message):
    with pytest.raises((ValueError, TypeError)) as raised:
        make()
    assert message in str(raised.value)


@pytest.mark.parametrize("made", [
    pt.embedding.Piecewise(), pt.embedding.Piecewise(8, bins=[[0.0, 1.0]], by="trees", linear=False),
    pt.embedding.Periodic(scale=0.1, lite=True), pt.embedding.CharCNN(filters=8), pt.embedding.CharCNN(),
])  # fmt: skip
def test_they_show_what_is_not_usual(made):
    shown = repr(made)
    assert eval(f"pt.embedding.{shown}") == made
    usual = type(made)()
    named = shown.partition("(")[2].rstrip(")")
    assert (named == "") == (made == usual)
    assert all(f"{name}=" not in shown for name, value in vars(made).items() if value == vars(usual)[name])


def test_results_that_are_kept_know_embeddings_by_all_arguments():
    trainer = pt.Trainer(pt.MultiTaskModel(2, tasks=[pt.Task("a")]))
    said = Space({"embed": [None, pt.embedding.Piecewise(8)]}, trainer).describe()["embed"]
    usual = "width=8, bins=48, by='quantiles', linear=True, activation=False, leaf=64"
    assert said == ["None", f"Piecewise({usual})"]
