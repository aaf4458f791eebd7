"""Many small regressions of one kind: does soft sharing, tuned by `pt.search`, beat a network each and one for all?

    python benches/school.py target/school.jsonl               # 5 seeds; a second call goes on
    python benches/school.py target/school.jsonl --write       # also puts the table into docs/

Like the School data of Bakker and Heskes (JMLR 2003), whose tasks are schools and whose rows are pupils: 40 tasks, 28
inputs, 10 to 60 rows a task to learn from and a third as many to choose by, each row labelled for its own task alone.
A task has a mean of its own and a direction, and noise has as much variance as what can be known. Directions are of
three kinds: around one (that of all plus as much of its own: Evgeniou and Pontil, Regularized Multi-Task Learning, KDD
2004), in three groups, or mixes of three that all have in common, with a little of their own in both. Every way is
searched with as many trials, over learning rate, width (none: a linear network) and strength of its regularizer, L2
where it has no other; then the best trial is judged on 200 rows a task. Each seed draws everything anew, the same for
all ways, so that differences are paired.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polytask as pt
from experiments import Rows, shown
from timing import ROOT, machine, write

TASKS, INPUTS, LATENT, TEST = 40, 28, 3, 200
NAMES = [f"school_{k + 1}" for k in range(TASKS)]
KINDS = ["around one", "in three groups", "mixes of three"]
MLPS = [pt.encoder.MLP([]), pt.encoder.MLP([16]), pt.encoder.MLP([64])]


class Way(NamedTuple):
    """A scheme, and the name of the regularizer that is searched."""

    sharing: Any
    regularizer: str


WAYS = {
    "one network each": Way(pt.sharing.Soft(), "l2"),
    "one network for all": Way(pt.sharing.Hard(), "l2"),
    "soft, MeanRegularized": Way(pt.sharing.Soft(), "mean_regularized"),
    "soft, TaskRelation": Way(pt.sharing.Soft(), "task_relation"),
}


def directions(kind: str, rng: np.random.Generator) -> np.ndarray:
    """A direction a task, of length 1 in the mean."""
    few, own = rng.normal(size=(LATENT, INPUTS)), rng.normal(size=(TASKS, INPUTS))
    weights = {
        "around one": few[0] + own,
        "in three groups": few[np.arange(TASKS) % LATENT] + 0.3 * own,
        "mixes of three": rng.normal(size=(TASKS, LATENT)) @ few + 0.3 * own,
    }[kind]
    scaled: np.ndarray = weights / np.linalg.norm(weights, axis=1).mean()
    return scaled


def draw(kind: str, seed: int) -> tuple[Rows, Rows, Rows]:
    """Rows to learn from, to choose by and to judge on; labels of other tasks are missing."""
    rng = np.random.default_rng(seed)
    weights = directions(kind, rng)
    means = rng.normal(size=TASKS)
    sizes = rng.integers(10, 61, TASKS)

    def rows(counts: np.ndarray) -> Rows:
        owner = np.repeat(np.arange(TASKS), counts)
        x = rng.normal(size=(len(owner), INPUTS))
        y = (x * weights[owner]).sum(axis=1) + means[owner] + rng.normal(size=len(owner))
        labels = {name: np.where(owner == k, y, np.nan).astype("float32") for k, name in enumerate(NAMES)}
        return x.astype("float32"), labels

    return rows(sizes), rows(np.maximum(sizes // 3, 4)), rows(np.full(TASKS, TEST))


def explained(model: pt.MultiTaskModel, test: Rows) -> float:
    """1 - squared error / variance, summed over all rows of all tasks: the explained variance of the School papers."""
    x, labels = test
    predicted = model.predict(x)
    known = {task: np.isfinite(y) for task, y in labels.items()}
    left = sum(float(((predicted[task] - y)[known[task]] ** 2).sum()) for task, y in labels.items())
    every = np.concatenate([y[known[task]] for task, y in labels.items()])
    return 1 - left / float(((every - every.mean()) ** 2).sum())


def run(kind: str, way: Way, seed: int, trials: int, epochs: int) -> dict[str, Any]:
    """The best trial of one way on one draw."""
    train, held_out, test = draw(kind, seed)
    tasks = [pt.Task(name, loss="mean_squared", metrics=[]) for name in NAMES]
    model = pt.MultiTaskModel(INPUTS, tasks=tasks, encoder=MLPS[0], sharing=way.sharing, seed=seed)
    space = {"lr": (1e-3, 1e-1), "encoder": MLPS, f"regularizer/{way.regularizer}": (1e-4, 10.0)}
    found = pt.search(
        model, train, space, trials=trials, validation=held_out, epochs=epochs, batch_size=64, seed=seed, progress=False
    )
    return {"explained": explained(found.model, test), "settings": {k: str(v) for k, v in found.best.items()}}


def table(found: dict[str, dict[str, list[float]]]) -> str:
    """Means and intervals, and differences to both ends, seed by seed."""
    ends = list(WAYS)[:2]
    seeds = min(len(scores) for ways in found.values() for scores in ways.values())
    lines = [f"| directions | explained variance, {seeds} seeds | test rows | minus {ends[0]} | minus {ends[1]} |"]
    lines.append("|---|---|--:|--:|--:|")
    for kind, ways in found.items():
        for name, scores in ways.items():
            cells = [shown([a - b for a, b in zip(scores, ways[end], strict=True)], 3) for end in ends]
            rest = " | | |" if name in ends else f" | {cells[0]} | {cells[1]} |"
            lines.append(f"| {kind} | {name} | {shown(scores, 3)}{rest}")
    return "\n".join(lines) + f"\n\n{machine()}"


def main() -> None:
    """Parses arguments, searches what is not yet in the file, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=81, help="of the trials that go on to the end")
    parser.add_argument("--write", action="store_true", help="put the table into docs/")
    asked = parser.parse_args()
    logging.getLogger("polytask").setLevel(logging.ERROR)
    asked.results.parent.mkdir(parents=True, exist_ok=True)
    asked.results.touch()
    done = {}
    for line in asked.results.read_text().splitlines():
        one = json.loads(line)
        done[tuple(one["key"])] = one
    found: dict[str, dict[str, list[float]]] = {kind: {name: [] for name in WAYS} for kind in KINDS}
    for seed, kind, name in itertools.product(range(asked.seeds), KINDS, WAYS):
        key = (kind, name, seed, asked.trials, asked.epochs)
        if key not in done:
            done[key] = {"key": key} | run(kind, WAYS[name], *key[2:])
            with asked.results.open("a") as file:
                file.write(json.dumps(done[key]) + "\n")
        found[kind][name].append(done[key]["explained"])
        print(f"seed {seed}, {kind}, {name}: {done[key]['explained']:.4f}, {done[key]['settings']}", flush=True)
    text = table(found)
    print(f"\n{text}")
    if asked.write:
        write(ROOT / "docs" / "benchmarks.md", text, "school")


if __name__ == "__main__":
    main()
