"""The residual network for tables is that of its paper, in every scheme."""

import numpy as np
import polytask as pt
import pytest
import torch
from torch import nn
from torch.nn import functional

ROWS, FEATURES, WIDTH, HIDDEN = 40, 5, 6, 8


class Published(nn.Module):
    """As the paper writes it."""

    def __init__(self, blocks):
        super().__init__()
        self.input = nn.Linear(FEATURES, WIDTH)
        self.norms = nn.ModuleList(nn.BatchNorm1d(WIDTH) for _ in range(blocks))
        self.first = nn.ModuleList(nn.Linear(WIDTH, HIDDEN) for _ in range(blocks))
        self.second = nn.ModuleList(nn.Linear(HIDDEN, WIDTH) for _ in range(blocks))
        self.norm = nn.BatchNorm1d(WIDTH)
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, x):
        x = self.input(x)
        for norm, first, second in zip(self.norms, self.first, self.second, strict=True):
            x = x + second(torch.relu(first(norm(x))))
        return self.head(torch.relu(self.norm(x)))[:, 0]


def taken(module, state, blocks):
    """The module with the parameters of a model."""
    places = {"input": "encoder.input", "norm": "encoder.norm", "head": "heads.y"}
    for i in range(blocks):
        places |= {f"norms.{i}": f"encoder.{i}.norm", f"first.{i}": f"encoder.{i}.first"}
        places[f"second.{i}"] = f"encoder.{i}.second"
    for name, parameter in module.named_parameters():
        layer, _, part = name.rpartition(".")
        parameter.data = torch.from_numpy(state[f"{places[layer]}.{part}"].copy())
    return module


@pytest.mark.usefixtures("own_seed")
@pytest.mark.parametrize("blocks", [1, 3])
def test_it_is_that_of_the_paper(blocks):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
    y = (x[:, 0] * x[:, 1]).astype(np.float32)
    encoder = pt.encoder.Residual(WIDTH, blocks=blocks, hidden=HIDDEN, dropout=0.0)
    model = pt.MultiTaskModel(FEATURES, tasks=[pt.Task("y")], encoder=encoder, seed=1)
    module = taken(Published(blocks), model.state_dict(), blocks)
    trainer = pt.Trainer(model, optimizer=pt.optim.SGD(lr=0.05), seed=0)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    for _ in range(10):
        loss = functional.mse_loss(module(torch.from_numpy(x)), torch.from_numpy(y))
        assert trainer.step((x, y))["loss"] == pytest.approx(loss.item(), abs=1e-5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    expected = module.eval()(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(model.predict(x)["y"], expected, atol=1e-5)


@pytest.mark.parametrize("norm", ["batch", "layer", None])
@pytest.mark.parametrize("sharing", ["hard", "cross_stitch", "ple", "mmoe", "branched", "soft"])
def test_it_learns_in_schemes_and_leaves_as_a_module(sharing, norm):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, FEATURES)).astype(np.float32)
    y = {"a": (x[:, 0] > 0).astype(int), "b": x[:, 1] + x[:, 2]}
    encoder = pt.encoder.Residual(WIDTH, hidden=HIDDEN, dropout=0.1, residual_dropout=0.1, norm=norm)
    tasks = [pt.Task("a", classes=2), pt.Task("b")]
    model = pt.MultiTaskModel(FEATURES, tasks=tasks, encoder=encoder, sharing=sharing, seed=1)
    history = pt.Trainer(model, lr=0.01, weighting="upgrad", seed=0).fit(
        (x, y), epochs=8, batch_size=50, progress=False
    )
    assert history["loss"][-1] < 0.9 * history["loss"][0]
    with torch.no_grad():
        given = model.to_torch()(torch.from_numpy(x))
    for name, expected in model.predict(x).items():
        np.testing.assert_allclose(given[name].numpy(), expected, atol=1e-5)
