"""Backbones as people have them in our trainer: a residual network on images, a GRU, a transformer on token ids.

    python benches/backbones.py           # five minutes
    python benches/backbones.py --write   # also puts the table into docs/benchmarks.md

Three heads on each. By `Trainer.fit` with the module as encoder and by a loop of plain PyTorch with fused Adam, from
the same start, in turns on one thread. On the way: how far parameters are apart, of their norm, after 24 steps of SGD
with momentum, and losses of 50 steps of Adam; beside it how far the loop is from itself from a start that is the same
but for a rounding, 1e-7 of each parameter, which says how much steps blow roundings up. The peak of memory is that of
24 steps beyond what was there before, each way in a process of its own.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import timing
import torch
from torch import nn
from torch.nn import functional

#: Rows a batch, batches an epoch, turns.
ROWS, BATCHES, TURNS = 32, 6, 15


class Block(nn.Module):
    """Two convolutions beside a way past them."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.two = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(outer) for _ in range(2))
        self.past = nn.Sequential() if stride == 1 else nn.Conv2d(inner, outer, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norms[1](self.two(torch.relu(self.norms[0](self.one(x)))))
        return torch.relu(y + self.past(x))


def residual(width: int = 16) -> nn.Module:
    """Four levels of two blocks, as ResNet-18 has them, for images [3, 32, 32]."""
    levels = [
        Block(width * 2 ** max(level - (block == 0), 0), width * 2**level, 2 if level and block == 0 else 1)
        for level in range(4)
        for block in range(2)
    ]
    first = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*first, *levels, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Recurrent(nn.Module):
    """The last state of a GRU over sequences [50, 16]."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.GRU(16, 64, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.cells(x)[1][-1]


class Transformer(nn.Module):
    """The mean over tokens of two layers of attention, of ids [48]."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(1000, 64)
        self.places = nn.Parameter(torch.randn(48, 64) * 0.02)
        layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.layers(self.words(ids) + self.places).mean(1)


BACKBONES: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "residual network, images of 32 x 32": (residual, (3, 32, 32)),
    "GRU, 50 steps of 16": (Recurrent, (50, 16)),
    "transformer, 48 tokens": (Transformer, ((48,), "int64")),
}


def data(shape: Any, rows: int = ROWS * BATCHES) -> tuple[np.ndarray, ...]:
    """Inputs, and labels of a classification and two regressions."""
    rng = np.random.default_rng(0)
    typed = isinstance(shape[-1], str)
    size = (rows, *(shape[0] if typed else shape))
    x = rng.integers(0, 1000, size) if typed else rng.normal(size=size).astype(np.float32)
    y = x.reshape(rows, -1)[:, :3].astype(np.float32)
    y = (y - y.mean(0)) / y.std(0)
    return x, (y[:, 0] > 0).astype(np.int64), np.ascontiguousarray(y[:, 1]), np.ascontiguousarray(y[:, 2])


