"""What a Gramian in bfloat16 does to weights and to the end result: `gramian_precision="bfloat16"` against "float32".

    python benches/precision.py            # 5 seeds, about two minutes
    python benches/precision.py --write    # also puts the table into docs/benchmarks.md

Regressions that conflict: each task is a random mix of a few teachers' outputs, plus noise, through a trunk of two
layers. Both precisions start from the same numbers and see the same rows. Weights are compared on one batch from the
same parameters, after each epoch: the largest difference, relative to the largest weight. The end result is the mean
loss over tasks on held-out rows, relative to float32's, over seeds.
"""

from __future__ import annotations

import argparse
import statistics

import numpy as np
import polytask as pt
from timing import ROOT, machine, write

METHODS = ("UPGrad", "MGDA", "CAGrad", "IMTLG", "AlignedMTL", "NashMTL", "PCGrad")
TASKS, ROWS, BATCH, EPOCHS = 16, 4096, 256, 10


def problem(seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Features `[2 * ROWS, 32]` and targets of all tasks."""
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((2 * ROWS, 32), dtype=np.float32)
    teachers = np.tanh(x @ generator.standard_normal((32, 6)) / 4)
    y = teachers @ generator.standard_normal((6, TASKS)) + 0.3 * generator.standard_normal((len(x), TASKS))
    return x, {f"task {k}": y[:, k].astype(np.float32) for k in range(TASKS)}


def part(x: np.ndarray, y: dict[str, np.ndarray], rows: slice) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    return x[rows], {name: values[rows] for name, values in y.items()}


def model(seed: int, names: list[str]) -> pt.MultiTaskModel:
    tasks = [pt.Task(name, metrics=[]) for name in names]
    return pt.MultiTaskModel(32, tasks=tasks, encoder=pt.encoder.MLP([128, 128]), seed=seed)


def weights(method: str, precision: str, state: dict[str, np.ndarray], batch: tuple[np.ndarray, dict]) -> np.ndarray:
    """The weights of one step from these parameters."""
    copy = model(0, list(batch[1]))
    copy.load_state_dict(state)
    chosen = getattr(pt.weighting, method)(gramian_precision=precision)
    trainer = pt.Trainer(copy, weighting=chosen, observe="weights")
    history = trainer.fit(batch, epochs=1, batch_size=len(batch[0]), shuffle=False, progress=False, train_metrics=False)
    return np.array([history[f"{name}/weight"][0] for name in batch[1]])


def compare(method: str, seed: int) -> tuple[list[float], float]:
    """Differences of weights over a run in float32, and the end result's relative difference."""
    x, y = problem(seed)
    train, test = part(x, y, slice(0, ROWS)), part(x, y, slice(ROWS, None))
    differences, losses = [], {}
    for precision in ("float32", "bfloat16"):
        chosen = getattr(pt.weighting, method)(gramian_precision=precision)
        trainer = pt.Trainer(model(seed, list(y)), lr=1e-3, weighting=chosen, seed=seed)
        for epoch in range(EPOCHS):
            if precision == "float32":
                batch = part(x, y, slice(epoch * BATCH, (epoch + 1) * BATCH))
                state = trainer.model.state_dict()
                exact, rounded = (weights(method, each, state, batch) for each in ("float32", "bfloat16"))
                differences.append(float(np.abs(exact - rounded).max() / np.abs(exact).max()))
            trainer.fit(train, epochs=1, batch_size=BATCH, progress=False, train_metrics=False)
        results = trainer.evaluate(test)
        losses[precision] = statistics.mean(float(results[name]["loss"]) for name in y)
    return differences, losses["bfloat16"] / losses["float32"] - 1


def main() -> None:
    """Parses arguments, trains, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    arguments = parser.parse_args()
    lines = [
        "| method | weights differ by: median (max) | held-out loss against float32: mean (min-max) |",
        "|---|--:|--:|",
    ]
    for method in METHODS:
        differences, changes = [], []
        for seed in range(arguments.seeds):
            of_weights, change = compare(method, seed)
            differences += of_weights
            changes.append(change)
        lines.append(
            f"| {method} | {statistics.median(differences):.2%} ({max(differences):.2%}) "
            f"| {statistics.mean(changes):+.2%} ({min(changes):+.2%} to {max(changes):+.2%}) |"
        )
        print(lines[-1], flush=True)
    text = "\n".join(lines) + f"\n\n{machine()}"
    print(f"\n{text}")
    if arguments.write:
        write(ROOT / "docs" / "benchmarks.md", text, "precision")


if __name__ == "__main__":
    main()
