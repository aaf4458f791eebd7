"""Training speed of the sharing schemes: Polytask's `Trainer.fit` against the usual PyTorch code, in one run.

    python benches/sharing.py            # every row and both curves on one thread, about 10 minutes
    python benches/sharing.py --threads 2
    python benches/sharing.py --quick    # fewer repetitions
    python benches/sharing.py --write    # also puts tables into docs/benchmarks.md and draws docs/sharing_cost.png

Both train the same network on the same rows, taking turns. PyTorch runs `benches/torch_sharing.py`: each scheme as its
paper has it, with lists of experts, gates and towers, one loss a task, default Adam, rows indexed by hand. The floor is
the matrix products of the step's linear layers on buffers that exist, equal layers as one product: forward, weights,
and inputs where wanted. Numbers are microseconds a step: median, and minimum and maximum of all repetitions.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polytask as pt
import torch
import torch_sharing
from polytask.datasets.census import TASKS
from timing import ROOT, machine, measure, write

BATCHES = 20


@dataclass
class Case:
    """A network and a batch size; `wanted` is the aim against PyTorch. Without `inputs` it reads Census-Income."""

    scheme: str
    tasks: int
    inputs: int | None
    hidden: list[int]
    tower: list[int]
    batch: int
    wanted: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    epochs: int = 2

    @property
    def name(self) -> str:
        """In words."""
        settings = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        tower = f", towers {self.tower}" if self.tower else ""
        read = "Census-Income" if self.inputs is None else str(self.inputs)
        return f"{self.scheme}({settings}), {self.tasks} tasks, {read} -> {self.hidden}{tower}, {self.batch}"


#: The paper's size: 8 experts of 16 units, towers of 8; on Census-Income, and on 100 numbers as in its synthetic data.
PAPER = [
    Case("MMoE", 2, inputs, [16], [8], batch, wanted, {"experts": 8})
    for inputs in (None, 100)
    for batch, wanted in ((256, 6), (1024, 3))
]
EIGHT = [
    Case(scheme, 8, 64, hidden, [], 256, wanted, settings)
    for scheme, hidden, wanted, settings in (
        ("Soft", [32, 16], 4, {}),
        ("CGC", [32], 4, {}),
        ("PLE", [32, 16], 4, {}),
        ("MMoE", [32], None, {"experts": 8}),
        ("CrossStitch", [32, 32], None, {}),
        ("Sluice", [32, 32], None, {}),
        ("NDDR", [32, 32], None, {}),
        ("DSelectK", [32], None, {"experts": 8, "k": 2}),
        ("LTB", [32, 32], None, {}),
        ("Hard", [32, 16], None, {}),
    )
]
WIDE = [
    Case("MMoE", 4, 256, [256], [64], 1024, None, {"experts": 8}, 1),
    Case("CGC", 4, 256, [256], [64], 1024, None, {}, 1),
    Case("PLE", 4, 256, [256, 128], [64], 1024, None, {}, 1),
    Case("Soft", 4, 256, [256, 128], [], 1024, None, {}, 1),
    Case("CrossStitch", 4, 256, [256, 256], [], 1024, None, {}, 1),
]
COUNTS = [2, 4, 8, 16, 32, 64]
CURVES = {
    "tasks": [Case("MMoE", count, 64, [32], [16], 256, None, {"experts": 8}) for count in COUNTS],
    "experts": [Case("MMoE", 4, 64, [32], [16], 256, None, {"experts": count}) for count in COUNTS],
}


def rows_of(case: Case) -> tuple[Any, pt.Inputs, list[torch.Tensor], dict[str, Any]]:
    """Features for Polytask, their description, features for PyTorch, and theirs."""
    rows = case.batch * BATCHES
    if case.inputs is not None:
        x = np.random.default_rng(0).standard_normal((rows, case.inputs), dtype=np.float32)
        return x, pt.Inputs(case.inputs), [torch.from_numpy(x)], {"numeric": case.inputs}
    frame = pt.datasets.census_income(rows)[0].drop(columns=TASKS)
    inputs = pt.Inputs.from_frame(frame)
    numeric, codes = inputs.transform(frame, [], "`frame`")
    tables = pt.MultiTaskModel(inputs, tasks=[pt.Task("a")])._core.description["inputs"]["embedding"]
    described = {"numeric": inputs.numeric, "tables": list(zip(inputs.categorical, tables, strict=True))}
    given = {"numeric": numeric, "categorical": codes}
    bare = pt.Inputs(inputs.numeric, inputs.categorical)
    return given, bare, [torch.from_numpy(numeric), torch.from_numpy(codes).long()], described


def ways(case: Case) -> dict[str, Callable[[], None]]:
    """The ways of training a case, and its floor."""
    rows, names = case.batch * BATCHES, [f"t{j}" for j in range(case.tasks)]
    generator = np.random.default_rng(1)
    x, inputs, xs, described = rows_of(case)
    targets = [(generator.random(rows) < 0.3).astype(np.float32) for _ in names]
    model = pt.MultiTaskModel(
        inputs,
        tasks=[pt.Task(name, loss="binary_cross_entropy", metrics=[]) for name in names],
        encoder=pt.encoder.MLP(case.hidden),
        sharing=getattr(pt.sharing, case.scheme)(**case.settings),
        head=pt.head.Tower(case.tower) if case.tower else "linear",
    )
    trainer = pt.Trainer(model, lr=1e-3)
    encoder = torch_sharing.MLP(case.hidden)
    design = {"tasks": dict.fromkeys(names, 1), "encoder": encoder, "tower": case.tower, **described}
    network = torch_sharing.build(case.scheme, **design, **case.settings)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    loss_of = torch.nn.BCEWithLogitsLoss()
    ys = [torch.from_numpy(y) for y in targets]

    def ours() -> None:
        trainer.fit((x, *targets), epochs=case.epochs, batch_size=case.batch, progress=False, train_metrics=False)

    def theirs() -> None:
        for _ in range(case.epochs):
            total = 0.0
            for index in torch.randperm(rows).split(case.batch):
                given = network(*[x[index] for x in xs])
                outputs, term = given if isinstance(given, tuple) else (given, 0.0)
                losses = [loss_of(output[:, 0], y[index]) for output, y in zip(outputs, ys, strict=True)]
                loss = sum(losses) + term
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item()

    bare = floor(model, case.batch)

    def products() -> None:
        for _ in range(case.epochs * BATCHES):
            bare()

    return {"polytask": ours, "eager": theirs, "floor": products}


def floor(model: pt.MultiTaskModel, rows: int) -> Callable[[], None]:
    """The matrix products of one step."""
    calls: list[tuple[Callable[..., Any], tuple[torch.Tensor, torch.Tensor], torch.Tensor]] = []
    for groups, inputs, outputs, backward in model._core.products():
        lead, product = ((), torch.mm) if groups == 1 else ((groups,), torch.bmm)
        x, w, y = (torch.randn(*lead, *shape) for shape in ((rows, inputs), (outputs, inputs), (rows, outputs)))
        calls.append((product, (x, w.mT), torch.empty_like(y)))
        calls.append((product, (y.mT, x), torch.empty_like(w)))
        if backward:
            calls.append((product, (y, w), torch.empty_like(x)))

    @torch.no_grad()
    def step() -> None:
        for product, factors, out in calls:
            product(*factors, out=out)

    return step


def run(case: Case, repetitions: int) -> dict[str, list[float]]:
    """Microseconds a step of each way."""
    return measure(ways(case), case.epochs * BATCHES, repetitions)


def table(results: list[tuple[Case, dict[str, list[float]]]]) -> str:
    """In Markdown."""
    lines = [
        "| scheme, tasks, sizes, batch | Polytask | floor | PyTorch | of floor | vs PyTorch |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for case, times in results:
        median = {way: statistics.median(each) for way, each in times.items()}
        cells = [
            f"{median[way]:.0f} ({min(times[way]):.0f}-{max(times[way]):.0f})" for way in ("polytask", "floor", "eager")
        ]
        aim = "" if case.wanted is None else f" (aim {case.wanted:g}x)"
        ratio = median["eager"] / median["polytask"]
        cells += [f"{median['polytask'] / median['floor']:.2f}", f"**{ratio:.1f}x**{aim}"]
        lines.append("| " + " | ".join([case.name, *cells]) + " |")
    return "\n".join(lines)


def draw(curves: dict[str, list[tuple[Case, dict[str, list[float]]]]]) -> None:
    """Cost against the number of tasks and of experts, on logarithmic axes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as pyplot

    figure, axes = pyplot.subplots(1, len(curves), figsize=(9, 3.4), layout="constrained")
    for axis, (what, results) in zip(axes, curves.items(), strict=True):
        for way, label in (("eager", "PyTorch"), ("polytask", "Polytask"), ("floor", "its matrix products")):
            medians = [statistics.median(times[way]) for _, times in results]
            axis.plot(COUNTS, medians, "o-", label=label)
        axis.set(xscale="log", yscale="log", xlabel=what, ylabel="microseconds a step", title=f"MMoE, 2 to 64 {what}")
        axis.set_xticks(COUNTS, COUNTS)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(ROOT / "docs" / "sharing_cost.png", dpi=110)


