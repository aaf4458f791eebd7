"""Weightings in a loop of the caller's own: the backward to `.grad`, beside plain autograd and TorchJD.

    python benches/own_loop.py           # ten minutes
    python benches/own_loop.py --quick   # three
    python benches/own_loop.py --write   # also puts the table into docs/benchmarks.md

Eight tasks with a linear head each, one thread, the ways taking turns; each makes a forward of its own, which is not
timed. A weighting of losses (DWA) stands beside one `backward` of the summed losses, a weighting of gradients beside
the fastest of TorchJD's ways, which a short heat finds: `autojac.mtl_backward` with rows at once and one by one, each
with `jac_to_grad` as it is and with its summed Gramian, and for what weighs Gramians the `autogram` engine and one
backward.
With `at="representation"` ours looks where the tasks part, which TorchJD cannot. Beside them what the eight backwards
that any way at shared parameters needs take alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import polytask as pt
import timing
import torch
from polytask.components.standalone import Weighting
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

TASKS = 8


class Residual(nn.Module):
    """Two convolutions beside a way around them, as in a ResNet."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.way = nn.Sequential(
            nn.Conv2d(into, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(),
            nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip
        self.around = nn.Conv2d(into, out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.way(x) + self.around(x))


def mlp() -> tuple[nn.Module, tuple[int, ...], int]:
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()), (64,), 256


def resnet() -> tuple[nn.Module, tuple[int, ...], int]:
    blocks = [Residual(16, 16, 1), Residual(16, 32, 2), Residual(32, 64, 2)]
    ends = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1), *blocks, *ends), (3, 32, 32), 64


#: A trunk, and rows a batch.
PROBLEMS: dict[str, tuple[Callable[[], tuple[nn.Module, tuple[int, ...], int]], int]] = {
    "64 -> 256 -> 256, 32 rows": (mlp, 32),
    "64 -> 256 -> 256, 256 rows": (mlp, 256),
    "ResNet of 3 blocks, 32 images": (resnet, 32),
}


class Way(NamedTuple):
    """A way backward, through a network."""

    problem: Problem
    backward: Callable[[Tensor, list[Tensor]], object]


class Problem:
    """A network with its batch; each way goes backward through a forward of its own."""

    def __init__(
        self, trunk: Callable[[], tuple[nn.Module, tuple[int, ...], int]], rows: int, device: str = "cpu"
    ) -> None:
        torch.manual_seed(0)
        self.made_of = trunk, rows, device
        self.device = device
        self.trunk, shape, width = trunk()
        self.trunk.to(device)
        self.heads = nn.ModuleList(nn.Linear(width, 2) for _ in range(TASKS)).to(device)
        self.x = torch.randn(rows, *shape).to(device)
        self.y = [torch.randint(0, 2, (rows,)).to(device) for _ in range(TASKS)]
        self.shared = list(self.trunk.parameters())
        self.own = [list(head.parameters()) for head in self.heads]

    def forward(self) -> tuple[Tensor, list[Tensor]]:
        """The features and the losses, without gradients of before."""
        for parameter in (*self.shared, *self.heads.parameters()):
            parameter.grad = None
        features = self.trunk(self.x)
        return features, [cross_entropy(head(features), y) for head, y in zip(self.heads, self.y, strict=True)]

    def rivals(self, method: str) -> Iterator[tuple[str, Way]]:
        """TorchJD's ways."""
        from torchjd import aggregation
        from torchjd.autogram import Engine
        from torchjd.autojac import jac_to_grad, mtl_backward

        aggregator = getattr(aggregation, method)()
        from_gramian = isinstance(aggregator, aggregation.GramianWeightedAggregator)

        def rows(chunk: int | None, options: dict[str, bool]) -> Way:
            def run(features: Tensor, losses: list[Tensor]) -> None:
                mtl_backward(
                    losses, features, tasks_params=self.own, shared_params=self.shared, parallel_chunk_size=chunk
                )
                jac_to_grad(self.shared, aggregator, **options)

            return Way(self, run)

        for chunk in (None, 1):
            for options in ({}, {"optimize_gramian_computation": True}) if from_gramian else ({},):
                yield (
                    f"{'rows at once' if chunk is None else 'row by row'}{', summed Gramian' * bool(options)}",
                    rows(chunk, options),
                )
        if from_gramian and not any(isinstance(module, nn.BatchNorm2d) for module in self.trunk.modules()):
            # Its hooks slow every forward, so it has a network of its own.
            other = Problem(*self.made_of)
            engine = Engine(other.trunk, batch_dim=None)

            def by_engine(losses: list[Tensor]) -> None:
                stacked = torch.stack(losses)
                stacked.backward(aggregator.gramian_weighting(engine.compute_gramian(stacked)))

            yield "engine", Way(other, lambda _, losses: by_engine(losses))

    def ours(self, weighting: Weighting, named: bool) -> Way:
        """`polytask.torch.Balancer`, with the shared parameters named or not."""
        balancer = pt.torch.Balancer(weighting, shared=self.shared if named else None)
        return Way(self, lambda _, losses: balancer.backward(losses))

    def alone(self, features: Tensor, losses: list[Tensor]) -> None:
        """The backwards of all tasks, and nothing made of them."""
        for k, loss in enumerate(losses):
            torch.autograd.grad(loss, [*self.shared, *self.own[k]], retain_graph=k + 1 < TASKS)


