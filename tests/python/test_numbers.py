"""The numbers of a model: NumPy arrays by path, and tensors where torch asks for tensors."""

import copy
import io
import pickle

import numpy as np
import polytask as pt
import pytest
import torch
from torch import nn


def model_of(seed=0, encoder=None):
    tasks = [pt.Task("a"), pt.Task("b", classes=3)]
    return pt.MultiTaskModel(4, tasks=tasks, encoder=encoder or pt.encoder.MLP([8]), seed=seed)


X = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)


@pytest.fixture(autouse=True)
def _own_draws():
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.mark.parametrize("own", [False, True])
def test_parameters_are_arrays_by_path_and_tensors_one_after_the_other(own):
    model = model_of(encoder=nn.Linear(4, 8) if own else None)
    parameters = model.parameters()
    assert list(parameters.keys()) == [path for path, _ in parameters.items()] == list(dict(parameters))
    tensors = list(parameters)
    assert all(isinstance(tensor, nn.Parameter) for tensor in tensors)
    assert [id(tensor) for tensor in tensors] == [id(tensor) for tensor in model.parameters()]
    named = dict(model.named_parameters())
    for (path, array), tensor in zip(parameters.items(), tensors, strict=True):
        assert tensor is named[path]
        assert tensor.data_ptr() == array.__array_interface__["data"][0]
    assert all(isinstance(array, np.ndarray) for array in parameters.values())
    assert isinstance(parameters["heads.a.bias"], np.ndarray)
    parameters["heads.a.bias"][:] = 7
    assert model.state_dict()["heads.a.bias"][0] == 7
    copied = copy.deepcopy(parameters)
    assert type(copied) is dict
    assert all(np.array_equal(copied[path], array) for path, array in parameters.items())


def test_an_optimizer_of_torch_takes_the_parameters():
    model = model_of()
    model.freeze("heads.b")
    before = model.state_dict()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    outputs = model(torch.from_numpy(X))
    (outputs["a"].square().mean() + outputs["b"].square().mean()).backward()
    assert nn.utils.clip_grad_norm_(model.parameters(), 0.5) > 0.5
    norm = sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None) ** 0.5
    assert norm == pytest.approx(0.5, rel=1e-4)
    optimizer.step()
    after = model.state_dict()
    still = {path for path, array in before.items() if np.array_equal(array, after[path])}
    assert still == {"heads.b.weight", "heads.b.bias"}


def test_a_saved_state_dict_is_read_by_torch_as_it_is():
    model, file = model_of(), io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    assert all(isinstance(tensor, torch.Tensor) for tensor in state.values())
    for read in (state, pickle.loads(pickle.dumps(model.state_dict()))):
        other = model_of(1)
        other.load_state_dict(read)
        assert np.array_equal(other.predict(X)["a"], model.predict(X)["a"])


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, dict])
def test_copies_of_a_state_dict_are_arrays(way):
    state = model_of().state_dict()
    copied = way(state)
    assert all(type(array) is np.ndarray for array in copied.values())
    assert (copied["heads.a.bias"] is state["heads.a.bias"]) == (way is not copy.deepcopy)


@pytest.mark.parametrize("way", [lambda module: module, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_modules_of_torch_load_what_the_model_gives(way):
    model, other = model_of(), model_of(1)
    module = way(other.to_torch())
    module.load_state_dict(model.state_dict())
    np.testing.assert_allclose(module(torch.from_numpy(X))["a"].detach(), model.predict(X)["a"], atol=1e-6)
    inside = nn.Sequential(way(other.to_torch()))
    inside.load_state_dict({f"0.{path}": array for path, array in model.state_dict().items()})
    np.testing.assert_allclose(inside[0](torch.from_numpy(X))["a"].detach(), model.predict(X)["a"], atol=1e-6)


def test_shared_parameters_that_require_no_gradient_do_not_learn():
    model = model_of()
    module = model.to_torch(share=True)
    data = (X, X[:, 0], (X[:, 1] > 0).astype(int))
    trainer = pt.Trainer(model, lr=0.1)
    trainer.step(data)
    module.get_parameter("encoder.0.weight").requires_grad_(False)
    before = model.state_dict()
    trainer.step(data)
    after = model.state_dict()
    assert {path for path in before if np.array_equal(before[path], after[path])} == {"encoder.0.weight"}
    assert model.frozen == ["encoder.0.weight"]
    assert not model.to_torch().get_parameter("encoder.0.weight").requires_grad
    module.requires_grad_(True)
    model.freeze("heads.a")
    trainer.step(data)
    now = model.state_dict()
    assert {path for path in now if np.array_equal(now[path], after[path])} == {"heads.a.weight", "heads.a.bias"}


def test_a_shared_module_that_would_keep_another_scale_is_spoken_of(caplog):
    def scaled(factor):
        model = pt.MultiTaskModel(4, tasks=[pt.Task("a", scale="standardize")], encoder=pt.encoder.MLP([8]))
        pt.Trainer(model).fit((X, X[:, 0] * factor), epochs=1, progress=False)
        return model

    model, other = scaled(1), scaled(50)
    model.start_from(other)
    assert "scale" not in caplog.text
    model = scaled(1)
    model.to_torch(share=True)
    model.start_from(other)
    assert "task `a`: what `to_torch(share=True)` gave before goes on predicting in the scale" in caplog.text