class Plain:
    """The usual loop, on a device to which each batch goes from where the rows are."""

    def __init__(
        self, make: Callable[[], nn.Module], given: tuple[np.ndarray, ...], rows: int = ROWS, device: str = "cpu"
    ) -> None:
        torch.manual_seed(0)
        trunk = make()
        with torch.no_grad():
            width = copy.deepcopy(trunk).eval()(torch.from_numpy(given[0][:2])).shape[1]
        torch.manual_seed(1)
        heads = [nn.Linear(width, outputs) for outputs in (2, 1, 1)]
        self.net = nn.ModuleList([trunk, *heads]).to(device)
        self.given = [torch.from_numpy(array) for array in given]
        self.rows, self.device = rows, device

    def objective(self, x: torch.Tensor, kind: torch.Tensor, *numbers: torch.Tensor) -> torch.Tensor:
        """The sum of the losses of a batch."""
        trunk, classifier, *regressions = self.net
        h = trunk(x)
        loss = functional.cross_entropy(classifier(h), kind)
        for head, y in zip(regressions, numbers, strict=True):
            loss = loss + functional.mse_loss(head(h)[:, 0], y)
        return loss

    def epoch(self, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
        """Goes through the rows; gives the losses of its steps."""
        losses = []
        for start in range(0, len(self.given[0]), self.rows):
            batch = slice(start, start + self.rows)
            loss = self.objective(*(array[batch].to(self.device, non_blocking=True) for array in self.given))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return losses


def tasks() -> list[Any]:
    """Those of the labels, without metrics."""
    import polytask as pt

    return [pt.Task("kind", classes=2, metrics=[]), pt.Task("one", metrics=[]), pt.Task("other", metrics=[])]


def ours(
    shape: Any,
    start: nn.ModuleList,
    optimizer: Any,
    device: str = "cpu",
    threads: int | str = 1,
    encoder: Any = None,
) -> Any:
    """A trainer from the same start, which is on the processor; with an encoder of ours, if given, for the module."""
    import polytask as pt

    trunk, *heads = (copy.deepcopy(part) for part in start)
    inputs = shape if isinstance(shape[-1], int) else {"ids": shape}
    given = tasks()
    model = pt.MultiTaskModel(inputs, tasks=given, encoder=trunk if encoder is None else encoder)
    names = {f"heads.{task.name}": head for task, head in zip(given, heads, strict=True)}
    state = {f"{at}.{name}": x.detach().numpy() for at, head in names.items() for name, x in head.named_parameters()}
    if encoder is not None:
        own = (name for name in model.state_dict() if name.startswith("encoder."))
        state.update(zip(own, (x.detach().numpy() for x in trunk.parameters()), strict=True))
    model.load_state_dict(state, strict=False)
    return pt.Trainer(model, optimizer(pt.optim), threads=threads, device=device)


FIT = {"batch_size": ROWS, "shuffle": False, "progress": False, "train_metrics": False}


def steps(trainer: Any, given: tuple[np.ndarray, ...], count: int, rows: int = ROWS) -> list[float]:
    """Losses of so many steps of ours."""
    starts = range(0, len(given[0]), rows)
    at = (slice(start, start + rows) for start in itertools.islice(itertools.cycle(starts), count))
    return [trainer.step(tuple(array[rows] for array in given))["loss"] for rows in at]


def loop(plain: Plain, optimizer: torch.optim.Optimizer, count: int) -> Iterator[float]:
    """Losses of so many steps of the loop."""
    found: list[torch.Tensor] = []
    while len(found) < count:
        found += plain.epoch(optimizer)
    return map(float, found[:count])


#: Steps of SGD, whole epochs of the loop, and of Adam.
SGD, ADAM = 24, 50


class Course(NamedTuple):
    """Parameters of the backbone after steps of SGD with momentum, and losses of steps of Adam."""

    parameters: dict[str, np.ndarray]
    losses: list[float]

    def apart(self, other: Course) -> tuple[float, float]:
        """How far parameters are from another's, of its norm, and losses at most."""
        pairs = [(self.parameters[name], theirs) for name, theirs in other.parameters.items()]
        squares = sum(float(((a - b) ** 2).sum()) for a, b in pairs)
        norm = sum(float((b**2).sum()) for _, b in pairs)
        losses = zip(self.losses, other.losses, strict=True)
        return float(np.sqrt(squares / norm)), max(abs(a - b) / abs(b) for a, b in losses)


def course_of_loop(make: Callable[[], nn.Module], given: tuple[np.ndarray, ...], off: float = 0.0) -> Course:
    """That of the loop, from a start a little off."""

    def start() -> Plain:
        plain = Plain(make, given)
        with torch.no_grad():
            for parameter in plain.net.parameters():
                parameter.mul_(1 + off)
        return plain

    plain = start()
    list(loop(plain, torch.optim.SGD(plain.net.parameters(), lr=1e-3, momentum=0.9), SGD))
    parameters = {name: p.detach().numpy() for name, p in plain.net[0].named_parameters()}
    plain = start()
    return Course(parameters, list(loop(plain, torch.optim.Adam(plain.net.parameters(), lr=1e-4), ADAM)))


def course_of_ours(make: Callable[[], nn.Module], given: tuple[np.ndarray, ...], shape: Any) -> Course:
    """Ours."""
    start = Plain(make, given).net
    trainer = ours(shape, start, lambda optim: optim.SGD(lr=1e-3, momentum=0.9))
    steps(trainer, given, SGD)
    state = trainer.model.state_dict()
    parameters = {name: state[f"encoder.{name}"] for name, _ in start[0].named_parameters()}
    return Course(parameters, steps(ours(shape, start, lambda optim: optim.Adam(lr=1e-4)), given, ADAM))


def times(make: Callable[[], nn.Module], shape: Any, turns: int) -> dict[str, list[float]]:
    """Microseconds a step of both, in turns."""
    given = data(shape)
    plain = Plain(make, given)
    trainer = ours(shape, plain.net, lambda optim: optim.Adam(lr=1e-3))
    adam = torch.optim.Adam(plain.net.parameters(), lr=1e-3, fused=True)
    ways = {"plain": lambda: plain.epoch(adam), "ours": lambda: trainer.fit(given, epochs=1, **FIT)}
    return timing.measure(ways, BATCHES, turns)


def peak(name: str, way: str) -> float:
    """MiB that 20 steps take at most beyond what was there before the network."""
    make, shape = BACKBONES[name]
    given = data(shape)
    import polytask  # noqa: F401

    plain = Plain(make, given)
    # What the first step of any network loads and makes once is neither's.
    small = Plain(lambda: nn.Flatten(), data((4,)))
    list(loop(small, torch.optim.Adam(small.net.parameters(), lr=1e-3, fused=True), 2))
    ours((4,), small.net, lambda optim: optim.Adam(lr=1e-3)).fit(data((4,)), epochs=1, **FIT)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before = _status("VmRSS")
    if way == "plain":
        list(loop(plain, torch.optim.Adam(plain.net.parameters(), lr=1e-3, fused=True), SGD))
    else:
        trainer = ours(shape, plain.net, lambda optim: optim.Adam(lr=1e-3))
        del plain
        trainer.fit(given, epochs=4, **FIT)
    return (_status("VmHWM") - before) / 1024


def _status(name: str) -> int:
    """One of Linux's numbers of this process, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def peaks(name: str) -> dict[str, float]:
    """The peaks of both, each in processes of its own."""

    def one(way: str) -> float:
        command = [sys.executable, __file__, "--peak", name, way]
        return float(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))

    return {way: statistics.median(one(way) for _ in range(3)) for way in ("plain", "ours")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--quick", action="store_true", help="the GRU alone, three turns")
    parser.add_argument("--peak", nargs=2, metavar=("BACKBONE", "WAY"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.peak:
        print(json.dumps(peak(*arguments.peak)))
        return
    lines = [
        "| backbone, 32 rows (ms a step) | plain loop | Polytask | of the loop | parameters apart | of a rounding "
        "| losses apart | of a rounding | peak, MiB | peak of the loop |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    chosen = [name for name in BACKBONES if name.startswith("GRU") or not arguments.quick]
    for name in chosen:
        make, shape = BACKBONES[name]
        given = data(shape)
        plain_course = course_of_loop(make, given)
        parameters, losses = course_of_ours(make, given, shape).apart(plain_course)
        of_rounding = course_of_loop(make, given, 1e-7).apart(plain_course)
        found = times(make, shape, 3 if arguments.quick else TURNS)
        memory = peaks(name)
        plain, mine = (statistics.median(found[way]) / 1000 for way in ("plain", "ours"))
        ratios = [a / b for a, b in zip(found["ours"], found["plain"], strict=True)]
        lines.append(
            f"| {name} | {plain:.2f} | {mine:.2f} | **{timing.interval(ratios)}** "
            f"| {parameters:.0e} | {of_rounding[0]:.0e} | {losses:.0e} | {of_rounding[1]:.0e} "
            f"| {memory['ours']:.1f} | {memory['plain']:.1f} |"
        )
        print(lines[-1], flush=True)
    text = "\n".join([timing.machine(), "", *lines])
    print(text)
    if arguments.write:
        timing.write(Path(timing.ROOT) / "docs" / "benchmarks.md", text, "backbones")


if __name__ == "__main__":
    main()
