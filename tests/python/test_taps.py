"""Tasks that read the encoder after one of its stages (`pt.Task(at="encoder.0")`)."""

import copy
import pickle

import numpy as np
import polytask as pt
import pytest
import torch
from conftest import same_bits

POSITIONS = pt.Inputs(positions={"tokens": pt.Inputs(categorical=[9], embedding=4)})


def tasks(low="encoder.0", middle=None):
    return [pt.Task("low", classes=3, at=low), pt.Task("middle", at=middle), pt.Task("high")]


def model(low="encoder.0", middle=None, **more):
    encoder = pt.encoder.MLP([6, 6, 6], activation="tanh")
    return pt.MultiTaskModel(4, tasks=tasks(low, middle), **{"encoder": encoder, "seed": 0, **more})


def data(rows=60):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 4)).astype(np.float32)
    y = {"low": rng.integers(0, 3, rows), "middle": x[:, 0] + x[:, 1], "high": np.sin(x[:, 2])}
    return x, {name: each if name == "low" else each.astype(np.float32) for name, each in y.items()}


def test_predictions_are_of_the_stage():
    made = model(middle="encoder.1")
    x, _ = data()
    state = {name: torch.tensor(p, dtype=torch.float64) for name, p in made.state_dict().items()}
    h = [torch.tensor(x, dtype=torch.float64)]
    for k in range(3):
        h.append(torch.tanh(h[-1] @ state[f"encoder.{k}.weight"].T + state[f"encoder.{k}.bias"]))
    raw = made.predict(x, raw=True)
    for name, features in zip(("low", "middle", "high"), h[1:], strict=True):
        wanted = features @ state[f"heads.{name}.weight"].T + state[f"heads.{name}.bias"]
        np.testing.assert_allclose(raw[name].reshape(60, -1), wanted, atol=1e-5)
    module = made.to_torch(raw=True)
    for name, found in module(**made.tensors(x)).items():
        np.testing.assert_allclose(found.detach().reshape(60, -1), raw[name].reshape(60, -1), atol=1e-6)
    # The last stage is the end.
    assert same_bits(model(low="encoder.2").predict(x), model(low=None).predict(x))


def test_what_nobody_reads_is_not_there():
    made = model(low="encoder.1")
    made.add_task(pt.Task("more", at="encoder.0"))
    alone = pt.MultiTaskModel(4, tasks=[pt.Task("low", at="encoder.0")], encoder=pt.encoder.MLP([6, 6, 6]))
    assert sorted(alone.state_dict()) == ["encoder.0.bias", "encoder.0.weight", "heads.low.bias", "heads.low.weight"]
    assert alone.summary().single_task == alone.summary().parameters
    summary = model(middle="encoder.1").summary()
    serving = {layer["path"]: layer["tasks"] for layer in summary.layers}
    assert [serving[f"encoder.{k}"] for k in range(3)] == ["all", "middle, high", "high"]
    # 6 * 6 + 6 of the last layer, and its head.
    assert summary.tasks == {"low": 21, "middle": 7, "high": 42 + 7}


def test_descriptions_files_and_pickles_keep_it(tmp_path):
    made = model(middle="encoder.1")
    assert repr(made.tasks[0]) == "Task('low', classes=3, at='encoder.0')"
    x, y = data()
    pt.Trainer(made).fit((x, y), epochs=1, progress=False)
    made.save(tmp_path / "m.safetensors")
    for again in (
        pt.MultiTaskModel.load(tmp_path / "m.safetensors"),
        copy.deepcopy(made),
        pickle.loads(pickle.dumps(made)),
    ):
        assert [task.at for task in again.tasks] == ["encoder.0", "encoder.1", None]
        assert same_bits(again.predict(x), made.predict(x))
    assert pickle.loads(pickle.dumps(made.tasks[0])).at == "encoder.0"
    earlier = pt.Task.__new__(pt.Task)
    state = made.tasks[2].__getstate__()
    del state["at"]
    earlier.__setstate__(state)
    assert earlier.at is None
    assert repr(earlier) == "Task('high')"


@pytest.mark.parametrize(
    "weighting", ["equal", "uncertainty", "pcgrad", "upgrad", "mgda", "cagrad", "gradnorm", "graddrop"]
)
def test_weightings_train_tapped_tasks(weighting):
    x, y = data()
    for middle in (None, "encoder.1"):
        trainer = pt.Trainer(model(middle=middle), weighting=weighting, lr=0.01)
        history = trainer.fit((x, y), epochs=8, batch_size=20, progress=False)
        assert history["high/loss"][-1] < history["high/loss"][0]


def test_a_tasks_gradient_does_not_reach_what_is_above_it():
    x, y = data()
    for scheme in ("hard", "cross_stitch"):
        made = model(sharing=scheme)
        before = made.state_dict()
        pt.Trainer(made, pt.optim.SGD(lr=0.1)).step((x, {"low": y["low"]}))
        moved = {name for name, p in made.state_dict().items() if not np.array_equal(p, before[name])}
        assert moved
        assert all(name.split(".")[-2] in ("0", "low") or "stitches.0" in name for name in moved), moved


