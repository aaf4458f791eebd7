"""On a card: modules in our trainer, weightings in a loop of the caller's own, and a network of ours by its formulas.

    python benches/card.py                        # three minutes, on the first CUDA device
    python benches/card.py --write                # also puts the tables into docs/benchmarks.md
    python benches/card.py --device cpu --quick   # the same ways on the processor, to try them

Where there is no such device it says so and ends. Ways take turns, and each is waited for until the card has done its
work. The plain loops have fused Adam, gradients set to None, and batches from pinned memory that are sent without
waiting; "rows there" are loops over rows that lie on the card, which ours fetches to the host first. Losses are
those of 20 steps of SGD from the same start; the peak is what the allocator gave out at most beyond what it had given
before, network and optimizer included. Both sides have as many threads of the host as torch takes by itself.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import backbones
import own_loop
import polytask as pt
import timing
import torch
from torch import nn

#: Batches an epoch, steps of SGD whose losses are compared.
BATCHES, STEPS = 8, 20


class Case(NamedTuple):
    """A trunk with what it takes, rows a batch, and epochs a turn."""

    make: Callable[[], nn.Module]
    shape: Any
    rows: int
    epochs: int


def layers(*widths: int) -> nn.Sequential:
    """Linear layers with a ReLU after each."""
    pairs = itertools.pairwise(widths)
    return nn.Sequential(*(part for pair in pairs for part in (nn.Linear(*pair), nn.ReLU())))


HIDDEN = [512, 512]
MODULES = {
    "MLP 64 -> 512 -> 512, 1,024 rows": Case(lambda: layers(64, *HIDDEN), (64,), 1024, 8),
    "transformer, 256 rows of 48 tokens": Case(backbones.Transformer, ((48,), "int64"), 256, 4),
    "ResNet-18, 128 images of 32 x 32": Case(lambda: backbones.residual(64), (3, 32, 32), 128, 1),
}
BUILT_IN = {
    f"64 -> 512 -> 512, {rows:,} rows": Case(lambda: layers(64, *HIDDEN), (64,), rows, 8) for rows in (256, 8192)
}
OWN_LOOP = ["64 -> 256 -> 256, 256 rows", "ResNet of 3 blocks, 32 images"]


class Problem:
    """A case on a device: its rows, the plain loop and our trainer from the same start."""

    def __init__(self, case: Case, device: str, built_in: bool = False) -> None:
        self.case, self.device, self.built_in = case, device, built_in
        self.given = backbones.data(case.shape, case.rows * BATCHES)
        self.there = [torch.from_numpy(array).to(device) for array in self.given]

    def plain(self, there: bool = False, compiled: bool = False) -> backbones.Plain:
        """The usual loop, over rows on the host or on the card."""
        made = backbones.Plain(self.case.make, self.given, self.case.rows, self.device)
        if there:
            made.given = self.there
        elif self.device != "cpu":
            made.given = [array.pin_memory() for array in made.given]
        if compiled:
            made.objective = torch.compile(made.objective, dynamic=False)
        return made

    def trainer(self, optimizer: Callable[[Any], Any], device: str | None = None) -> pt.Trainer:
        """Ours, with the module as encoder or with an encoder of ours."""
        start = backbones.Plain(self.case.make, self.given).net
        device = self.device if device is None else device
        encoder = pt.encoder.MLP(HIDDEN) if self.built_in else None
        return backbones.ours(self.case.shape, start, optimizer, device, threads="auto", encoder=encoder)

    def plain_run(self, there: bool = False, compiled: bool = False) -> Callable[[], None]:
        """A turn of the loop."""
        plain = self.plain(there, compiled)
        adam = torch.optim.Adam(plain.net.parameters(), lr=1e-3, fused=True)

        def run() -> None:
            for _ in range(self.case.epochs):
                plain.epoch(adam)

        return run

    def our_run(self, there: bool = False, device: str | None = None) -> Callable[[], None]:
        """A turn of ours."""
        trainer = self.trainer(lambda optim: optim.Adam(lr=1e-3), device)
        fit = {**backbones.FIT, "batch_size": self.case.rows, "epochs": self.case.epochs}
        given = tuple(self.there) if there else self.given

        def run() -> None:
            trainer.fit(given, **fit)

        return run

    def apart(self) -> float:
        """How far our losses are from those of the loop at most, relative to these."""
        plain = self.plain()
        theirs = list(backbones.loop(plain, torch.optim.SGD(plain.net.parameters(), lr=1e-3, momentum=0.9), STEPS))
        trainer = self.trainer(lambda optim: optim.SGD(lr=1e-3, momentum=0.9))
        mine = backbones.steps(trainer, self.given, STEPS, self.case.rows)
        return max(abs(a - b) / abs(b) for a, b in zip(mine, theirs, strict=True))

    def times(self, ways: dict[str, Callable[[], None]], turns: int) -> dict[str, list[float]]:
        return timing.measure(ways, BATCHES * self.case.epochs, turns, self.device)

    def peak(self, make: Callable[[], Callable[[], None]]) -> str:
        """MiB of the card that a turn takes at most, what trains included."""
        if self.device == "cpu":
            return "-"
        gc.collect()
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        make()()
        timing.settle(self.device)
        return f"{(torch.cuda.max_memory_allocated(self.device) - before) / 2**20:,.0f}"


def median(times: list[float]) -> str:
    return f"{statistics.median(times):,.0f}"


def modules(device: str, quick: bool) -> Iterator[str]:
    """Modules as encoders in our trainer."""
    yield (
        "| module, batch (us a step) | plain loop | Polytask | of the loop | plain, rows there | Polytask, rows there "
        "| of the loop | losses apart | peak, MiB | peak of the loop |"
    )
    yield "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    for name, case in list(MODULES.items())[: 1 if quick else None]:
        problem = Problem(case, device)
        apart = problem.apart()
        ways = {
            "plain": problem.plain_run(),
            "ours": problem.our_run(),
            "plain there": problem.plain_run(there=True),
            "ours there": problem.our_run(there=True),
        }
        times = problem.times(ways, 3 if quick else 15)
        ways.clear()
        peaks = [problem.peak(make) for make in (problem.our_run, problem.plain_run)]
        yield (
            f"| {name} | {median(times['plain'])} | {median(times['ours'])} "
            f"| **{own_loop.ratio(times, 'ours', 'plain')}** "
            f"| {median(times['plain there'])} | {median(times['ours there'])} "
            f"| **{own_loop.ratio(times, 'ours there', 'plain there')}** | {apart:.0e} | {peaks[0]} | {peaks[1]} |"
        )


def loops(device: str, quick: bool) -> Iterator[str]:
    """Weightings in a loop of the caller's own."""
    yield from own_loop.HEADER
    for name in OWN_LOOP[: 1 if quick else None]:
        problem = own_loop.Problem(*own_loop.PROBLEMS[name], device)
        yield from own_loop.rows_of(name, problem, 0.2 if quick else 2.0)


