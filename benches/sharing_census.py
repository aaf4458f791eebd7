"""Census-Income over the sharing schemes for general tasks, at about equally many parameters, official split.

    python benches/sharing_census.py              # 3 seeds
    python benches/sharing_census.py --write      # also puts the table into docs/benchmarks.md
    python benches/sharing_census.py --quick      # whether it runs

Inputs, optimizer and training are those of `make demo`. Dropout is chosen for each scheme on rows held out of the
training split by a seed that does not count, the epoch on those of the seed at hand, both by the AUC there; the
official test split is looked at once a run, at the end.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any, NamedTuple

import polytask as pt
from polytask.datasets.census import TASKS, census_income, features
from polytask.demo import auc, split, train
from timing import ROOT, machine, write

#: What may lie between the best scheme and any other, on either task.
AIM = 0.003
DROPOUTS = [0.1, 0.3]
#: A seed that chooses dropout and is not measured.
CHOOSING = 1000


class Scheme(NamedTuple):
    """A way of sharing, and the widths that give it as many parameters as the others."""

    sharing: Any
    hidden: list[int]


SCHEMES = {
    "Hard": Scheme(pt.sharing.Hard(), [256, 128]),
    "Soft": Scheme(pt.sharing.Soft(), [140, 96]),
    "CrossStitch": Scheme(pt.sharing.CrossStitch(), [140, 96]),
    "Sluice": Scheme(pt.sharing.Sluice(), [128, 128]),
    "NDDR": Scheme(pt.sharing.NDDR(), [80, 72]),
    "MMoE": Scheme(pt.sharing.MMoE(experts=4), [72, 64]),
    "OMoE": Scheme(pt.sharing.OMoE(experts=4), [72, 64]),
    "CGC": Scheme(pt.sharing.CGC(shared_experts=2, task_experts=1), [72, 64]),
    "PLE": Scheme(pt.sharing.PLE(shared_experts=2, task_experts=1), [72, 64]),
    "DSelectK": Scheme(pt.sharing.DSelectK(experts=4, k=2), [72, 64]),
    "LTB": Scheme(pt.sharing.LTB(branches=2), [140, 96]),
    "Branched": Scheme(pt.sharing.Branched(branches=[[TASKS], [[task] for task in TASKS]]), [246, 64]),
}


class Run(NamedTuple):
    """AUC on the rows held out, the mean over tasks; AUC on the test rows; seconds an epoch; parameters."""

    held_out: float
    test: dict[str, float]
    seconds: float
    parameters: int


def run(scheme: Scheme, dropout: float, seed: int, epochs: int, frame: Any, test: Any) -> Run:
    """One training."""
    rows, held_out = split(frame, seed)
    numeric, categorical = features(rows)
    model = pt.MultiTaskModel(
        pt.Inputs.from_frame(rows, numeric=numeric, categorical=categorical, min_count=10, bins=40),
        tasks=[pt.Task(task, loss="binary_cross_entropy", metrics=["auroc"]) for task in TASKS],
        encoder=pt.encoder.MLP(scheme.hidden, dropout=dropout),
        sharing=scheme.sharing,
        head=pt.head.Tower([32]),
        seed=seed,
    )
    history = train(model, rows, held_out, epochs, seed, progress=False)
    mean = statistics.mean(auc(model, held_out).values())
    scores = {} if test is None else auc(model, test)
    return Run(mean, scores, statistics.median(history["seconds"]), model.summary().parameters)


def main() -> None:
    """Parses arguments, trains, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20, help="at most so many")
    parser.add_argument("--rows", type=int, help="rows of each part")
    parser.add_argument("--quick", action="store_true", help="one seed, few rows and epochs: whether it runs")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.epochs, arguments.rows = 1, 2, 5000
    frame, test = census_income(arguments.rows)
    dropouts = {}
    for name, scheme in SCHEMES.items():
        tried = {each: run(scheme, each, CHOOSING, arguments.epochs, frame, None).held_out for each in DROPOUTS}
        dropouts[name] = max(DROPOUTS, key=lambda each: tried[each])
        print(f"{name}: " + ", ".join(f"dropout {each} {value:.4f}" for each, value in tried.items()), flush=True)
    found: dict[str, list[Run]] = {name: [] for name in SCHEMES}
    for seed in range(arguments.seeds):
        for name, scheme in SCHEMES.items():
            found[name].append(run(scheme, dropouts[name], seed, arguments.epochs, frame, test))
            scores = " ".join(f"{value:.4f}" for value in found[name][-1].test.values())
            print(f"seed {seed}: {name} {scores}", flush=True)
    text = table(found, dropouts)
    print(f"\n{text}")
    if arguments.write:
        write(ROOT / "docs" / "benchmarks.md", text, "sharing-census")


def table(found: dict[str, list[Run]], dropouts: dict[str, float]) -> str:
    """AUC of both tasks, and how far each scheme is behind the best."""
    means = {
        name: {task: statistics.mean(each.test[task] for each in runs) for task in TASKS}
        for name, runs in found.items()
    }
    best = {task: max(of[task] for of in means.values()) for task in TASKS}
    seeds = len(next(iter(found.values())))
    lines = [
        f"| AUC on the test split, mean of {seeds} seeds (min-max) | parameters | income | never married | behind the "
        f"best (aim {AIM}) | dropout | seconds an epoch |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, runs in found.items():
        cells = [f"{runs[0].parameters:,}"]
        for task in TASKS:
            values = [each.test[task] for each in runs]
            cells.append(f"{means[name][task]:.4f} ({min(values):.4f}-{max(values):.4f})")
        cells.append(", ".join(f"{best[task] - means[name][task]:.4f}" for task in TASKS))
        cells += [f"{dropouts[name]:g}", f"{statistics.median(each.seconds for each in runs):.2f}"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + f"\n\n{machine()}"


if __name__ == "__main__":
    main()