def test_gradients_at_the_representation():
    x, y = data()
    with pytest.raises(
        ValueError, match='at="representation" needs one value through which all tasks\' gradients enter'
    ):
        pt.Trainer(model(), weighting=pt.weighting.UPGrad(at="representation")).step((x, y))
    # Where two tasks part, their gradients meet; the higher one's stages are its own.
    two = {name: y[name] for name in ("low", "high")}
    ends = []
    for at in ("representation", "shared"):
        of = [pt.Task("low", classes=3, at="encoder.0"), pt.Task("high")]
        made = pt.MultiTaskModel(4, tasks=of, encoder=pt.encoder.MLP([6, 6], activation="tanh"), seed=0)
        # What is one task's alone learns by its own gradient either way.
        trainer = pt.Trainer(made, pt.optim.SGD(lr=0.1), weighting=pt.weighting.UPGrad(at=at))
        trainer.step((x, two))
        ends.append(made.state_dict())
    for name in ("encoder.1.weight", "heads.low.weight", "heads.high.weight"):
        np.testing.assert_allclose(ends[0][name], ends[1][name], atol=1e-6)


@pytest.mark.parametrize(
    "encoder",
    [
        pt.encoder.MLP([5, 5], norm="batch", residual=True, dropout=0.1),
        pt.encoder.Residual(width=8, blocks=2),
        pt.encoder.Cross(layers=2, hidden=[8, 8]),
        pt.encoder.TabM([8, 8], members=3),
    ],
    ids=lambda encoder: encoder.name,
)
@pytest.mark.parametrize("head", ["linear", "tower"])
def test_encoders_of_every_kind(encoder, head):
    x, y = data()
    made = model(encoder=encoder, head=head)
    history = pt.Trainer(made, lr=0.02).fit((x, y), epochs=10, batch_size=20, progress=False)
    assert history["loss"][-1] < history["loss"][0]
    module = made.to_torch()
    found = module(**made.tensors(x))
    for name, wanted in made.predict(x).items():
        np.testing.assert_allclose(found[name].detach(), wanted, atol=1e-5)


@pytest.mark.parametrize(
    "encoder",
    [
        pt.encoder.Window([8, 8]),
        pt.encoder.Convolution1d([8, 8]),
        pt.encoder.Recurrent([6, 6]),
        pt.encoder.Transformer(width=8, layers=2, heads=2, dropout=0.0),
    ],
    ids=lambda encoder: encoder.name,
)
def test_a_tagger_reads_lower_than_a_task_of_texts(encoder):
    rng = np.random.default_rng(0)
    tokens = [rng.integers(0, 9, n) for n in rng.integers(1, 6, 40)]
    targets = {"tag": [row % 3 for row in tokens], "mood": np.array([int(row.sum() > 12) for row in tokens])}
    of = [pt.Task("tag", classes=3, per="tokens", at="encoder.0"), pt.Task("mood", classes=2)]
    made = pt.MultiTaskModel(POSITIONS, tasks=of, encoder=encoder, seed=0)
    trainer = pt.Trainer(made, lr=0.03, weighting="upgrad")
    history = trainer.fit(({"tokens": tokens}, targets), epochs=25, batch_size=10, progress=False)
    assert history["tag/accuracy"][-1] > 0.9
    own = next(layer for layer in made.summary().layers if layer["path"].startswith("encoder.1"))
    assert own["tasks"] == "mood"
    # A task of rows may be the lower one.
    of = [pt.Task("tag", classes=3, per="tokens"), pt.Task("mood", classes=2, at="encoder.0")]
    made = pt.MultiTaskModel(POSITIONS, tasks=of, encoder=encoder, seed=0)
    history = pt.Trainer(made, lr=0.03).fit(({"tokens": tokens}, targets), epochs=5, batch_size=10, progress=False)
    assert history["loss"][-1] < history["loss"][0]


def test_a_comparison_has_networks_of_single_tasks_that_end_there():
    x, y = data(80)
    found = pt.compare([model(), model(low=None)], (x, y), seeds=1, epochs=2, tune=[1.0], progress=False)
    assert set(found.tasks) == {"low", "middle", "high"}


def test_what_cannot_be_read_is_refused():
    for at, told in (("encoder.7", '"encoder.7"'), ("encoder.3", '"encoder.3"')):
        with pytest.raises(ValueError, match=f"task `low`: `at` should be a stage of the encoder, `encoder.0`, "
                                             f"`encoder.1`, `encoder.2`; got {told}"):  # fmt: skip
            model(low=at)
    for at in ("encoder", "encoder.first", "encoder.-1", "heads.high", ""):
        with pytest.raises(ValueError, match=r"task `low`: `at` should be a stage of the encoder, such as \"encoder"):
            model(low=at)
    with pytest.raises(TypeError, match=r'task `a`: `at` should be a stage of the encoder, such as "encoder.0"; got 1'):
        pt.Task("a", at=1)
    for scheme in ("soft", "mmoe", "cgc", "ple", "dselect_k", "ltb", "omoe"):
        told = (
            f'`at` needs a scheme that has a value of each task after each stage .*, `hard`.*`branched`; got "{scheme}"'
        )
        with pytest.raises(ValueError, match=f"task `low`: {told}"):
            model(sharing=scheme)
    branches = pt.sharing.Branched([[["low", "middle", "high"]], [["low"], ["middle", "high"]]])
    with pytest.raises(ValueError, match=r"Branched: nobody reads encoders.low.1, since `at` of `low` is before it"):
        model(sharing=branches)