def once(ways: dict[str, Way]) -> dict[str, float]:
    """Microseconds of each way's backward, in turn."""
    taken = {}
    for name, (problem, backward) in ways.items():
        features, losses = problem.forward()
        timing.settle(problem.device)
        start = time.perf_counter()
        backward(features, losses)
        timing.settle(problem.device)
        taken[name] = (time.perf_counter() - start) * 1e6
    return taken


def compare(ways: dict[str, Way], seconds: float) -> dict[str, list[float]]:
    """The same many times, but for the first two."""
    once(ways)
    one = sum(once(ways).values()) / 1e6
    turns = [once(ways) for _ in range(max(9, min(300, int(seconds / one))))]
    return {name: [turn[name] for turn in turns] for name in ways}


def ratio(times: dict[str, list[float]], one: str, other: str) -> str:
    return timing.interval([a / b for a, b in zip(times[one], times[other], strict=True)])


HEADER = ["| trunk, 8 tasks | weighting | microseconds, ours | ratio | to |", "|---|---|--:|--:|---|"]


def rows_of(name: str, problem: Problem, seconds: float) -> Iterator[str]:
    """A problem's rows of the table, so many seconds each."""

    def row(weighting: str, times: dict[str, list[float]], other: str, what: str) -> str:
        ours = f"{statistics.median(times['ours']):,.0f}"
        return f"| {name} | {weighting} | {ours} | {ratio(times, 'ours', other)} | {what} |"

    summed = Way(problem, lambda _, losses: sum(losses).backward())
    times = compare({"ours": problem.ours(pt.weighting.DWA(), False), "plain": summed}, seconds)
    yield row("DWA", times, "plain", f"one backward of the sum, {statistics.median(times['plain']):,.0f} us")
    for method in ("UPGrad", "PCGrad"):
        made = getattr(pt.weighting, method)
        rivals = dict(problem.rivals(method))
        heat = compare(rivals, seconds / 4)
        best = min(rivals, key=lambda way: statistics.median(heat[way]))
        ways = {"ours": problem.ours(made(), True), "best": rivals[best], "alone": Way(problem, problem.alone)}
        times = compare(ways, seconds)
        yield row(method, times, "best", f"TorchJD, {best}")
        yield row(method, times, "alone", f"the eight backwards alone, {statistics.median(times['alone']):,.0f} us")
        ways = {"ours": problem.ours(made(at="representation"), True), "best": rivals[best]}
        yield row(f'{method}, `at="representation"`', compare(ways, seconds), "best", f"TorchJD, {best}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer turns")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seconds = 4 if arguments.quick else 25
    lines = list(HEADER)
    for name, (trunk, rows) in PROBLEMS.items():
        for line in rows_of(name, Problem(trunk, rows), seconds):
            lines.append(line)
            print(line, flush=True)
    if arguments.write:
        text = "\n".join([timing.machine(), "", *lines])
        timing.write(Path(timing.ROOT) / "docs" / "benchmarks.md", text, "own_loop")


if __name__ == "__main__":
    main()
