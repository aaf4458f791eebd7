"""Does `TaskRelation` find groups of tasks that it is not told of, and does that help?

    python benches/relation.py              # 10 seeds
    python benches/relation.py --write      # also puts table and picture into docs/
    python benches/relation.py --quick      # whether it runs

Two unrelated groups of four regressions on 20 inputs, 50 rows for each task that no other task has labels for, and as
many to choose learning rate, strength of the regularizer, width and epoch by, for each way and seed alike: ways
without a relation have L2, or nothing, in its place. Each seed has its own directions, rows and initial weights, the
same for all ways, so that differences are paired.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from typing import Any, NamedTuple

import numpy as np
import polytask as pt
from experiments import Rows, error, part, shown, train
from polytask.datasets import grouped_tasks
from timing import ROOT, machine, write

GROUPS, TASKS, ROWS, TEST = 2, 4, 50, 4000
NAMES = [f"{letter}{k + 1}" for letter in "ab" for k in range(TASKS)]
RATES = [3e-3, 1e-2, 3e-2]
STRENGTHS = (3e-3, 1e-2, 3e-2, 1e-1)
BRANCHES = [[NAMES[:TASKS], NAMES[TASKS:]]]
RELATION = "a network a task, TaskRelation"


class Way(NamedTuple):
    """A way of sharing, with the widths and the strengths of its regularizer that are tried."""

    sharing: Any
    widths: list[int]
    regularizer: Any = pt.regularizer.L2
    strengths: tuple[float, ...] = (0.0, 1e-3, 1e-2, 3e-2)


WAYS = {
    "one network for all (Hard)": Way(pt.sharing.Hard(), [16, 64]),
    "a network a task (Soft)": Way(pt.sharing.Soft(), [16]),
    "a network a task, Pairwise": Way(pt.sharing.Soft(), [16], pt.regularizer.Pairwise, STRENGTHS),
    RELATION: Way(pt.sharing.Soft(), [16], pt.regularizer.TaskRelation, STRENGTHS),
    "a network a group, groups given (Branched)": Way(pt.sharing.Branched(branches=BRANCHES), [16, 64]),
}


class Data(NamedTuple):
    """Rows to train on and to choose by, each labelled for one task, and fully labelled ones to test on."""

    rows: Rows
    held_out: Rows
    test: Rows


class Run(NamedTuple):
    """One training: loss on the rows to choose by, error on the test rows, learned correlations."""

    loss: float
    error: float
    correlation: np.ndarray | None


def data(seed: int) -> Data:
    """One draw."""
    count = ROWS * len(NAMES)
    x, labels = grouped_tasks(2 * count + TEST, GROUPS, TASKS, seed=seed)
    apart = [labelled_apart(part(x, labels, begin, begin + count)) for begin in (0, count)]
    return Data(*apart, part(x, labels, 2 * count, None))


def labelled_apart(rows: Rows) -> Rows:
    """Keeps each row's label of one task only."""
    x, labels = rows
    owner = np.arange(len(x)) % len(labels)
    return x, {task: np.where(owner == k, y, np.nan) for k, (task, y) in enumerate(labels.items())}


def run(way: Way, width: int, lr: float, strength: float, of: Data, seed: int, epochs: int) -> Run:
    """One training."""
    model = pt.MultiTaskModel(
        of.test[0].shape[1],
        tasks=[pt.Task(name, loss="mean_squared", metrics=[]) for name in NAMES],
        encoder=pt.encoder.MLP([width]),
        sharing=way.sharing,
        seed=seed,
    )
    regularizers = [way.regularizer(strength=strength)]
    how = {"lr": lr, "seed": seed, "patience": 20, "regularizers": regularizers, "epochs": epochs, "batch_size": 64}
    loss = train(model, of.rows, of.held_out, **how)
    learned = model.relation() if way.regularizer is pt.regularizer.TaskRelation else None
    return Run(loss, error(model, of.test), None if learned is None else learned.correlation)


def best(way: Way, of: Data, seed: int, epochs: int) -> Run:
    """The run of the grid whose loss on the rows to choose by is lowest."""
    grid = itertools.product(way.widths, RATES, way.strengths)
    return min((run(way, *point, of, seed, epochs) for point in grid), key=lambda each: each.loss)


def margin(correlation: np.ndarray) -> float:
    """The lowest entry within a group minus the highest between groups: positive where the groups are recovered."""
    group = np.arange(len(NAMES)) // TASKS
    same = group[:, None] == group
    return float(correlation[same].min() - correlation[~same].max())


def main() -> None:
    """Parses arguments, trains, prints the table, draws the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=500, help="at most so many")
    parser.add_argument("--quick", action="store_true", help="two seeds and three epochs: whether it runs")
    parser.add_argument("--write", action="store_true", help="put table and picture into docs/")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.epochs = 2, 3
    found: dict[str, list[Run]] = {name: [] for name in WAYS}
    for seed in range(arguments.seeds):
        of = data(seed)
        for name, way in WAYS.items():
            found[name].append(best(way, of, seed, arguments.epochs))
        print(f"seed {seed}: " + ", ".join(f"{name} {runs[-1].error:.4f}" for name, runs in found.items()), flush=True)
    correlations = [each.correlation for each in found[RELATION] if each.correlation is not None]
    text = table(found, [margin(each) for each in correlations])
    print(f"\n{text}")
    if arguments.write:
        write(ROOT / "docs" / "benchmarks.md", text, "relation")
        draw(correlations)


def table(found: dict[str, list[Run]], margins: list[float]) -> str:
    """Errors, differences to the learned relation, and whether the groups came out."""
    seeds = len(margins)
    learned = [each.error for each in found[RELATION]]
    lines = [f"| squared error / variance, {seeds} seeds | error | minus TaskRelation's | TaskRelation better on |"]
    lines.append("|---|--:|--:|--:|")
    for name, runs in found.items():
        errors = [each.error for each in runs]
        cells = ["", ""]
        if name != RELATION:
            differences = [error - own for error, own in zip(errors, learned, strict=True)]
            cells = [shown(differences), f"{sum(each > 0 for each in differences)} of {seeds} seeds"]
        lines.append(f"| {name} | {shown(errors)} | {cells[0]} | {cells[1]} |")
    recovered = sum(each > 0 for each in margins)
    lines += [
        "",
        f"Groups recovered, every correlation within a group above every one between groups: {recovered} of {seeds} "
        f"seeds; the lowest within minus the highest between is {min(margins):.2f} to {max(margins):.2f}, "
        f"{statistics.mean(margins):.2f} in the mean.",
    ]
    return "\n".join(lines) + f"\n\n{machine()}"


def draw(correlations: list[np.ndarray]) -> None:
    """What was learned with the first seed, and the mean over seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(8.4, 3.6), layout="constrained")
    pictures = {"seed 0": correlations[0], f"mean of {len(correlations)} seeds": np.mean(correlations, axis=0)}
    for axis, (title, matrix) in zip(axes, pictures.items(), strict=True):
        image = axis.imshow(matrix, cmap="RdBu", vmin=-1, vmax=1)
        axis.set(title=f"learned correlation, {title}")
        axis.set_xticks(range(len(NAMES)), NAMES)
        axis.set_yticks(range(len(NAMES)), NAMES)
        for (i, j), value in np.ndenumerate(matrix):
            color = "white" if abs(value) > 0.6 else "black"
            axis.text(j, i, f"{value:.2f}", ha="center", va="center", color=color, fontsize="x-small")
    figure.colorbar(image, ax=axes)
    figure.savefig(ROOT / "docs" / "relation.png", dpi=110)


if __name__ == "__main__":
    main()
