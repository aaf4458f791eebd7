"""An epoch of 64 networks of the built-in space, beside the same networks in PyTorch and beside their bare products.

    python benches/pack.py            # on two threads
    python benches/pack.py --write    # also puts the table into docs/benchmarks.md

Networks with depth, width, dropout, learning rate and decay of their own learn two tasks (a binary label; a number)
from 20,000 rows of 100 numbers, batches of 256, and predict 4,000 held-out rows: by `pt.search(ensemble="greedy")`, the
choice of the ensemble included; as batched modules of PyTorch, networks of one shape stacked, with common batches (as
TabPack trains them) and an AdamW of a rate and a decay a network; and one after another as plain modules with fused
AdamW. Ways take turns. The floor is the matrix products of the same steps, half of the networks on a thread each.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import polytask as pt
import timing
import torch
from polytask.studies import tabular
from torch import nn
from torch.nn import functional

ROWS, HELD_OUT, FEATURES, BATCH = 20_000, 4_000, 100, 256
TASKS = [pt.Task("label", loss="binary_cross_entropy", metrics=[]), pt.Task("number", metrics=[])]


def data(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers, a label and a number."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, FEATURES)).astype(np.float32)
    return x, (x[:, 0] * x[:, 1] + x[:, 2] > 0).astype(np.float32), (x[:, 3] * x[:, 4] + x[:, 5]).astype(np.float32)


def space() -> dict[str, Any]:
    """The built-in one of numbers as they are, for one kind of sharing."""
    built_in = tabular.space(pt.Trainer(pt.MultiTaskModel(FEATURES, tasks=TASKS, encoder=pt.encoder.MLP([256, 256]))))
    left_out = ("embed", "sharing", "sharing/experts")
    return {**{name: values for name, values in built_in.items() if name not in left_out}, "batch_size": [BATCH]}


class Ours:
    """Rounds of a search, whose seconds it says itself."""

    def __init__(self, trials: int) -> None:
        self._trials = trials
        self.settings: list[dict[str, Any]] = []

    def epochs(self, count: int) -> list[float]:
        """Seconds of each of so many epochs, the first of which warms up and is left out."""
        model = pt.MultiTaskModel(FEATURES, tasks=TASKS, encoder=pt.encoder.MLP([256, 256]))
        found = pt.search(model, data(ROWS, 0), space(), ensemble="greedy", trials=self._trials, epochs=count + 1,
                          validation=data(HELD_OUT, 1), progress=False)  # fmt: skip
        assert isinstance(found, pt.GreedyEnsemble)
        self.settings = [each.settings for each in found.trials]
        return [row["seconds"] for row in found.rounds[1:]]


class Stack(nn.Module):
    """Networks of one shape: stacked weights `[networks, in, out]`."""

    def __init__(self, settings: list[dict[str, Any]]) -> None:
        super().__init__()
        sizes = [FEATURES, *settings[0]["hidden"], 2]
        count = len(settings)
        self.weights = nn.ParameterList(
            [nn.Parameter(torch.randn(count, into, out) / into**0.5) for into, out in itertools.pairwise(sizes)]
        )
        self.biases = nn.ParameterList([nn.Parameter(torch.zeros(count, 1, out)) for out in sizes[1:]])

        def each(name: str) -> torch.Tensor:
            return torch.tensor([float(of[name]) for of in settings])[:, None, None]

        self.keep = 1 - each("dropout")
        self.rate, self.decay = each("lr"), each("weight_decay")
        self.drops = bool((self.keep < 1).any())
        parameters = list(self.parameters())
        self.first = [torch.zeros_like(p) for p in parameters]
        self.second = [torch.zeros_like(p) for p in parameters]
        self.steps = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value = x.expand(len(self.keep), *x.shape)
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            value = torch.baddbmm(bias, value, weight)
            if k + 1 < len(self.weights):
                value = functional.relu(value)
                if self.drops and self.training:
                    value = value * (torch.rand_like(value) < self.keep) / self.keep
        return value

    @torch.no_grad()
    def update(self) -> None:
        """AdamW with a rate and a decay a network."""
        self.steps += 1
        parameters = list(self.parameters())
        gradients = [p.grad for p in parameters]
        torch._foreach_lerp_(self.first, gradients, 0.1)
        torch._foreach_mul_(self.second, 0.999)
        torch._foreach_addcmul_(self.second, gradients, gradients, 0.001)
        roots = torch._foreach_sqrt(self.second)
        torch._foreach_mul_(roots, (1 / (1 - 0.999**self.steps)) ** 0.5)
        torch._foreach_add_(roots, 1e-8)
        moves = torch._foreach_div(self.first, roots)
        torch._foreach_mul_(moves, 1 / (1 - 0.9**self.steps))
        for parameter, move in zip(parameters, moves, strict=True):
            parameter.mul_(1 - self.rate * self.decay).sub_(move.mul_(self.rate))


def losses(out: torch.Tensor, label: torch.Tensor, number: torch.Tensor) -> torch.Tensor:
    """The sum over networks of both tasks' means."""
    label, number = label.expand(out.shape[:-1]), number.expand(out.shape[:-1])
    mean = 1 / label.shape[-1]
    both = functional.binary_cross_entropy_with_logits(out[..., 0], label, reduction="sum")
    return (both + functional.mse_loss(out[..., 1], number, reduction="sum")) * mean


