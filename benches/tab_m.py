"""A step of TabM, beside the `tabm` package and the bare products of its layers.

    python benches/tab_m.py             # on two threads
    python benches/tab_m.py --threads 1
    python benches/tab_m.py --write     # also puts the table into docs/benchmarks.md

The full variant of 32 members and a last layer a member, for two tasks (3 classes; a number), without dropout and with
the package's of 0.1, the same rows in the same order: by `Trainer.fit`, and by a loop of plain PyTorch around the
package's modules with fused Adam, in turns. Beside them the products of the layers alone, forward and both backwards.
Losses of 20 steps of SGD from the same start are compared on the way.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Callable

import numpy as np
import polytask as pt
import tabm
import timing
import torch
from torch import nn
from torch.nn import functional

MEMBERS, BATCHES, EPOCHS, TURNS = 32, 8, 2, 9
TASKS = {"a": 3, "b": 1}
#: Features, layers, width, rows a batch.
SIZES = [(20, 3, 64, 256), (20, 3, 256, 256), (50, 3, 512, 256)]


class Problem:
    """A network, and data for it."""

    def __init__(self, features: int, layers: int, width: int, rows: int, dropout: float) -> None:
        self.features, self.layers, self.width, self.rows, self.dropout = features, layers, width, rows, dropout
        rng = np.random.default_rng(0)
        x = rng.normal(size=(rows * BATCHES, features)).astype(np.float32)
        self.data = (x, {"a": (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 0), "b": x[:, 1] - x[:, 2]})

    def trainer(self, optimizer: object, threads: int) -> pt.Trainer:
        """Ours."""
        tasks = [pt.Task("a", classes=3, metrics=[]), pt.Task("b", metrics=[])]
        encoder = pt.encoder.TabM([self.width] * self.layers, members=MEMBERS, dropout=self.dropout)
        model = pt.MultiTaskModel(self.features, tasks=tasks, encoder=encoder)
        return pt.Trainer(model, optimizer, threads=threads)

    def plain(self, model: pt.MultiTaskModel) -> tuple[nn.Module, Callable[..., list[float]]]:
        """The package's modules from the same start, and an epoch of a loop around them, which gives the losses."""
        state = {name: torch.from_numpy(array.copy()) for name, array in model.state_dict().items()}
        backbone = tabm.make_tabm_backbone(
            d_in=self.features, n_blocks=self.layers, d_block=self.width, dropout=self.dropout, k=MEMBERS,
            arch_type="tabm", start_scaling_init="random-signs", start_scaling_init_chunks=None,
        )  # fmt: skip
        for i, block in enumerate(backbone.blocks):
            layer = block[0]
            layer.weight.data, layer.r.data = state[f"encoder.{i}.weight"], state[f"encoder.{i}.input.scale"]
            layer.s.data, layer.bias.data = state[f"encoder.{i}.output.scale"], state[f"encoder.{i}.output.bias"]
        heads = nn.ModuleDict({name: tabm.LinearEnsemble(self.width, n, k=MEMBERS) for name, n in TASKS.items()})
        for name, head in heads.items():
            head.weight.data = state[f"heads.{name}.weight"].transpose(1, 2).contiguous()
            head.bias.data = state[f"heads.{name}.bias"]
        x, labels = torch.from_numpy(self.data[0]), {k: torch.from_numpy(y) for k, y in self.data[1].items()}

        def epoch(optimizer: torch.optim.Optimizer, listed: bool = False) -> list[float]:
            losses = []
            for start in range(0, len(x), self.rows):
                rows = slice(start, start + self.rows)
                h = backbone(x[rows].unsqueeze(1).expand(-1, MEMBERS, -1))
                a = labels["a"][rows].repeat_interleave(MEMBERS)
                b = labels["b"][rows].unsqueeze(1).expand(-1, MEMBERS)
                loss = functional.cross_entropy(heads["a"](h).flatten(0, 1), a)
                loss = loss + functional.mse_loss(heads["b"](h).squeeze(2), b)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if listed:
                    losses.append(float(loss.detach()))
            return losses

        return nn.ModuleList([backbone, heads]), epoch

    def apart(self, threads: int) -> float:
        """How far losses of 20 steps of SGD are apart."""
        trainer = self.trainer(pt.optim.SGD(lr=0.02), threads)
        learned, epoch = self.plain(trainer.model)
        optimizer = torch.optim.SGD(learned.parameters(), lr=0.02)
        ours, theirs = [], []
        while len(ours) < 20:
            theirs += epoch(optimizer, listed=True)
            for start in range(0, len(self.data[0]), self.rows):
                rows = slice(start, start + self.rows)
                ours.append(trainer.step((self.data[0][rows], {k: y[rows] for k, y in self.data[1].items()}))["loss"])
        return max(abs(a - b) / abs(b) for a, b in zip(ours[:20], theirs[:20], strict=True))

    def products(self) -> Callable[[], None]:
        """Those of the layers of so many steps, into memory that is there."""
        many = self.rows * MEMBERS
        layers = []
        for inner in [self.features] + [self.width] * (self.layers - 1):
            x, w, dy = torch.randn(many, inner), torch.randn(self.width, inner), torch.randn(many, self.width)
            layers.append((x, w, dy, torch.empty_like(dy), torch.empty_like(w), torch.empty_like(x)))

        def run() -> None:
            for _ in range(BATCHES * EPOCHS):
                for x, w, dy, y, dw, dx in layers:
                    torch.mm(x, w.t(), out=y)
                    torch.mm(dy.t(), x, out=dw)
                    # Of the first layer too: scales of the features learn.
                    torch.mm(dy, w, out=dx)

        return run

    def times(self, threads: int) -> dict[str, list[float]]:
        """Microseconds a step, in turns."""
        fit = {"epochs": EPOCHS, "batch_size": self.rows, "shuffle": False, "progress": False}
        ours = self.trainer("adam", threads)
        learned, epoch = self.plain(ours.model)
        adam = torch.optim.Adam(learned.parameters(), lr=1e-3, fused=True)
        ways: dict[str, Callable[[], object]] = {
            "products": self.products(),
            "package": lambda: [epoch(adam) for _ in range(EPOCHS)],
            "ours": lambda: ours.fit(self.data, **fit),
        }
        return timing.measure(ways, BATCHES * EPOCHS, TURNS)


