"""Census-Income over seeds: the multi-task network of the demo, and single-task networks trained the same way.

    python benches/census.py              # 5 seeds
    python benches/census.py --write      # also puts the table into docs/benchmarks.md

Each seed has its own initial weights, order of rows, dropout and rows held out; the epoch is chosen on those rows, and
the official test split is looked at once, at the end.
"""

from __future__ import annotations

import argparse
import statistics

from polytask.datasets.census import TASKS, census_income
from polytask.demo import TREES, auc, network, split, train
from timing import ROOT, machine, write

AIMS = {"income": 0.946, "never_married": 0.9944}


def main() -> None:
    """Parses arguments, trains, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rows", type=int, help="rows of each part")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    arguments = parser.parse_args()
    frame, test = census_income(arguments.rows)
    scores: dict[str, dict[str, list[float]]] = {
        way: {task: [] for task in TASKS} for way in ("both tasks, one network", "one network a task")
    }
    for seed in range(arguments.seeds):
        rows, held_out = split(frame, seed)
        for way, groups in zip(scores, ([TASKS], [[task] for task in TASKS]), strict=True):
            for tasks in groups:
                model = network(rows, tasks, seed)
                train(model, rows, held_out, arguments.epochs, seed, progress=False)
                for task, value in auc(model, test).items():
                    scores[way][task].append(value)
        print(
            f"seed {seed}: "
            + "; ".join(
                f"{way} " + " ".join(f"{values[-1]:.4f}" for values in of.values()) for way, of in scores.items()
            ),
            flush=True,
        )

    lines = ["| AUC on the test split | income | never married |", "|---|--:|--:|"]
    for way, of in scores.items():
        cells = [f"{statistics.mean(v):.4f} ({min(v):.4f}-{max(v):.4f})" for v in of.values()]
        lines.append(f"| {way}: mean of {arguments.seeds} seeds (min-max) | " + " | ".join(cells) + " |")
    lines.append("| boosted trees, one a task | " + " | ".join(f"{TREES[task]:.4f}" for task in TASKS) + " |")
    lines.append("| aim | " + " | ".join(f">= {AIMS[task]}" for task in TASKS) + " |")
    text = "\n".join(lines) + f"\n\n{machine()}"
    print(f"\n{text}")
    if arguments.write:
        write(ROOT / "docs" / "benchmarks.md", text, "census")


if __name__ == "__main__":
    main()
