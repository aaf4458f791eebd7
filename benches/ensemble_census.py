"""An ensemble picked on the way on Census-Income, with nothing tuned by hand: AUC on its test split by the clock.

    python benches/ensemble_census.py            # 24 networks on two threads, 20 minutes
    python benches/ensemble_census.py --write    # also puts all results of the folder into docs/benchmarks.md

The run is kept in its folder and goes on where it was broken off.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path

import polytask as pt
import timing
import torch
from polytask.datasets.census import TASKS, census_income, features
from polytask.demo import TREES, split


def main() -> None:
    """Trains, evaluates, prints what came of it and writes it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, help="only so many rows of each part")
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--budget", default="18m", help="of training, as 18m or 300s; reading and judging come on top")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/ensemble_census"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    began = time.perf_counter()
    frame, test = census_income(arguments.rows)
    rows, held_out = split(frame, arguments.seed)
    numeric, categorical = features(rows)
    read = {"numeric": numeric, "categorical": categorical, "min_count": 10}
    inputs = pt.Inputs.from_frame(rows, numbers="quantile", bins=40, **read)
    tasks = [pt.Task(task, loss="binary_cross_entropy", metrics=["auroc"]) for task in TASKS]
    model = pt.MultiTaskModel(inputs, tasks=tasks, encoder=pt.encoder.MLP([256, 256]), seed=arguments.seed)
    found = pt.search(
        model,
        rows,
        ensemble="greedy",
        trials=arguments.trials,
        validation=held_out,
        budget=arguments.budget,
        seed=arguments.seed,
        path=arguments.out / f"seed-{arguments.seed}",
    )
    assert isinstance(found, pt.GreedyEnsemble)
    scores = found.evaluate(test)
    seconds = time.perf_counter() - began
    print(found)
    print(f"\nAUC on the test split {' '.join(f'{task:>16}' for task in TASKS)}")
    ours = {task: scores[task]["auroc"] for task in TASKS}
    for name, values in (("the ensemble", ours), ("boosted trees", TREES)):
        print(f"{name:<21} {' '.join(f'{values[task]:>16.4f}' for task in TASKS)}")
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\n{len(frame):,} rows, {arguments.trials} networks, {arguments.threads} threads: {seconds:.0f} s from file "
          f"to score, {gigabytes:.2f} GiB at most")  # fmt: skip
    result = {"seed": arguments.seed, "trials": arguments.trials, "rounds": len(found.rounds), "seconds": seconds,
              "gigabytes": gigabytes, **ours}  # fmt: skip
    with (arguments.out / "results.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(result) + "\n")
    if arguments.write:
        rows = [json.loads(line) for line in (arguments.out / "results.jsonl").read_text(encoding="utf-8").splitlines()]
        timing.write(timing.ROOT / "docs" / "benchmarks.md", table(rows), "ensemble_census")


def table(rows: list[dict[str, float]]) -> str:
    """A line a run."""
    found = [
        f"| seed | networks | epochs | {' | '.join(TASKS)} | seconds, file to score | GiB |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        scores = " | ".join(f"{row[task]:.4f}" for task in TASKS)
        found.append(f"| {row['seed']} | {row['trials']} | {row['rounds']} | {scores} | {row['seconds']:.0f} | "
                     f"{row['gigabytes']:.2f} |")  # fmt: skip
    found.append(f"| boosted trees | | | {' | '.join(f'{TREES[task]:.4f}' for task in TASKS)} | | |")
    return "\n".join([*found, "", timing.machine()])


if __name__ == "__main__":
    main()