def main() -> None:
    """Parses arguments, measures, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--quick", action="store_true", help="the smallest network alone")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    lines = [
        f"| TabM, {MEMBERS} members, {asked.threads} threads (us a step) | products | `tabm` | Polytask "
        "| `tabm` / Polytask | Polytask / products | losses apart |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    sizes = itertools.product(SIZES[: 1 if asked.quick else None], (0.0, 0.1))
    for (features, layers, width, rows), dropout in sizes:
        problem = Problem(features, layers, width, rows, dropout)
        apart = "" if dropout else f"{problem.apart(asked.threads):.0e}"
        times = problem.times(asked.threads)
        bare, package, ours = (statistics.median(times[way]) for way in ("products", "package", "ours"))
        faster = [theirs / own for own, theirs in zip(times["ours"], times["package"], strict=True)]
        above = [own / floor for own, floor in zip(times["ours"], times["products"], strict=True)]
        lines.append(
            f"| {features} features, {layers} layers of {width}, dropout {dropout}, {rows} rows "
            f"| {bare:.0f} | {package:.0f} | {ours:.0f} "
            f"| **{timing.interval(faster)}** | {timing.interval(above)} | {apart} |"
        )
        print(lines[-1], flush=True)
    text = "\n".join([timing.machine(), "", *lines])
    print(text)
    if asked.write:
        timing.write(timing.ROOT / "docs" / "benchmarks.md", text, "tab_m")


if __name__ == "__main__":
    main()
