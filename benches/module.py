"""A PyTorch module as encoder: a step of the trainer with it inside, beside the usual loop.

    python benches/module.py           # two minutes
    python benches/module.py --write   # also puts the table into docs/benchmarks.md

The same module, heads and rows: by `Trainer.fit` with the module as encoder, and by a loop of plain PyTorch with fused
Adam, in turns on one thread. Beside them the module alone, a forward and a backward from a gradient that is there; what
a step takes beyond that is everything else: the way to Python and back, heads, losses, optimizer, history. Losses of 20
steps of SGD from the same start are compared on the way.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polytask as pt
import timing
import torch
from torch import nn
from torch.nn import functional

#: Batches an epoch, epochs a turn, turns.
BATCHES, EPOCHS, TURNS = 8, 8, 21
TASKS = {"a": 2, "b": 1}


def networks() -> dict[str, tuple[nn.Module, int, int]]:
    """Modules, with numbers a row of their input and rows a batch."""

    def block(inner: int, outer: int) -> list[nn.Module]:
        return [nn.Linear(inner, outer), nn.BatchNorm1d(outer), nn.ReLU(), nn.Dropout(0.1)]

    return {
        "one layer of 20": (nn.Sequential(nn.Linear(10, 20), nn.ReLU()), 10, 32),
        "two blocks of 64": (nn.Sequential(*block(10, 64), *block(64, 64)), 10, 256),
        "three blocks of 512": (nn.Sequential(*block(64, 512), *block(512, 512), *block(512, 512)), 64, 1024),
    }


class Problem:
    """A module with two heads, and data for it."""

    def __init__(self, module: nn.Module, features: int, rows: int) -> None:
        rng = np.random.default_rng(0)
        self.module, self.features, self.rows = module, features, rows
        self.x = rng.normal(size=(rows * BATCHES, features)).astype(np.float32)
        self.data = (self.x, (self.x[:, 0] > 0).astype(np.int64), self.x[:, 1] - self.x[:, 2])

    def trainer(self, optimizer: object, weighting: str = "equal", module: nn.Module | None = None) -> pt.Trainer:
        """Ours, on one thread."""
        tasks = [pt.Task("a", classes=2, metrics=[]), pt.Task("b", metrics=[])]
        model = pt.MultiTaskModel(self.features, tasks=tasks, encoder=self.module if module is None else module)
        return pt.Trainer(model, optimizer, weighting=weighting, threads=1)

    def plain(self, model: pt.MultiTaskModel, module: nn.Module) -> tuple[nn.ModuleList, Callable[..., list[float]]]:
        """The usual loop from the same start: what it trains, and an epoch of it, which gives the losses."""
        state = model.state_dict()
        heads = nn.ModuleList(nn.Linear(state[f"heads.{name}.weight"].shape[1], n) for name, n in TASKS.items())
        for name, head in zip(TASKS, heads, strict=True):
            head.load_state_dict({key: torch.from_numpy(state[f"heads.{name}.{key}"]) for key in ("weight", "bias")})
        trunk = copy.deepcopy(module)
        x, a, b = (torch.from_numpy(array) for array in self.data)

        def epoch(optimizer: torch.optim.Optimizer, listed: bool = False) -> list[float]:
            losses = []
            for start in range(0, len(x), self.rows):
                rows = slice(start, start + self.rows)
                h = trunk(x[rows])
                loss = functional.cross_entropy(heads[0](h), a[rows])
                loss = loss + functional.mse_loss(heads[1](h)[:, 0], b[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if listed:
                    losses.append(float(loss.detach()))
            return losses

        return nn.ModuleList([trunk, *heads]), epoch

    def apart(self) -> float:
        """How far losses of 20 steps of SGD are from those of the plain loop, without dropout."""
        still = copy.deepcopy(self.module)
        for part in still.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
        trainer = self.trainer(pt.optim.SGD(lr=0.005), module=still)
        learned, epoch = self.plain(trainer.model, still)
        optimizer = torch.optim.SGD(learned.parameters(), lr=0.005)
        ours, theirs = [], []
        while len(ours) < 20:
            theirs += epoch(optimizer, listed=True)
            for start in range(0, len(self.x), self.rows):
                ours.append(trainer.step(tuple(array[start : start + self.rows] for array in self.data))["loss"])
        pairs = zip(ours[:20], theirs[:20], strict=True)
        return max(abs(a - b) / abs(b) for a, b in pairs)

    def times(self) -> dict[str, list[float]]:
        """Microseconds a step of the ways, in turns."""
        fit = {"epochs": EPOCHS, "batch_size": self.rows, "shuffle": False, "progress": False}
        ours = {name: self.trainer("adam", name) for name in ("equal", "upgrad")}
        learned, epoch = self.plain(ours["equal"].model, self.module)
        adam = torch.optim.Adam(learned.parameters(), lr=1e-3, fused=True)
        alone, x = copy.deepcopy(self.module), torch.from_numpy(self.x[: self.rows])
        along = torch.randn_like(alone(x))

        def bare() -> None:
            for _ in range(BATCHES * EPOCHS):
                torch.autograd.grad(alone(x), list(alone.parameters()), along)

        ways: dict[str, Callable[[], object]] = {
            "bare": bare,
            "plain": lambda: [epoch(adam) for _ in range(EPOCHS)],
            "equal": lambda: ours["equal"].fit(self.data, **fit),
            "upgrad": lambda: ours["upgrad"].fit(self.data, **fit),
        }
        return timing.measure(ways, BATCHES * EPOCHS, TURNS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--quick", action="store_true", help="the smallest module alone")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    lines = [
        "| module, batch (us a step) | module alone | plain loop | Polytask | of the loop | beyond the module | UPGrad "
        "| losses apart |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, (module, features, rows) in list(networks().items())[: 1 if arguments.quick else None]:
        problem = Problem(module, features, rows)
        apart = problem.apart()
        times = problem.times()
        bare, plain, equal, upgrad = (statistics.median(times[way]) for way in ("bare", "plain", "equal", "upgrad"))
        ratios = [ours / theirs for ours, theirs in zip(times["equal"], times["plain"], strict=True)]
        beyond = statistics.median(ours - alone for ours, alone in zip(times["equal"], times["bare"], strict=True))
        lines.append(
            f"| {name}, {rows} | {bare:.1f} | {plain:.1f} | {equal:.1f} | **{timing.interval(ratios)}** | {beyond:.1f} "
            f"| {upgrad:.1f} | {apart:.0e} |"
        )
        print(lines[-1], flush=True)
    text = "\n".join([timing.machine(), "", *lines])
    print(text)
    if arguments.write:
        timing.write(Path(timing.ROOT) / "docs" / "benchmarks.md", text, "module")


if __name__ == "__main__":
    main()
