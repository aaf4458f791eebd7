"""Training speed: Polytask's `Trainer.fit` against PyTorch, in one run.

    python benches/speed.py            # every row, about 15 minutes, most of it torch.compile
    python benches/speed.py --quick    # fewer repetitions, no torch.compile
    python benches/speed.py --write    # also puts the table into docs/benchmarks.md and README.md

Each row trains the same network on the same rows in four ways, one after the other, again and again:

* `Trainer.fit` on NumPy arrays: order of rows, gathering, losses, Adam and history included;
* the usual PyTorch loop: rows indexed by hand from tensors, one `nn.Linear` and one loss a head, default Adam;
* the same loop with model and losses under `torch.compile`;
* the floor: the bare matrix products of the step, on buffers that exist.

In the rows "with metrics" `fit` keeps its default, which is to compute the metrics of training, and the PyTorch loops
do as their users would: accuracy by objects of torchmetrics, one a head, updated each step and computed each epoch.

Numbers are microseconds a step (milliseconds an epoch for Census-Income): median, and minimum and maximum of all
repetitions. Every thread count runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from timing import ROOT, floor, machine, measure, write

BATCHES = 20


@dataclass
class Case:
    """A network of one hidden layer and linear heads."""

    name: str
    threads: int
    inputs: int
    hidden: int
    heads: list[int]
    batch: int
    wanted: tuple[float, float]
    epochs: int
    metrics: bool = False


CASES = [
    Case("10 -> 20 -> [2, 3, 4], 32", 1, 10, 20, [2, 3, 4], 32, (40, 15), 40),
    Case("10 -> 20 -> [2, 3, 4], 32", 2, 10, 20, [2, 3, 4], 32, (25, 15), 40),
    Case("10 -> 20 -> [2, 3, 4], 32, with metrics", 1, 10, 20, [2, 3, 4], 32, (0, 0), 40, metrics=True),
    Case("128 -> 256 -> 8 heads of 2, 256", 1, 128, 256, [2] * 8, 256, (4, 2.5), 10),
    Case("10 -> 20 -> [2, 3, 4], 32, with metrics", 2, 10, 20, [2, 3, 4], 32, (0, 0), 40, metrics=True),
    Case("128 -> 256 -> 40 heads of 2, 256", 2, 128, 256, [2] * 40, 256, (10, 6), 4),
    Case("512 -> 1024 -> 4 heads of 10, 1024", 2, 512, 1024, [10] * 4, 1024, (1.2, 1.0), 2),
]


@dataclass
class Row:
    """What one case gave: seconds of every repetition, by way of training."""

    name: str
    threads: int
    unit: str
    wanted: dict[str, float]
    times: dict[str, list[float]] = field(default_factory=dict)


def compare(case: Case, repetitions: int, compiled: bool) -> Row:
    """All four ways for one case."""
    import numpy as np
    import polytask as pt
    import torch
    from torch import nn
    from torchmetrics.classification import MulticlassAccuracy

    rows = case.batch * BATCHES
    generator = np.random.default_rng(0)
    x = generator.standard_normal((rows, case.inputs), dtype=np.float32)
    targets = [generator.integers(0, width, rows) for width in case.heads]
    model = pt.MultiTaskModel(input_size=case.inputs, hidden_size=case.hidden, output_sizes=case.heads, seed=0)
    trainer = pt.Trainer(model, lr=1e-3, seed=0)

    def ours() -> None:
        how = {"epochs": case.epochs, "batch_size": case.batch, "progress": False, "train_metrics": case.metrics}
        trainer.fit((x, *targets), **how)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Linear(case.inputs, case.hidden)
            self.heads = nn.ModuleList(nn.Linear(case.hidden, width) for width in case.heads)

        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            h = torch.relu(self.encoder(x))
            return [head(h) for head in self.heads]

    loss_of = nn.CrossEntropyLoss()
    xs, ys = torch.from_numpy(x), [torch.from_numpy(y) for y in targets]

    def loop(network: nn.Module, objective: Callable[..., tuple]) -> Callable[[], None]:
        judges = [MulticlassAccuracy(width, average="micro") for width in case.heads] if case.metrics else []
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)

        def run() -> None:
            for _ in range(case.epochs):
                order, total = torch.randperm(rows), 0.0
                for index in order.split(case.batch):
                    labels = [y[index] for y in ys]
                    loss, outputs = objective(xs[index], labels)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    total += loss.item()
                    for judge, out, y in zip(judges, outputs, labels, strict=False):
                        judge.update(out, y)
                for judge in judges:
                    judge.compute().item()
                    judge.reset()

        return run

    def objective_of(network: nn.Module) -> Callable[..., tuple]:
        def objective(x: torch.Tensor, ys: list[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
            outputs = network(x)
            return sum(loss_of(out, y) for out, y in zip(outputs, ys, strict=True)), [out.detach() for out in outputs]

        return objective

    bare = floor(case.batch, [case.inputs, case.hidden, sum(case.heads)], first_gradient=False)
    eager, compilable = Network(), Network()
    ways = {
        "polytask": ours,
        "eager": loop(eager, objective_of(eager)),
        "floor": lambda: [bare() for _ in range(case.epochs * BATCHES)] and None,
    }
    if compiled:
        ways["compile"] = loop(compilable, torch.compile(objective_of(compilable), dynamic=False))
    row = Row(case.name, case.threads, "us a step", {"eager": case.wanted[0], "compile": case.wanted[1]})
    row.times = measure(ways, case.epochs * BATCHES, repetitions)
    return row


def census(repetitions: int, compiled: bool, rows: int | None) -> Row:
    """One epoch of Census-Income: embeddings -> 256 -> 128 -> 2 heads, batch 1024."""
    import polytask as pt
    import torch
    from polytask.datasets.census import TASKS, census_income, features
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    batch = 1024
    train, _ = census_income(rows)
    numeric, categorical = features(train)
    columns = pt.Inputs.from_frame(train, numeric=numeric, categorical=categorical)
    tasks = [pt.Task(task, loss="binary_cross_entropy") for task in TASKS]
    x = dict(zip(("numeric", "categorical"), columns.transform(train, tasks, "`train`"), strict=True))
    targets = {task: train[task].to_numpy() for task in TASKS}
    inputs = pt.Inputs(columns.numeric, columns.categorical)
    model = pt.MultiTaskModel(inputs, tasks=tasks, encoder=pt.encoder.MLP([256, 128]), seed=0)
    trainer = pt.Trainer(model, optimizer=pt.optim.Adam(lr=1e-3), seed=0)
    shapes = {name: array.shape for name, array in model.state_dict().items() if name.startswith("embedding.")}

    def ours() -> None:
        trainer.fit((x, targets), epochs=1, batch_size=batch, progress=False, train_metrics=False)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tables = nn.ModuleList(nn.Embedding(*shape) for shape in shapes.values())
            width = len(numeric) + sum(shape[1] for shape in shapes.values())
            self.encoder = nn.Sequential(nn.Linear(width, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU())
            self.heads = nn.ModuleList(nn.Linear(128, 1) for _ in TASKS)

        def forward(self, numbers: torch.Tensor, codes: torch.Tensor) -> list[torch.Tensor]:
            parts = [numbers] + [table(codes[:, k]) for k, table in enumerate(self.tables)]
            h = self.encoder(torch.cat(parts, dim=1))
            return [head(h).squeeze(1) for head in self.heads]

    loss_of = nn.BCEWithLogitsLoss()
    numbers = torch.from_numpy(x["numeric"]).float()
    codes = torch.from_numpy(x["categorical"]).long()
    ys = [torch.tensor(y).float() for y in targets.values()]

    def by_hand(numbers_codes_ys: tuple[torch.Tensor, ...]) -> Callable[[], object]:
        return lambda: (
            tuple(t[index] for t in numbers_codes_ys) for index in torch.randperm(len(numbers)).split(batch)
        )

    def loop(network: nn.Module, objective: Callable[..., torch.Tensor], batches: Callable) -> Callable[[], None]:
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)

        def run() -> None:
            total = 0.0
            for part in batches():
                loss = objective(*part)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item()

        return run

    def objective_of(network: nn.Module) -> Callable[..., torch.Tensor]:
        return lambda n, c, *ys: sum(loss_of(out, y) for out, y in zip(network(n, c), ys, strict=True))

    whole = (numbers, codes, *ys)
    loader = DataLoader(TensorDataset(*whole), batch_size=batch, shuffle=True)
    eager, loaded, compilable = Network(), Network(), Network()
    width = len(numeric) + sum(shape[1] for shape in shapes.values())
    bare = floor(batch, [width, 256, 128, len(TASKS)], first_gradient=True)
    steps = -(-len(numbers) // batch)
    ways: dict[str, Callable[[], None]] = {
        "polytask": ours,
        "eager": loop(eager, objective_of(eager), by_hand(whole)),
        "loader": loop(loaded, objective_of(loaded), lambda: loader),
        "floor": lambda: [bare() for _ in range(steps)] and None,
    }
    if compiled:
        ways["compile"] = loop(compilable, torch.compile(objective_of(compilable), dynamic=False), by_hand(whole))
    row = Row("Census-Income, one epoch", 2, "ms an epoch", {"eager": 2, "compile": 1.3, "loader": 4.5})
    times = measure(ways, 1, repetitions)
    row.times = {name: [t / 1e3 for t in ts] for name, ts in times.items()}
    return row


def child(threads: int, repetitions: int, compiled: bool, only: str, rows: int | None) -> None:
    """Runs the rows of one thread count and prints each as a line of JSON."""
    import torch

    torch.set_num_threads(threads)
    for case in CASES:
        if case.threads == threads and only in case.name:
            print(json.dumps(asdict(compare(case, repetitions, compiled))), flush=True)
    if threads == 2 and only in "Census-Income, one epoch":
        print(json.dumps(asdict(census(repetitions, compiled, rows))), flush=True)


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    ways = ["polytask", "floor", "eager", "compile", "loader"]
    lines = [
        "| network, batch | threads | "
        + " | ".join(["Polytask", "floor", "PyTorch", "torch.compile", "DataLoader"])
        + " | of floor | vs PyTorch | vs compile | vs DataLoader |",
        "|---|--:|" + "--:|" * 9,
    ]
    for row in rows:
        median = {way: statistics.median(times) for way, times in row.times.items()}
        cells = [f"{row.name} ({row.unit})", str(row.threads)]
        for way in ways:
            times = row.times.get(way)
            cells.append(f"{median[way]:.4g} ({min(times):.4g}-{max(times):.4g})" if times else "-")
        cells.append(f"{median['polytask'] / median['floor']:.2f}")
        for way in ("eager", "compile", "loader"):
            wanted = row.wanted.get(way)
            ratio = f"**{median[way] / median['polytask']:.1f}x**" if way in median else "-"
            cells.append(ratio + (f" (aim {wanted:g}x)" if wanted and way in median else ""))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Parses arguments, runs a process a thread count, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 repetitions, no torch.compile")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md and README.md")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--rows", type=int, help="rows of Census-Income")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    repetitions = 3 if arguments.quick else arguments.repetitions
    if arguments.child:
        child(arguments.child, repetitions, not arguments.quick, arguments.only, arguments.rows)
        return
    rows = []
    for threads in (1, 2):
        command = [sys.executable, *sys.argv, "--child", str(threads)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout or ():
                rows.append(Row(**json.loads(line)))
                print(table(rows[-1:]).splitlines()[-1], flush=True)
        if process.returncode:
            raise SystemExit(process.returncode)
    text = f"{table(rows)}\n\n{machine()}"
    print(f"\n{text}")
    if arguments.write:
        for name in ("docs/benchmarks.md", "README.md"):
            write(ROOT / name, text)


if __name__ == "__main__":
    main()