def built_in(device: str, quick: bool) -> Iterator[str]:
    """A network of ours, by formulas on a card, beside the loop and our own loops on the processor."""
    ways_of = {"plain": "plain loop", "compiled": "torch.compile", "ours": "Polytask", "here": "Polytask, processor"}
    if quick:
        del ways_of["compiled"]
    others = [way for way in ways_of if way != "ours"]
    titles = [*ways_of.values(), *(f"of {ways_of[way]}" for way in others), "losses apart"]
    yield f"| network, batch (us a step) | {' | '.join(titles)} |"
    yield f"|---{'|--:' * len(titles)}|"
    for name, case in list(BUILT_IN.items())[: 1 if quick else None]:
        problem = Problem(case, device, built_in=True)
        apart = problem.apart()
        ways = {"plain": problem.plain_run(), "ours": problem.our_run()}
        if not quick:
            ways["compiled"] = problem.plain_run(compiled=True)
        ways["here"] = problem.our_run(device="cpu")
        times = problem.times(ways, 3 if quick else 15)
        cells = [median(times[way]) for way in ways_of]
        ratios = [f"**{own_loop.ratio(times, 'ours', way)}**" for way in others]
        yield f"| {name} | {' | '.join([*cells, *ratios])} | {apart:.0e} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="a CUDA device; cpu tries the same ways on the processor")
    parser.add_argument("--quick", action="store_true", help="the first of each table, three turns, no torch.compile")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    arguments = parser.parse_args()
    device = str(torch.device(arguments.device))
    if device != "cpu" and not torch.cuda.is_available():
        print("There is no CUDA device here: nothing is measured.")
        return
    card = "no card" if device == "cpu" else f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    lines = [f"{card}; {torch.get_num_threads()} threads of {timing.machine()}"]
    for table in (modules, loops, built_in):
        lines.append("")
        for line in table(device, arguments.quick):
            lines.append(line)
            print(line, flush=True)
    text = "\n".join(lines)
    print(lines[0])
    if arguments.write:
        timing.write(Path(timing.ROOT) / "docs" / "benchmarks.md", text, "card")


if __name__ == "__main__":
    main()
