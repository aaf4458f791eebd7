"""Training with each optimizer and schedule follows the same training with `torch.optim`, parameter by parameter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polytask as pt
import pytest
import torch

# Modules of torch draw their weights from its global generator.
pytestmark = pytest.mark.usefixtures("own_seed")

STEPS = 100


class Shared(torch.nn.Module):
    """The short form of `pt.MultiTaskModel`, with the same names."""

    def __init__(self, state: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.encoder = torch.nn.Sequential(torch.nn.Linear(4, 5))
        self.heads = torch.nn.ModuleDict({"task1": torch.nn.Linear(5, 2), "task2": torch.nn.Linear(5, 3)})
        self.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
        self.double()

    def loss(self, x: torch.Tensor, ys: list[torch.Tensor]) -> torch.Tensor:
        h = torch.tanh(self.encoder(x))
        losses = [
            torch.nn.functional.cross_entropy(head(h), y) for head, y in zip(self.heads.values(), ys, strict=True)
        ]
        return torch.stack(losses).sum()


def batches() -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)

    def batch() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return rng.normal(size=(16, 4)).astype("float32"), rng.integers(0, 2, 16), rng.integers(0, 3, 16)

    return [batch() for _ in range(STEPS)]


def groups(model: Shared, lr: float, weight_decay: float, heads: float | None) -> list[dict[str, Any]]:
    """Biases do not decay; the heads may have a learning rate of their own."""

    def group(name: str, parameter: torch.nn.Parameter) -> dict[str, Any]:
        rate = heads if heads is not None and name.startswith("heads") else lr
        return {"params": [parameter], "lr": rate, "weight_decay": 0.0 if name.endswith("bias") else weight_decay}

    return [group(name, parameter) for name, parameter in model.named_parameters()]


def follow(
    ours: Any,
    theirs: Callable[[Shared], torch.optim.Optimizer],
    clip_norm: float | None = None,
) -> None:
    model = pt.MultiTaskModel(input_size=4, hidden_size=5, output_sizes=[2, 3], activation="tanh", seed=3)
    reference = Shared(model.state_dict())
    optimizer = theirs(reference)
    trainer = pt.Trainer(model, ours, clip_norm=clip_norm)
    for x, *ys in batches():
        trainer.step((x, *ys))
        optimizer.zero_grad()
        reference.loss(torch.from_numpy(x).double(), [torch.from_numpy(y) for y in ys]).backward()
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(reference.parameters(), clip_norm)
        optimizer.step()
    for name, value in reference.state_dict().items():
        np.testing.assert_allclose(model.state_dict()[name], value.numpy(), rtol=1e-5, atol=1e-5, err_msg=name)


CASES = [
    (pt.optim.SGD, torch.optim.SGD, {"lr": 0.1}),
    (pt.optim.SGD, torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "dampening": 0.2, "weight_decay": 0.01}),
    (pt.optim.SGD, torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    (pt.optim.Adam, torch.optim.Adam, {"lr": 0.01}),
    (pt.optim.Adam, torch.optim.Adam, {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": 0.01}),
    (pt.optim.AdamW, torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
    (pt.optim.RMSprop, torch.optim.RMSprop, {"lr": 0.01, "weight_decay": 0.01}),
    (pt.optim.RMSprop, torch.optim.RMSprop, {"lr": 0.01, "alpha": 0.9, "momentum": 0.5, "centered": True}),
    (pt.optim.Adagrad, torch.optim.Adagrad, {"lr": 0.05, "weight_decay": 0.01}),
    (pt.optim.Adagrad, torch.optim.Adagrad, {"lr": 0.05, "lr_decay": 0.01, "initial_accumulator_value": 0.1}),
]


@pytest.mark.parametrize(("ours", "theirs", "arguments"), CASES)
def test_steps_are_those_of_torch(ours: Any, theirs: Any, arguments: dict[str, Any]) -> None:
    rest = {name: value for name, value in arguments.items() if name not in ("lr", "weight_decay")}
    decay = arguments.get("weight_decay", 0.0)
    follow(ours(**arguments), lambda model: theirs(groups(model, arguments["lr"], decay, None), **rest))


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"])
def test_defaults_are_those_of_torch(name: str) -> None:
    default = getattr(torch.optim, name)([torch.zeros(1)]).defaults

    def theirs(model: Shared) -> torch.optim.Optimizer:
        return getattr(torch.optim, name)(groups(model, default["lr"], default["weight_decay"], None))

    follow(getattr(pt.optim, name)(), theirs)


def test_groups_have_learning_rates_of_their_own() -> None:
    ours = pt.optim.AdamW(lr={"heads": 0.02, "default": 0.01}, weight_decay={"encoder": 0.1, "heads": 0.1})
    follow(ours, lambda model: torch.optim.AdamW(groups(model, 0.01, 0.1, 0.02)))


def moved(stop: str | None = None, **rates: Any) -> dict[str, np.ndarray]:
    """How far one step moves the parameters of two networks that are one batched product."""
    model = pt.MultiTaskModel(inputs=4, tasks=[pt.Task("a"), pt.Task("b")], sharing=pt.sharing.Soft(), seed=3)
    if stop is not None:
        model.freeze(stop)
    before = model.state_dict()
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(32, 4)), {task: rng.normal(size=32) for task in "ab"}
    pt.Trainer(model, pt.optim.SGD(**rates)).fit(rows, epochs=1, batch_size=32, progress=False)
    return {name: value - before[name] for name, value in model.state_dict().items()}


def test_networks_side_by_side_have_a_rate_a_decay_and_a_stop_of_their_own() -> None:
    plain = moved(lr=0.01)
    faster = moved(lr={"encoders.a": 0.03, "default": 0.01})
    decayed = moved(lr=0.01, weight_decay={"encoders.b": 0.5})
    stopped = moved(lr=0.01, stop="encoders.b")
    assert {name.split(".")[1] for name in plain if name.startswith("encoders.")} == {"a", "b"}
    for name, by in plain.items():
        assert np.abs(by).max() > 0
        of_a, of_b = name.startswith("encoders.a"), name.startswith("encoders.b")
        np.testing.assert_allclose(faster[name], 3 * by if of_a else by, rtol=1e-3, atol=1e-7, err_msg=name)
        assert (np.array_equal(decayed[name], by)) == (not of_b or name.endswith("bias")), name
        np.testing.assert_array_equal(stopped[name], 0 * by if of_b else by, err_msg=name)


@pytest.mark.parametrize("limit", [0.2, 100.0])
def test_clipping_is_that_of_torch(limit: float) -> None:
    """Also where every gradient is shorter than the limit, and stays as it is."""
    follow(pt.optim.SGD(lr=0.1), lambda model: torch.optim.SGD(model.parameters(), lr=0.1), clip_norm=limit)


def test_one_cycle_is_that_of_torch() -> None:
    model = pt.MultiTaskModel(input_size=4, hidden_size=5, output_sizes=[2, 3], activation="tanh", seed=3)
    reference = Shared(model.state_dict())
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=STEPS, cycle_momentum=False)
    x, *ys = (np.concatenate(part) for part in zip(*batches(), strict=True))
    trainer = pt.Trainer(model, pt.optim.SGD(lr=0.1), schedule=pt.schedule.OneCycle())
    trainer.fit((x, *ys), epochs=1, batch_size=16, shuffle=False, progress=False)
    for x, *ys in batches():
        optimizer.zero_grad()
        reference.loss(torch.from_numpy(x).double(), [torch.from_numpy(y) for y in ys]).backward()
        optimizer.step()
        scheduler.step()
    for name, value in reference.state_dict().items():
        np.testing.assert_allclose(model.state_dict()[name], value.numpy(), rtol=1e-5, atol=1e-5, err_msg=name)


def test_a_group_that_matches_nothing_is_named() -> None:
    model = pt.MultiTaskModel(input_size=4, hidden_size=5, output_sizes=[2, 3])
    with pytest.raises(ValueError, match='`lr`: no parameter is called "encodr"'):
        pt.Trainer(model, pt.optim.Adam(lr={"encodr": 0.1}))