def main() -> None:
    """Runs everything, prints, and writes where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--write", action="store_true", help="put the tables into the docs")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    repetitions = 3 if arguments.quick else 7
    parts = []
    for title, cases in (
        ("MMoE at its paper's size", PAPER),
        ("Eight tasks, narrow layers", EIGHT),
        ("Wide layers", WIDE),
    ):
        results = []
        for case in cases:
            results.append((case, run(case, repetitions)))
            print(table(results[-1:]).splitlines()[-1], flush=True)
        parts.append(f"{title}:\n\n{table(results)}")
    curves = {what: [(case, run(case, repetitions)) for case in cases] for what, cases in CURVES.items()}
    for what, results in curves.items():
        parts.append(f"Cost against {what}:\n\n{table(results)}")
        print(table(results), flush=True)
    spins = os.environ.get("GOMP_SPINCOUNT")
    how = "" if spins is None else f", GOMP_SPINCOUNT={spins}"
    noted = f"Threads: {arguments.threads}{how}; {repetitions} repetitions of {BATCHES} steps or more. {machine()}"
    if arguments.write:
        write(ROOT / "docs" / "benchmarks.md", "\n\n".join([*parts, noted]), f"sharing-{arguments.threads}")
        if arguments.threads == 1:
            draw(curves)


if __name__ == "__main__":
    main()
