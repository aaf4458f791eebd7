"""QM9's eleven targets by five weightings against single-task networks: the published table, on features of our own.

    python benches/qm9.py PACKAGE FOLDER              # where qm9pack was installed to; goes on where it was broken off
    python benches/qm9.py PACKAGE FOLDER --write      # also puts the table into docs/benchmarks.md
    python benches/qm9.py PACKAGE FOLDER --rows 4000 --seeds 2 --epochs 2

Targets, splits (10,000 molecules to validate, 10,000 to test, the others to learn from), standardised targets, squared
errors, and the change of the mean absolute error against single-task networks are those of Navon et al. (Multi-Task
Learning as a Bargaining Game, ICML 2022) and after them of Liu et al. (FAMO, NeurIPS 2023) and LibMTL. Their networks
pass messages on graphs for 300 epochs; these are MLPs on the features of `qm9_molecules.py`, all behind one encoder of
256 and 128, by Adam on half a cosine, batches of 512. Each network, single-task ones as well, is tried with 0.3, 1, 3
and 10 times a learning rate of 0.003, and has its best epoch by validation. Results are kept in the folder, each
network's as soon as it is there, and features too.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import polytask as pt
from polytask.values import student
from qm9_molecules import TARGETS, molecules
from timing import ROOT, machine, write

HELD_OUT = 10_000
#: Uncertainty weighting has the learning rate of the authors' code for this table, and FAMO its default, the same.
WEIGHTINGS = {
    "equal": "equal",
    "uncertainty": pt.weighting.Uncertainty(lr=0.025),
    "UPGrad": "upgrad",
    "Nash-MTL": "nash_mtl",
    "FAMO": "famo",
}
#: Mean absolute errors in the order of the targets, and delta-m in percent: of Table 2 of FAMO's paper, and as run
#: again with another batch size and schedule in Table 6 of Qin et al. (NTKMTL, NeurIPS 2025).
TABLES = {
    "as published": {
        "single-task": ([0.07, 0.18, 60.6, 53.9, 0.50, 4.53, 58.8, 64.2, 63.8, 66.2, 0.07], 0.0),
        "equal": ([0.11, 0.33, 73.6, 89.7, 5.20, 14.06, 143.4, 144.2, 144.6, 140.3, 0.13], 177.6),
        "uncertainty": ([0.39, 0.43, 166.2, 155.8, 1.07, 4.99, 66.4, 66.8, 66.8, 66.2, 0.12], 108.0),
        "Nash-MTL": ([0.10, 0.25, 82.9, 81.9, 2.43, 5.38, 74.5, 75.0, 75.1, 74.2, 0.09], 62.0),
        "FAMO": ([0.15, 0.30, 94.0, 95.2, 1.63, 4.95, 70.82, 71.2, 71.2, 70.3, 0.10], 58.5),
    },
    "as run again": {
        "single-task": ([0.060, 0.156, 60.54, 51.22, 0.419, 3.08, 39.3, 42.9, 41.7, 43.1, 0.061], 0.0),
        "equal": ([0.077, 0.253, 55.95, 68.59, 4.163, 11.08, 109.2, 109.8, 110.1, 106.7, 0.099], 179.8),
        "uncertainty": ([0.194, 0.274, 120.6, 102.8, 0.763, 3.698, 41.11, 41.13, 41.16, 41.75, 0.089], 58.4),
        "Nash-MTL": ([0.086, 0.218, 69.78, 66.18, 2.153, 4.679, 59.63, 59.94, 59.98, 59.97, 0.082], 72.9),
        "FAMO": ([0.128, 0.230, 98.09, 84.42, 0.859, 3.541, 40.24, 40.57, 40.62, 40.21, 0.081], 38.9),
    },
}
UNITS = dict(zip(TARGETS, ["D", "a0^3", "meV", "meV", "a0^2", *["meV"] * 5, "cal/mol K"], strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, help="molecules in all, 2/13 of which are held out")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--tune", type=float, nargs="+", default=[0.3, 1, 3, 10], help="factors of the learning rate")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--report", type=Path, help="write the report of pt.compare there")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    asked = parser.parse_args()
    train, held_out, test = split(*molecules(asked.package, asked.folder), asked.rows)
    print(f"{train[0].shape[1]} features; {len(train[0]):,} molecules to learn from", flush=True)
    tasks = [pt.Task(name, scale="standardize", metrics=["mae"]) for name in TARGETS]
    candidates = {}
    for name, weighting in WEIGHTINGS.items():
        model = pt.MultiTaskModel(train[0].shape[1], tasks=tasks, encoder=pt.encoder.MLP([256, 128]))
        candidates[name] = pt.Trainer(model, lr=3e-3, schedule="cosine", weighting=weighting, threads=asked.threads)
    began = time.perf_counter()
    found = pt.compare(
        candidates, train, validation=held_out, test=test, seeds=asked.seeds, epochs=asked.epochs, batch_size=512,
        patience=asked.epochs, tune=asked.tune, path=asked.folder / f"{len(train[0])}-{asked.epochs}",
    )  # fmt: skip
    print(f"{(time.perf_counter() - began) / 60:.0f} minutes in this call")
    print(found)
    text = f"{table(found)}\n\n{agreement(found)}\n\n{machine()}"
    print(f"\n{text}")
    if asked.report is not None:
        found.save(asked.report)
    if asked.write:
        write(ROOT / "docs" / "benchmarks.md", text, "qm9")


def split(x: np.ndarray, y: np.ndarray, rows: int | None) -> list[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Rows to learn from, to validate and to test; features that at least one molecule in 1,000 has, standardised by
    the rows to learn from and cut at 10 deviations.
    """
    order = np.random.default_rng(0).permutation(len(x))[:rows]
    size = min(HELD_OUT, len(order) // 13)
    parts = [order[2 * size :], order[size : 2 * size], order[:size]]
    x = x[:, (x[parts[0]] != 0).mean(0) >= 1e-3]
    mean, deviation = x[parts[0]].mean(0), x[parts[0]].std(0)
    x = np.clip((x - mean) / np.where(deviation > 0, deviation, 1.0), -10, 10)
    return [(x[part], {name: y[part, place] for place, name in enumerate(TARGETS)}) for part in parts]


def errors(found: pt.Comparison, name: str) -> np.ndarray:
    """Mean absolute errors of a way on test molecules, `[tasks, seeds]`."""
    return np.stack([found.ways[name].scores[task]["mae"] for task in TARGETS])


def table(found: pt.Comparison) -> str:
    """A row a target, then what sums them up."""
    names = list(found.ways)
    lines = [f"| mean absolute error, {found.seeds} seeds | {' | '.join(names)} |", "|---|" + "--:|" * len(names)]
    for place, task in enumerate(TARGETS):
        cells = [_shown(errors(found, name)[place]) for name in names]
        lines.append(f"| {task}, {UNITS[task]} | {' | '.join(cells)} |")
    rank = ranks(np.stack([errors(found, name).mean(1) for name in WEIGHTINGS], 1))
    lines.append(f"| mean rank of the {len(WEIGHTINGS)} | - | {' | '.join(f'{each:.2f}' for each in rank)} |")
    deltas = ["0", *(_shown(found.improvement(name, "delta-m %"), 1) for name in WEIGHTINGS)]
    lines.append(f"| delta-m, % | {' | '.join(deltas)} |")
    for known, theirs in TABLES.items():
        published = [f"{theirs[name][1]:g}" if name in theirs else "-" for name in names]
        lines.append(f"| delta-m, %, {known} | {' | '.join(published)} |")
    return "\n".join(lines)


def agreement(found: pt.Comparison) -> str:
    """How far ranks are from those of other tables, a row a table."""
    lines = ["| agreement with the table | delta-m over weightings | changes of errors | mean ranks, here / there |"]
    lines.append("|---|--:|--:|---|")
    for known, theirs in TABLES.items():
        both = [name for name in WEIGHTINGS if name in theirs]
        ours = np.stack([errors(found, name).mean(1) for name in both], 1)
        others = np.stack([np.array(theirs[name][0]) for name in both], 1)
        deltas = [found.improvement(name, "delta-m %").mean() for name in both]
        over = spearman(deltas, [theirs[name][1] for name in both])
        single = errors(found, "single-task").mean(1), np.array(theirs["single-task"][0])
        changes = spearman((ours / single[0][:, None]).ravel(), (others / single[1][:, None]).ravel())
        pairs = zip(both, ranks(ours), ranks(others), strict=True)
        means = ", ".join(f"{name} {mine:.2f} / {other:.2f}" for name, mine, other in pairs)
        lines.append(f"| {known} | {over:.2f} of {len(both)} | {changes:.2f} of {ours.size} | {means} |")
    return "\n".join(lines)


def ranks(values: np.ndarray) -> np.ndarray:
    """The mean over rows of each column's rank, the lowest first; equal ones share theirs."""
    return np.mean([_ranked(row) for row in values], 0)


def spearman(one: np.ndarray | list[float], other: np.ndarray | list[float]) -> float:
    return float(np.corrcoef(_ranked(one), _ranked(other))[0, 1])


def _ranked(values: np.ndarray | list[float]) -> np.ndarray:
    array = np.asarray(values)
    below = (array[:, None] > array).sum(1)
    return below + 0.5 * ((array[:, None] == array).sum(1) + 1)


def _shown(values: np.ndarray, digits: int | None = None) -> str:
    """A mean with half its 95 % interval."""
    mean, _ = student.mean_and_error(values)
    low, high = student.interval(values)
    if digits is None:
        digits = max(1, 2 - int(np.floor(np.log10(mean))))
    return f"{mean:.{digits}f}" + ("" if np.isnan(low) else f" ± {(high - low) / 2:.{digits}f}")


if __name__ == "__main__":
    main()
