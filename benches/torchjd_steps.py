"""TorchJD's ways of one training step with T linear heads: the benchmark takes whichever is the fastest.

Each is written as TorchJD's documentation recommends, with the settings it calls faster, and with a fused Adam:

* `engine`: the Gramian from `autogram.Engine`, then one backward of the weighted losses. The weights reach the heads as
  well, as in TorchJD's own example: leaving the heads alone would cost another backward;
* `rows`: `autojac.mtl_backward`, all rows of the Jacobian at once (or one after the other), then `autojac.jac_to_grad`,
  with the Jacobian in one piece or a Gramian summed over parameters;
* `one head`: the same with the T heads written as one `nn.Linear`, the gradients of the features by one product, and
  `autojac.backward` from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torchjd import aggregation
from torchjd.aggregation import Aggregator, GramianWeightedAggregator
from torchjd.autogram import Engine
from torchjd.autojac import backward, jac_to_grad, mtl_backward

#: A step on features `[rows, inputs]` and labels `[rows, tasks]`; gives the losses `[tasks]`.
Step = Callable[[Tensor, Tensor], Tensor]

#: What TorchJD asks for where the paper has a default.
ARGUMENTS: dict[str, dict[str, Any]] = {"CAGrad": {"c": 0.5}, "FairGrad": {"alpha": 1.0}}


class Network(nn.Module):
    """`inputs -> width -> width`, then one linear output a task, as T layers or as one."""

    def __init__(self, inputs: int, width: int, tasks: int, one_head: bool = False) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        widths = [tasks] if one_head else [1] * tasks
        self.heads = nn.ModuleList(nn.Linear(width, out) for out in widths)
        self.optimizer = torch.optim.Adam(self.parameters(), lr=1e-3, fused=True)

    def losses(self, x: Tensor, y: Tensor) -> Tensor:
        """The tasks' mean squared errors `[tasks]`."""
        features = self.trunk(x)
        return (torch.cat([head(features) for head in self.heads], dim=1) - y).square().mean(dim=0)


def aggregator(method: str, tasks: int) -> Aggregator:
    """TorchJD's aggregator of this name."""
    arguments = {"n_tasks": tasks} if method == "NashMTL" else ARGUMENTS.get(method, {})
    return getattr(aggregation, method)(**arguments)


def ways(method: str, inputs: int, width: int, tasks: int) -> Iterator[tuple[str, Step]]:
    """Every way of training with this method, each with a network of its own."""
    from_gramian = isinstance(aggregator(method, tasks), GramianWeightedAggregator)
    for one_head in (False, True):
        name = "engine, one head" if one_head else "engine"
        if from_gramian:
            yield name, engine(Network(inputs, width, tasks, one_head), aggregator(method, tasks))
    for chunk in (None, 1):
        for summed in (False, True) if from_gramian else (False,):
            name = ("rows at once" if chunk is None else "row by row") + (", summed Gramian" if summed else "")
            yield name, rows(Network(inputs, width, tasks), aggregator(method, tasks), chunk, summed)
    for summed in (False, True) if from_gramian else (False,):
        name = "rows at once, one head" + (", summed Gramian" if summed else "")
        yield name, one_head_rows(Network(inputs, width, tasks, one_head=True), aggregator(method, tasks), summed)


def engine(network: Network, method: GramianWeightedAggregator) -> Step:
    """The Gramian without the Jacobian, then one backward."""
    engine = Engine(network.trunk, batch_dim=None)

    def step(x: Tensor, y: Tensor) -> Tensor:
        losses = network.losses(x, y)
        weights = method.gramian_weighting(engine.compute_gramian(losses))
        network.optimizer.zero_grad()
        losses.backward(weights)
        network.optimizer.step()
        return losses.detach()

    return step


def rows(network: Network, method: Aggregator, chunk: int | None, summed: bool) -> Step:
    """The Jacobian, then what the method makes of it."""
    shared = list(network.trunk.parameters())
    own = [list(head.parameters()) for head in network.heads]
    options = {"optimize_gramian_computation": True} if summed else {}

    def step(x: Tensor, y: Tensor) -> Tensor:
        features = network.trunk(x)
        losses = [mse_loss(head(features), y[:, k : k + 1]) for k, head in enumerate(network.heads)]
        network.optimizer.zero_grad()
        mtl_backward(losses, features, tasks_params=own, shared_params=shared, parallel_chunk_size=chunk)
        jac_to_grad(shared, method, **options)
        network.optimizer.step()
        return torch.stack([loss.detach() for loss in losses])

    return step


def one_head_rows(network: Network, method: Aggregator, summed: bool) -> Step:
    """The Jacobian from the features' gradients `[tasks, rows, width]`, which one layer's outer products give."""
    shared = list(network.trunk.parameters())
    (head,) = network.heads
    options = {"optimize_gramian_computation": True} if summed else {}

    def step(x: Tensor, y: Tensor) -> Tensor:
        features = network.trunk(x)
        outputs = head(features.detach()).requires_grad_()
        losses = (outputs - y).square().mean(dim=0)
        network.optimizer.zero_grad()
        outputs.retain_grad()
        losses.sum().backward()
        arriving = outputs.grad.t().unsqueeze(2) * head.weight.detach().unsqueeze(1)
        backward([features], jac_tensors=[arriving], inputs=shared)
        jac_to_grad(shared, method, **options)
        network.optimizer.step()
        return losses.detach()

    return step
