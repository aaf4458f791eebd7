"""A step of an MLP over embedded numbers, beside the `rtdl_num_embeddings` package before the same layers.

    python benches/number_embeddings.py             # on two threads
    python benches/number_embeddings.py --threads 1
    python benches/number_embeddings.py --write     # also puts the table into docs/benchmarks.md

Embeddings with their defaults and their `lite` form, before layers of 256 and 256 and heads of two tasks (3 classes; a
number), 256 rows a batch, the same rows in the same order: by `Trainer.fit`, and by a loop of plain PyTorch around the
package's modules and `nn.Linear` with fused Adam, in turns. Beside them the same loop without embeddings, whose first
layer is narrower, says what of a step is theirs. Losses of 20 steps of SGD from the same start are compared on the way.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Callable

import numpy as np
import polytask as pt
import rtdl_num_embeddings as rtdl
import timing
import torch
from torch import nn
from torch.nn import functional

ROWS, BATCHES, EPOCHS, TURNS, WIDTH = 256, 8, 3, 9, 256
TASKS = {"a": 3, "b": 1}
FEATURES = [12, 60]
EMBEDDINGS = {
    "piecewise-linear": pt.embedding.Piecewise(),
    "periodic": pt.embedding.Periodic(),
    "periodic, lite": pt.embedding.Periodic(lite=True),
}


class Problem:
    """A network, and data for it."""

    def __init__(self, features: int, embed: pt.embedding.Piecewise | pt.embedding.Periodic | None) -> None:
        self.features, self.embed = features, embed
        rng = np.random.default_rng(0)
        x = rng.normal(size=(ROWS * BATCHES, features)).astype(np.float32)
        self.data = (x, {"a": (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 0), "b": x[:, 1] - x[:, 2]})

    def trainer(self, optimizer: object, threads: int) -> pt.Trainer:
        """Ours, whose edges of bins are known."""
        tasks = [pt.Task("a", classes=3, metrics=[]), pt.Task("b", metrics=[])]
        inputs = pt.Inputs(numeric=self.features, embed=self.embed)
        model = pt.MultiTaskModel(inputs, tasks=tasks, encoder=pt.encoder.MLP([WIDTH, WIDTH]))
        model._learn_edges(model.reader.read(self.data))
        return pt.Trainer(model, optimizer, threads=threads)

    def plain(self, model: pt.MultiTaskModel) -> tuple[nn.Module, Callable[..., list[float]]]:
        """The package's modules from the same start, and an epoch of a loop around them, which gives the losses."""
        state = {name: torch.from_numpy(array.copy()) for name, array in model.state_dict().items()}

        def linear(path: str) -> nn.Linear:
            layer = nn.Linear(*reversed(state[f"{path}.weight"].shape))
            layer.weight.data, layer.bias.data = state[f"{path}.weight"], state[f"{path}.bias"]
            return layer

        embedding = nn.Identity() if self.embed is None else self.embedded(state)
        encoder = nn.Sequential(linear("encoder.0"), nn.ReLU(), linear("encoder.1"), nn.ReLU())
        heads = nn.ModuleDict({name: linear(f"heads.{name}") for name in TASKS})
        x, labels = torch.from_numpy(self.data[0]), {k: torch.from_numpy(y) for k, y in self.data[1].items()}

        def epoch(optimizer: torch.optim.Optimizer, listed: bool = False) -> list[float]:
            losses = []
            for start in range(0, len(x), ROWS):
                rows = slice(start, start + ROWS)
                h = encoder(embedding(x[rows]).flatten(1))
                loss = functional.cross_entropy(heads["a"](h), labels["a"][rows])
                loss = loss + functional.mse_loss(heads["b"](h).squeeze(1), labels["b"][rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if listed:
                    losses.append(float(loss.detach()))
            return losses

        return nn.ModuleList([embedding, encoder, heads]), epoch

    def embedded(self, state: dict[str, torch.Tensor]) -> nn.Module:
        """The package's module."""
        own = {name.removeprefix("embedding.numeric."): each for name, each in state.items()}
        embed = self.embed
        if isinstance(embed, pt.embedding.Piecewise):
            bins = [edges.unique() for edges in own["edges"]]
            module = rtdl.PiecewiseLinearEmbeddings(bins, embed.width, activation=embed.activation, version="B")
            module.linear.weight.data = own["weight"]
            module.linear0.weight.data, module.linear0.bias.data = own["slope"], own["bias"]
            return module
        assert embed is not None
        module = rtdl.PeriodicEmbeddings(
            self.features, embed.width, n_frequencies=embed.frequencies, lite=embed.lite, activation=embed.activation
        )
        module.periodic.weight.data = own["frequencies"]
        if embed.lite:
            module.linear.weight.data, module.linear.bias.data = own["weight"], own["bias"]
        else:
            each = range(self.features)
            module.linear.weight.data = torch.stack([own[f"{f}.weight"].T for f in each])
            module.linear.bias.data = torch.stack([own[f"{f}.bias"] for f in each])
        return module

    def apart(self, threads: int) -> float:
        """How far losses of 20 steps of SGD are apart."""
        trainer = self.trainer(pt.optim.SGD(lr=0.02), threads)
        learned, epoch = self.plain(trainer.model)
        optimizer = torch.optim.SGD(learned.parameters(), lr=0.02)
        ours, theirs = [], []
        while len(ours) < 20:
            theirs += epoch(optimizer, listed=True)
            for start in range(0, len(self.data[0]), ROWS):
                rows = slice(start, start + ROWS)
                ours.append(trainer.step((self.data[0][rows], {k: y[rows] for k, y in self.data[1].items()}))["loss"])
        return max(abs(a - b) / abs(b) for a, b in zip(ours[:20], theirs[:20], strict=True))

    def ways(self, threads: int) -> dict[str, Callable[[], object]]:
        """Ours and the package's."""
        fit = {"epochs": EPOCHS, "batch_size": ROWS, "shuffle": False, "progress": False}
        ours = self.trainer("adam", threads)
        learned, epoch = self.plain(ours.model)
        adam = torch.optim.Adam(learned.parameters(), lr=1e-3, fused=True)
        return {"package": lambda: [epoch(adam) for _ in range(EPOCHS)], "ours": lambda: ours.fit(self.data, **fit)}


def main() -> None:
    """Parses arguments, measures, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--quick", action="store_true", help="few features alone")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    lines = [
        f"| {ROWS} rows, {asked.threads} threads (us a step) | PyTorch without embeddings | `rtdl_num_embeddings` "
        "| Polytask | `rtdl_num_embeddings` / Polytask | losses apart |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for features, (name, embed) in itertools.product(FEATURES[: 1 if asked.quick else None], EMBEDDINGS.items()):
        problem = Problem(features, embed)
        apart = problem.apart(asked.threads)
        bare = {"bare": Problem(features, None).ways(asked.threads)["package"]}
        times = timing.measure({**problem.ways(asked.threads), **bare}, BATCHES * EPOCHS, TURNS)
        none, package, ours = (statistics.median(times[way]) for way in ("bare", "package", "ours"))
        faster = [theirs / own for own, theirs in zip(times["ours"], times["package"], strict=True)]
        lines.append(
            f"| {features} features, {name} | {none:.0f} | {package:.0f} | {ours:.0f} "
            f"| **{timing.interval(faster)}** | {apart:.0e} |"
        )
        print(lines[-1], flush=True)
    text = "\n".join([timing.machine(), "", *lines])
    print(text)
    if asked.write:
        timing.write(timing.ROOT / "docs" / "benchmarks.md", text, "number_embeddings")


if __name__ == "__main__":
    main()
