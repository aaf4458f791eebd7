"""Training steps with T linear heads of one output each, mean squared error and Adam: every way of taking them."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from functools import partial

from timing import floor, measure

BATCHES = 10
#: Seconds that one turn of one way should take.
TURN = 0.1

#: Features, width of both layers, rows of a batch.
TRUNKS = {"32 -> 64 -> 64, 64": (32, 64, 64), "64 -> 256 -> 256, 256": (64, 256, 256)}

#: Takes a number of steps.
Way = Callable[[int], None]


class Problem:
    """Random rows, and ways of training on them; a way takes a number of steps."""

    def __init__(self, trunk: str, tasks: int) -> None:
        import numpy as np
        import torch

        self.inputs, self.width, self.batch = TRUNKS[trunk]
        self.tasks = tasks
        generator = np.random.default_rng(0)
        self.x = generator.standard_normal((self.batch * BATCHES, self.inputs), dtype=np.float32)
        self.y = generator.standard_normal((self.batch * BATCHES, tasks), dtype=np.float32)
        self.xs, self.ys = torch.from_numpy(self.x), torch.from_numpy(self.y)

    def polytask(self, weighting: object) -> Way:
        """`Trainer.fit` with this weighting."""
        import polytask as pt

        tasks = [pt.Task(f"task {k}") for k in range(self.tasks)]
        model = pt.MultiTaskModel(self.inputs, tasks=tasks, encoder=pt.encoder.MLP([self.width] * 2), seed=0)
        trainer = pt.Trainer(model, lr=1e-3, weighting=weighting, seed=0)
        targets = [self.y[:, k].copy() for k in range(self.tasks)]
        options = {"batch_size": self.batch, "progress": False, "train_metrics": False}
        return lambda steps: trainer.fit((self.x, *targets), epochs=steps // BATCHES, **options) and None

    def loop(self, step: Callable[..., object]) -> Way:
        """The usual loop over rows in random order."""
        import torch

        def run(steps: int) -> None:
            for _ in range(steps // BATCHES):
                for index in torch.randperm(len(self.xs)).split(self.batch):
                    step(self.xs[index], self.ys[index])

        return run

    def eager(self) -> Way:
        """The usual PyTorch loop: one layer and one loss a head, default Adam."""
        import torch
        from torchjd_steps import Network

        network = Network(self.inputs, self.width, self.tasks)
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
        loss_of = torch.nn.MSELoss()

        def step(x: torch.Tensor, y: torch.Tensor) -> float:
            features = network.trunk(x)
            loss = sum(loss_of(head(features).squeeze(1), y[:, k]) for k, head in enumerate(network.heads))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.item()

        return self.loop(step)

    def torchjd(self, method: str) -> tuple[dict[str, Way], dict[str, str]]:
        """TorchJD's fastest way with T heads and with one, and what they are called."""
        from torchjd_steps import ways

        best: dict[str, tuple[float, str, Way]] = {}
        for name, step in ways(method, self.inputs, self.width, self.tasks):
            way = self.loop(step)
            kind = "fused" if "one head" in name else "torchjd"
            heat = (min(seconds(way, BATCHES) for _ in range(3)), name, way)
            best[kind] = min(best.get(kind, heat), heat, key=lambda each: each[0])
        return {kind: way for kind, (_, _, way) in best.items()}, {kind: name for kind, (_, name, _) in best.items()}

    def floor(self, equal: bool) -> Way:
        """The bare products of a step."""
        widths = [self.inputs, self.width, self.width, self.tasks]
        step = floor(self.batch, widths, first_gradient=False) if equal else lanes(self.batch, widths)
        return lambda steps: [step() for _ in range(steps)] and None


def lanes(rows: int, widths: list[int]) -> Callable[[], None]:
    """The products of forward, T backwards, Gramian and combination; the last layer holds the heads, one output each.

    The heads' gradients of the features are outer products and counted; biases and activations are not.
    """
    import torch

    *trunk, tasks = widths
    layers = len(trunk) - 1
    values = [torch.randn(rows, width) * 0.01 for width in widths]
    weights = [torch.randn(out, into) * 0.1 for into, out in itertools.pairwise(widths)]
    arriving = [torch.empty(rows, tasks, width) for width in trunk]
    slabs = [torch.empty(tasks, weight.numel()) for weight in weights[:layers]]
    gradients = [torch.empty(1, weight.numel()) for weight in weights[:layers]]
    head = torch.empty_like(weights[-1])
    gramian, combination = torch.empty(tasks, tasks), torch.full((1, tasks), 1 / tasks)

    @torch.no_grad()
    def step() -> None:
        for k, weight in enumerate(weights):
            torch.mm(values[k], weight.t(), out=values[k + 1])
        torch.mm(values[-1].t(), values[-2], out=head)
        torch.mul(values[-1].unsqueeze(2), weights[-1], out=arriving[-1])
        for k in reversed(range(layers)):
            flat = arriving[k + 1].view(rows, -1)
            torch.mm(flat.t(), values[k], out=slabs[k].view(-1, trunk[k]))
            if k > 0:
                torch.mm(arriving[k + 1].view(-1, trunk[k + 1]), weights[k], out=arriving[k].view(-1, trunk[k]))
        for k, slab in enumerate(slabs):
            torch.addmm(gramian, slab, slab.t(), beta=float(k > 0), out=gramian)
            torch.mm(combination, slab, out=gradients[k])

    return step


def seconds(way: Way, steps: int) -> float:
    """How long so many steps take."""
    start = time.perf_counter()
    way(steps)
    return time.perf_counter() - start


def turns(ways: dict[str, Way], repetitions: int) -> dict[str, list[float]]:
    """Microseconds a step of each way; a turn has as many steps as fill `TURN`."""
    counts = {}
    for name, way in ways.items():
        way(BATCHES)
        counts[name] = BATCHES * max(1, math.ceil(TURN / seconds(way, BATCHES)))
    times = measure({name: partial(way, counts[name]) for name, way in ways.items()}, 1, repetitions)
    return {name: [time / counts[name] for time in each] for name, each in times.items()}


def weighting(method: str, **arguments: object) -> object:
    """Polytask's weighting of this name."""
    import polytask as pt

    return getattr(pt.weighting, method)(**arguments)
