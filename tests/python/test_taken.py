"""Inputs that nobody says: shown by an example, or said by a module of one's own."""

import numpy as np
import pandas as pd
import polytask as pt
import pytest
import torch
from conftest import same_bits
from torch import nn

ROWS = 20


@pytest.fixture(autouse=True)
def _own_draws():
    with torch.random.fork_rng(devices=[]):
        yield


def tasks():
    return [pt.Task("a"), pt.Task("b", classes=2)]


def layers(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 5))


class Wide(nn.Module):
    """Of seven numbers, which none of its layers takes alone."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.second = nn.Linear(4, 4)

    def forward(self, x):
        return self.first(x[:, :3]) + self.second(x[:, 3:])


class Cut(nn.Module):
    """Works with as many numbers as either layer takes, or more."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.second = nn.Linear(5, 4)

    def forward(self, x):
        return self.first(x[:, :3]) + nn.functional.linear(x[:, :3], self.second.weight[:, :3])


def test_a_module_of_rows_says_itself_how_many_numbers_it_takes():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 12)).astype(np.float32)
    data = (x, x[:, 0], (x[:, 1] > 0).astype(int))
    found = []
    for inputs in ({}, {"inputs": 12}):
        model = pt.MultiTaskModel(**inputs, encoder=layers(), tasks=tasks(), seed=1)
        pt.Trainer(model, lr=1e-2).fit(data, epochs=3, progress=False)
        found.append(model.state_dict())
    assert same_bits(*found)


def test_a_function_is_asked_without_drawing_for_the_model():
    found = []
    for inputs in ({}, {"inputs": 4}):
        torch.manual_seed(5)
        sharing = pt.sharing.MMoE(experts=2)
        model = pt.MultiTaskModel(**inputs, encoder=lambda: nn.Linear(4, 3), tasks=tasks(), sharing=sharing)
        found.append(model.state_dict())
    assert same_bits(*found)
    two = pt.encoder.Torch(nn.LSTM(4, 3), output=0)
    with pytest.raises(TypeError, match="the module does not say itself what it takes"):
        pt.MultiTaskModel(encoder=two, tasks=tasks())


@pytest.mark.parametrize(
    ("module", "what"),
    [
        (Wide, "the module does not say itself what it takes"),
        (Cut, "the module takes rows of 3 and of 5"),
        (lambda: nn.LazyLinear(3), "the module does not say itself what it takes"),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), "the module does not say itself what it takes"),
    ],
)
def test_a_module_that_does_not_say_it_is_refused_with_what_to_pass(module, what):
    with pytest.raises(TypeError, match=rf"`example=batch` should be features of some rows; got neither, and {what}"):
        pt.MultiTaskModel(encoder=module(), tasks=tasks())
    assert pt.MultiTaskModel(7, encoder=Wide(), tasks=tasks()).inputs.numeric == 7


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.image = nn.Conv2d(3, 4, 3)
        self.words = nn.Embedding(9, 4)

    def forward(self, image, ids, there):
        assert ids.dtype == torch.int64
        assert there.dtype == torch.bool
        return self.image(image).mean((2, 3)) + (self.words(ids) * there[..., None]).mean(1)


def test_an_example_by_name_shows_shapes_and_types():
    rng = np.random.default_rng(0)
    x = {
        "image": rng.normal(size=(ROWS, 3, 5, 5)).astype(np.float32),
        "ids": torch.as_tensor(rng.integers(0, 9, (ROWS, 6))),
        "there": rng.random((ROWS, 6)) < 0.5,
    }
    y = {"a": rng.normal(size=ROWS).astype(np.float32), "b": rng.integers(0, 2, ROWS)}
    model = pt.MultiTaskModel(encoder=Mixed(), tasks=tasks(), example={**x, **y})
    said = {"image": (3, 5, 5), "ids": (6, "int64"), "there": (6, "bool")}
    assert repr(model.inputs) == repr(pt.MultiTaskModel(said, encoder=Mixed(), tasks=tasks()).inputs)
    history = pt.Trainer(model, lr=1e-2).fit((x, y), epochs=5, progress=False)
    assert history["loss"][-1] < history["loss"][0]


def test_one_array_or_several_in_order_show_it_too():
    floats = np.zeros((4, 12), np.float32)
    assert pt.MultiTaskModel(example=floats, tasks=tasks()).inputs.numeric == 12
    assert pt.MultiTaskModel(example=torch.zeros(4, 12), encoder=layers(), tasks=tasks()).inputs.numeric == 12
    image = pt.MultiTaskModel(example=np.zeros((2, 3, 4)), encoder=nn.Flatten(), tasks=tasks())
    assert repr(image.inputs.arrays) == "{'x': (3, 4)}"
    codes = pt.MultiTaskModel(example=np.ones((2, 3), int), tasks=tasks(),
                              encoder=nn.Sequential(nn.Embedding(9, 4), nn.Flatten()))  # fmt: skip
    assert repr(codes.inputs.arrays) == "{'x': ((3,), 'int64')}"

    class Both(nn.Module):
        def forward(self, x0, x1):
            return torch.cat([x0, x1[:, None]], 1)

    both = pt.MultiTaskModel(example=(floats, floats[:, 0]), encoder=Both(), tasks=tasks())
    assert repr(both.inputs.arrays) == "{'x0': (12,), 'x1': ()}"


def test_what_is_no_example_is_refused():
    def of(example, **more):
        return pt.MultiTaskModel(example=example, tasks=tasks(), **more)

    with pytest.raises(TypeError, match=r"inputs of a frame are pt\.Inputs\.from_frame"):
        of(pd.DataFrame({"x": [1.0]}))
    with pytest.raises(TypeError, match="`inputs` are said or shown by `example`, not both"):
        of(np.zeros((2, 3)), inputs=3)
    with pytest.raises(ValueError, match="nothing but targets"):
        of({"a": np.zeros(3)})
    with pytest.raises(TypeError, match=r"`example\['x'\]` should be numbers of some rows, \[rows, \.\.\.\]; got <U1"):
        of({"x": np.array(["u"])})
    with pytest.raises(TypeError, match=r"`example` should be numbers of some rows.*; got one number"):
        of(np.float32(1))
    with pytest.raises(TypeError, match="`example` belongs to the full form"):
        pt.MultiTaskModel(3, 4, [2], example=np.zeros((2, 3)))


@pytest.mark.parametrize("encoder", [nn.Linear(8, 4), pt.encoder.Torch(nn.Linear(8, 4))])
def test_a_module_in_the_place_of_inputs_is_told_its_name(encoder):
    with pytest.raises(TypeError, match=r"got (Torch\()?Linear\(\.\.\.\)+: a module is passed by name, `encoder=`"):
        pt.MultiTaskModel(encoder, tasks=tasks())
