"""Categorical features that a network is given and does not read, those whose embedding has a width of 0."""

import numpy as np
import polytask as pt
import pytest
import torch
from conftest import same_bits

TASKS = [pt.Task("sign", classes=2), pt.Task("value")]


def data(rows=90, seed=0):
    rng = np.random.default_rng(seed)
    numeric = rng.normal(size=(rows, 2)).astype(np.float32)
    codes = rng.integers(0, [5, 7, 4], (rows, 3))
    value = numeric[:, 0] + (codes[:, 2] == 1)
    return numeric, codes, {"sign": (value > 0).astype(int), "value": value.astype(np.float32)}


def x(numeric, codes):
    return {"numeric": numeric, "categorical": codes}


def model(inputs, weighting_sharing="hard", **more):
    return pt.MultiTaskModel(inputs, tasks=TASKS, encoder=pt.encoder.MLP([6]), sharing=weighting_sharing, **more)


def both(sharing="hard", sparse=False):
    """A model that leaves the second feature unread, and one that is not given it, with the same parameters."""
    one = model(pt.Inputs(2, [5, 7, 4], embedding=[3, 0, None], sparse=[sparse, sparse, False]), sharing)
    other = model(pt.Inputs(2, [5, 4], embedding=[3, None], sparse=[sparse, False]), sharing)
    state = {name.replace("embedding.2.", "embedding.1."): value for name, value in one.state_dict().items()}
    other.load_state_dict(state)
    return one, other


def test_it_has_no_table_and_says_nothing():
    one, other = both()
    assert [name for name in one.state_dict() if "embedding" in name] == ["embedding.0.weight", "embedding.2.weight"]
    assert one.state_dict()["embedding.2.weight"].shape == (4, 3)
    numeric, codes, _ = data()
    p = one.predict(x(numeric, codes))
    assert same_bits(p, other.predict(x(numeric, codes[:, [0, 2]])))
    changed = codes.copy()
    changed[:, 1] = 6 - changed[:, 1]
    assert same_bits(p, one.predict(x(numeric, changed)))
    # It is a feature all the same.
    changed[0, 1] = 7
    with pytest.raises(ValueError, match="7"):
        one.predict(x(numeric, changed))


@pytest.mark.parametrize("where", ["loops", "formulas"])
@pytest.mark.parametrize("sharing", ["hard", "mmoe", "soft"])
@pytest.mark.parametrize("weighting", ["equal", "upgrad"])
def test_it_trains_as_without_the_feature(weighting, sharing, where):
    numeric, codes, y = data()
    models = both(sharing)
    for each, columns in zip(models, ([0, 1, 2], [0, 2]), strict=True):
        each._core.to(where)
        trainer = pt.Trainer(each, pt.optim.SGD(lr=0.1), weighting=weighting, seed=1)
        trainer.fit((x(numeric, codes[:, columns]), y), epochs=4, batch_size=30, progress=False)
    one, other = (list(each.state_dict().values()) for each in models)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_sparse_tables_beside_it():
    numeric, codes, y = data()
    models = both(sparse=True)
    for each, columns in zip(models, ([0, 1, 2], [0, 2]), strict=True):
        pt.Trainer(each, pt.optim.SGD(lr=0.1)).fit((x(numeric, codes[:, columns]), y), epochs=2, progress=False)
    one, other = (list(each.state_dict().values()) for each in models)
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_files_and_torch(tmp_path):
    one, _ = both()
    numeric, codes, _ = data()
    p = one.predict(x(numeric, codes))
    one.save(tmp_path / "m.safetensors")
    again = pt.MultiTaskModel.load(tmp_path / "m.safetensors")
    assert again.inputs.embedding == [3, 0, 3]
    assert same_bits(again.predict(x(numeric, codes)), p)
    module = one.to_torch()
    found = module(torch.from_numpy(numeric), torch.from_numpy(codes))
    np.testing.assert_allclose(found["value"].detach().numpy().reshape(-1), p["value"], rtol=1e-5, atol=1e-6)


def test_bags_of_codes():
    rows = [[1, 2], [0], [], [2, 2, 1]]
    numeric = np.ones((4, 1), np.float32)
    inputs = pt.Inputs(1, [3, pt.Bag(4, 3)], embedding=[2, 0])
    codes = np.array([[1, *row, *[-1] * (3 - len(row))] for row in rows])
    p = pt.MultiTaskModel(inputs, tasks=TASKS[1:]).predict(x(numeric, codes))["value"]
    assert np.ptp(p) == 0
    beside = pt.MultiTaskModel(pt.Inputs(1, [3, pt.Bag(4, 3)], embedding=[0, 2]), tasks=TASKS[1:])
    assert [name for name in beside.state_dict() if "embedding" in name] == ["embedding.1.weight"]
    assert np.ptp(beside.predict(x(numeric, codes))["value"]) > 0


@pytest.mark.usefixtures("own_seed")
def test_positions_and_encoders_of_ones_own():
    inner = pt.Inputs(1, [5, 6], embedding=[0, 3])
    frames = pt.MultiTaskModel(pt.Inputs(positions={"frames": inner}), tasks=[pt.Task("value")])
    rng = np.random.default_rng(0)
    numbers = [rng.normal(size=(n, 1)).astype(np.float32) for n in (3, 1)]
    codes = [rng.integers(0, 5, (n, 2)) for n in (3, 1)]
    p = frames.predict({"frames": x(numbers, codes)})["value"]
    others = [np.stack([4 - each[:, 0], each[:, 1]], 1) for each in codes]
    assert np.array_equal(frames.predict({"frames": x(numbers, others)})["value"], p)
    own = pt.MultiTaskModel(pt.Inputs(2, [5, 7], embedding=[4, 0]), tasks=TASKS, encoder=torch.nn.Linear(6, 3))
    assert own.predict(x(np.ones((2, 2), np.float32), np.zeros((2, 2), np.int64)))["value"].shape == (2,)


def test_what_is_refused():
    for wrong in (0, [0, -1], [0, 1.5]):
        with pytest.raises((ValueError, TypeError), match="`embedding`"):
            pt.Inputs(1, [3, 4], embedding=wrong)
    with pytest.raises(TypeError, match="`embedding` should be a width, or a list of one for each feature; got '3'"):
        pt.Inputs(1, [3, 4], embedding="3")
    with pytest.raises(ValueError, match="a model needs at least one feature"):
        pt.MultiTaskModel(pt.Inputs(0, [3, 4], embedding=[0, 0]), tasks=TASKS)
    with pytest.raises(ValueError, match="positions need at least one feature"):
        pt.MultiTaskModel(pt.Inputs(positions={"words": pt.Inputs(0, [3], embedding=[0])}), tasks=TASKS)
