"""A step's cost against the size of an embedding table, in one run.

    python benches/tables.py            # 10 thousand to 10 million rows of 32 numbers, about 5 minutes
    python benches/tables.py --write    # also puts the table into docs/benchmarks.md

One table and 8 numeric features, an MLP of [256, 128], two binary tasks, batch 1024, codes uniform over the table. Each
size trains the same network on the same rows in these ways, one after the other, again and again:

* `Trainer.fit` with Adam: order of rows, gathering, losses and history included;
* the usual PyTorch loop with `nn.Embedding(sparse=True)`, `SparseAdam` for it and Adam for the rest;
* the same with a dense table and one Adam, up to a million rows.

The sizes take turns too, so that what the machine does beside meets all of them. Numbers are microseconds a step:
median, and minimum and maximum of all repetitions. The first epochs warm up: they touch rows' state for the first time.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable
from typing import Any

SIZES = [10_000, 100_000, 1_000_000, 10_000_000]
WIDTH, NUMERIC, BATCH, BATCHES = 32, 8, 1024, 50
LARGEST_DENSE = 1_000_000


def rows_of(size: int) -> tuple[Any, Any, dict[str, Any]]:
    """Numbers, codes and labels."""
    import numpy as np

    rng = np.random.default_rng(0)
    rows = BATCH * BATCHES
    labels = {f"t{j}": rng.integers(0, 2, rows).astype(np.float32) for j in range(2)}
    return rng.standard_normal((rows, NUMERIC), np.float32), rng.integers(0, size, (rows, 1)), labels


def ours(size: int) -> Callable[[], None]:
    """`Trainer.fit` for one epoch."""
    import polytask as pt

    numbers, codes, labels = rows_of(size)
    inputs = pt.Inputs(NUMERIC, [size], embedding=WIDTH, sparse=True)
    tasks = [pt.Task(name, loss="binary_cross_entropy") for name in labels]
    model = pt.MultiTaskModel(inputs, tasks=tasks, encoder=pt.encoder.MLP([256, 128]))
    trainer = pt.Trainer(model, pt.optim.Adam(lr=1e-3), seed=0)
    x = {"numeric": numbers, "categorical": codes}

    def run() -> None:
        trainer.fit((x, labels), epochs=1, batch_size=BATCH, progress=False, train_metrics=False)

    return run


def theirs(size: int, sparse: bool) -> Callable[[], None]:
    """The usual loop for one epoch."""
    import torch
    from torch import nn

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(size, WIDTH, sparse=sparse)
            self.encoder = nn.Sequential(nn.Linear(NUMERIC + WIDTH, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU())
            self.heads = nn.ModuleList(nn.Linear(128, 1) for _ in range(2))

        def forward(self, numbers: torch.Tensor, codes: torch.Tensor) -> list[torch.Tensor]:
            h = self.encoder(torch.cat([numbers, self.table(codes)], 1))
            return [head(h).squeeze(1) for head in self.heads]

    numbers, codes, labels = rows_of(size)
    xs, ks = torch.from_numpy(numbers), torch.from_numpy(codes[:, 0])
    ys = [torch.from_numpy(y) for y in labels.values()]
    network, loss_of = Network(), nn.BCEWithLogitsLoss()
    rest = [p for name, p in network.named_parameters() if not (sparse and name.startswith("table"))]
    optimizers: list[Any] = [torch.optim.Adam(rest, lr=1e-3)]
    if sparse:
        optimizers.append(torch.optim.SparseAdam([network.table.weight], lr=1e-3))

    def run() -> None:
        total = 0.0
        for index in torch.randperm(len(xs)).split(BATCH):
            outs = network(xs[index], ks[index])
            loss = sum(loss_of(out, y[index]) for out, y in zip(outs, ys, strict=True))
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
            total += loss.item()

    return run


def table(sizes: list[int], times: dict[str, list[float]]) -> str:
    """The sizes as a Markdown table."""
    ways = {"ours": "Polytask", "sparse": "PyTorch, SparseAdam", "dense": "PyTorch, dense Adam"}
    lines = [
        f"| rows of {WIDTH} | {' | '.join(ways.values())} | of the smallest | vs SparseAdam | vs dense |",
        "|--:|" + "--:|" * 6,
    ]
    median = {name: statistics.median(each) for name, each in times.items()}
    for size in sizes:
        cells = [f"{size:,}"]
        for way in ways:
            each = times.get(f"{way} {size}")
            cells.append(f"{statistics.median(each):.0f} ({min(each):.0f}-{max(each):.0f})" if each else "-")
        here = median[f"ours {size}"]
        cells.append(f"**{here / median[f'ours {sizes[0]}']:.2f}x**" + (" (aim 1.3x)" if size == 10_000_000 else ""))
        cells += [
            f"{median[f'{way} {size}'] / here:.1f}x" if f"{way} {size}" in median else "-"
            for way in ("sparse", "dense")
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Parses arguments, runs, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ours", action="store_true", help="without PyTorch's loops")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(arguments.threads)
    import torch
    from timing import ROOT, machine, measure, write

    torch.set_num_threads(arguments.threads)
    ways = {f"ours {size}": ours(size) for size in arguments.sizes}
    if not arguments.ours:
        ways |= {f"sparse {size}": theirs(size, True) for size in arguments.sizes}
        ways |= {f"dense {size}": theirs(size, False) for size in arguments.sizes if size <= LARGEST_DENSE}
    text = table(arguments.sizes, measure(ways, BATCHES, arguments.repetitions))
    text = f"{text}\n\n{arguments.threads} thread. {machine()}"
    print(text)
    if arguments.write:
        write(ROOT / "docs/benchmarks.md", text, "tables")


if __name__ == "__main__":
    main()
