"""Sharing schemes and weightings on Census-Income against single-task networks: `pt.compare`, and its report.

    python benches/compare_census.py FOLDER REPORT.html [--rows 199523] [--seeds 5]

Tasks: income above 50,000, never married, and the level of education (17 classes), which are no features. Trunk of 128
and 64, batches of 1,024 rows, learning rates 0.3, 1 and 3 times Adam's default for every network, single-task ones as
well, from the first seed. Networks that serve all tasks have 30,000 parameters with hard sharing and 230,000 with the
experts of MMoE and PLE; the three single-task ones have 90,000. The official test rows are what is judged on. Each
network's result is kept in the folder, and a second call goes on.
"""

import argparse
import time
from pathlib import Path

import polytask as pt
from polytask.datasets.census import census_income

SCHEMES = ["hard", "mmoe", "ple"]
WEIGHTINGS = ["equal", "uncertainty", "upgrad"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("report", type=Path)
    parser.add_argument("--rows", type=int, default=None)
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    train, test = census_income()
    if asked.rows is not None:
        train = train.sample(asked.rows, random_state=0)
    tasks = [
        pt.Task("income", classes=2, metrics=["auroc"]),
        pt.Task("never_married", classes=2, metrics=["auroc"]),
        pt.Task("education", classes=sorted(train["education"].unique()), metrics=["accuracy"]),
    ]
    inputs = pt.Inputs.from_frame(train, exclude=[task.name for task in tasks], min_count=10)
    candidates = {}
    for scheme in SCHEMES:
        for weighting in WEIGHTINGS:
            model = pt.MultiTaskModel(inputs, tasks=tasks, encoder=pt.encoder.MLP([128, 64]), sharing=scheme)
            candidates[f"{scheme}, {weighting}"] = pt.Trainer(model, weighting=weighting)
    began = time.perf_counter()
    found = pt.compare(
        candidates, train, validation=0.2, test=test, seeds=asked.seeds, epochs=20, batch_size=1024, patience=3,
        path=asked.folder,
    )  # fmt: skip
    print(found)
    found.save(asked.report)
    print(f"{asked.report}; {(time.perf_counter() - began) / 60:.0f} minutes in this call")


if __name__ == "__main__":
    main()