def stacked(settings: list[dict[str, Any]], count: int) -> Callable[[], None]:
    """An epoch of all networks, those of one shape at once, so many at most."""
    shapes: dict[tuple[int, ...], list[dict[str, Any]]] = {}
    for each in settings:
        shapes.setdefault(tuple(each["hidden"]), []).append(each)
    packs = [Stack(of[at : at + count]) for of in shapes.values() for at in range(0, len(of), count)]
    x, label, number = map(torch.from_numpy, data(ROWS, 0))
    held_out = torch.from_numpy(data(HELD_OUT, 1)[0])

    def epoch() -> None:
        for pack in packs:
            pack.train()
            for at in torch.randperm(ROWS).split(BATCH):
                loss = losses(pack(x[at]), label[at], number[at])
                pack.zero_grad()
                loss.backward()
                pack.update()
            pack.eval()
            with torch.no_grad():
                pack(held_out)

    return epoch


def one_by_one(settings: list[dict[str, Any]]) -> Callable[[], None]:
    """An epoch of all networks, one after another."""
    networks = []
    for each in settings:
        sizes = [FEATURES, *each["hidden"]]
        layers: list[nn.Module] = []
        for into, out in itertools.pairwise(sizes):
            layers += [nn.Linear(into, out), nn.ReLU()] + [nn.Dropout(each["dropout"])] * (each["dropout"] > 0)
        network = nn.Sequential(*layers, nn.Linear(sizes[-1], 2))
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=each["lr"], weight_decay=each["weight_decay"], fused=True
        )
        networks.append((network, optimizer))
    x, label, number = map(torch.from_numpy, data(ROWS, 0))
    held_out = torch.from_numpy(data(HELD_OUT, 1)[0])

    def epoch() -> None:
        for network, optimizer in networks:
            network.train()
            for at in torch.randperm(ROWS).split(BATCH):
                loss = losses(network(x[at]), label[at], number[at])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            network.eval()
            with torch.no_grad():
                network(held_out)

    return epoch


def products(settings: list[dict[str, Any]], threads: int) -> Callable[[], None]:
    """The products of an epoch's steps, networks side by side on a thread each."""

    def run(some: list[dict[str, Any]]) -> None:
        torch.set_num_threads(1)
        for each in some:
            step = timing.floor(BATCH, [FEATURES, *each["hidden"], 2], False)
            for _ in range(-(-ROWS // BATCH)):
                step()

    def epoch() -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, [settings[at::threads] for at in range(threads)]))
        torch.set_num_threads(threads)

    return epoch


def clock(run: Callable[[], None]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def main() -> None:
    """Measures in turns and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--turns", type=int, default=5, help="at least 2")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    ours = Ours(arguments.trials)
    ours.epochs(1)
    ways = {
        "stacked, 16 at once": stacked(ours.settings, 16),
        "stacked, all of a shape at once": stacked(ours.settings, arguments.trials),
        "one after another": one_by_one(ours.settings),
        "bare products": products(ours.settings, arguments.threads),
    }
    seconds: dict[str, list[float]] = {"ours": [], **{name: [] for name in ways}}
    for turn in range(arguments.turns + 1):
        found = {"ours": statistics.median(ours.epochs(2)), **{name: clock(run) for name, run in ways.items()}}
        for name, value in found.items() if turn else ():
            seconds[name].append(value)
        print({name: round(value, 2) for name, value in found.items()}, flush=True)
    lines = [
        f"| {arguments.trials} networks, {arguments.threads} threads | seconds an epoch | over ours |",
        "|---|--:|--:|",
    ]
    for name, each in seconds.items():
        ratios = [value / own for value, own in zip(each, seconds["ours"], strict=True)]
        lines.append(f"| {name} | {statistics.median(each):.2f} | {timing.interval(ratios)} |")
    text = "\n".join([*lines, "", timing.machine()])
    print(text)
    if arguments.write:
        timing.write(timing.ROOT / "docs" / "benchmarks.md", text, "pack")


if __name__ == "__main__":
    main()
