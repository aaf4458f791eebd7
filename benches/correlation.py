"""Do experts suffer less than a shared bottom when tasks have less in common? The MMoE paper's experiment (KDD 2018).

    python benches/correlation.py [target/correlation.jsonl] [--seeds 100] [--schemes MMoE] [--jobs 2]
    python benches/correlation.py --variants [NAME ...]   # other data and steps, 10 seeds each
    python benches/correlation.py --write                 # puts tables and picture of what is there into docs/
    python benches/correlation.py --quick                 # whether it runs

Two regressions of a given correlation on 100 inputs, `y_t = w_t x + sum_i sin(alpha_i w_t x + beta_i) + e_t`, and three
networks of the paper's sizes: 113 shared units, or 8 experts of 16 with one gate (OMoE) or one a task (MMoE); towers of
8; Adam at 0.0001, 0.001 or 0.01, whichever has the lowest error after the last step, for a scheme and correlation, on
three seeds that do not count. The paper does not print `alpha` and `beta`; they, `c`, the number of sines and the noise
are those of the generator that Google Research published in 2020. Rows, batch and steps are ours.

Each seed has its own directions, rows, noise and initial weights, the same for all schemes; and for all correlations
but for the second task's direction: differences are paired. Since each network has data of its own, networks are runs
of their own, side by side in processes. Errors are on rows held out, by which nothing is chosen, after the last step.
Each result is a line of the file as soon as it is there; a second call goes on where the first was broken off.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polytask as pt
from experiments import Rows, interval, part, shown
from polytask.datasets import correlated_tasks
from timing import ROOT, machine, write

CORRELATIONS = [0.5, 0.9, 1.0]
RATES = [1e-4, 1e-3, 1e-2]
#: Seeds that choose rates and are not measured.
CHOOSING = [1000, 1001, 1002]
HELD_OUT, BATCH = 5_000, 64


class Data(NamedTuple):
    """What the paper does not print: the curve, and how many rows are gone through how often."""

    terms: int = 10
    scale: float = 1.0
    noise: float = 0.01
    drawn: bool = False
    rows: int = 100_000
    epochs: int = 12


MAIN = "main"
DATA = {
    MAIN: Data(),
    "4 sines": Data(terms=4),
    "noise 0.1": Data(noise=0.1),
    "10,000 rows": Data(rows=10_000, epochs=120),
    "5 drawn sines, c 0.3, noise 0.1": Data(terms=5, scale=0.3, noise=0.1, drawn=True),
    "4 drawn sines, c 3": Data(terms=4, scale=3.0, drawn=True),
    "twice the steps": Data(epochs=24),
}
VARIANTS = [name for name in DATA if name != MAIN]


class Scheme(NamedTuple):
    """A way of sharing, and the paper's width of what is shared."""

    sharing: Any
    width: int

    def model(self, seed: int) -> pt.MultiTaskModel:
        """Its network."""
        return pt.MultiTaskModel(
            100,
            tasks=[pt.Task(name, loss="mean_squared", metrics=[]) for name in ("a", "b")],
            encoder=pt.encoder.MLP([self.width]),
            sharing=self.sharing,
            head=pt.head.Tower([8]),
            seed=seed,
        )


BOTTOM = "shared bottom"
SCHEMES = {
    BOTTOM: Scheme(pt.sharing.Hard(), 113),
    "OMoE": Scheme(pt.sharing.OMoE(experts=8), 16),
    "MMoE": Scheme(pt.sharing.MMoE(experts=8), 16),
}


class Run(NamedTuple):
    """One training."""

    data: str
    seed: int
    correlation: float
    scheme: str
    rate: float


@functools.lru_cache(1)
def rows_of(data: Data, seed: int, correlation: float) -> tuple[Rows, Rows]:
    """Rows to train on and held out: the library's tasks without sines and noise, and these added."""
    count = data.rows + HELD_OUT
    x, along = correlated_tasks(count, correlation, terms=0, scale=data.scale, noise=0.0, seed=seed)
    random = np.random.default_rng([seed, 1])
    alpha, beta = np.arange(1, data.terms + 1), np.arange(data.terms) ** 2
    if data.drawn:
        alpha, beta = random.standard_normal((2, data.terms))
    labels = {
        task: w_x + np.sin(w_x[:, None] * alpha + beta).sum(1) + data.noise * random.standard_normal(count)
        for task, w_x in along.items()
    }
    return part(x, labels, 0, data.rows), part(x, labels, data.rows, None)


def trained(run: Run) -> dict[str, Any]:
    """What was run, and the squared error over the labels' variance, the mean over tasks, after each epoch."""
    data = DATA[run.data]
    rows, held_out = rows_of(data, run.seed, run.correlation)
    model = SCHEMES[run.scheme].model(run.seed)
    how = {"epochs": data.epochs, "batch_size": BATCH, "progress": False, "train_metrics": False}
    history = pt.Trainer(model, lr=run.rate, threads=1, seed=run.seed).fit(rows, validation=held_out, **how)
    errors = [np.array(history[f"validation/{task}/loss"]) / y.var() for task, y in held_out[1].items()]
    return {
        **run._asdict(),
        "errors": [float(f"{each:.5g}") for each in np.mean(errors, axis=0)],
        "labels": round(float(np.corrcoef(list(held_out[1].values()))[0, 1]), 4),
        "parameters": model.summary().parameters,
    }


def group(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Runs on the same data."""
    return [trained(run) for run in runs]


class Results:
    """What is in the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.of: dict[Run, dict[str, Any]] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                each = json.loads(line)
                self.of[Run(*(each[field] for field in Run._fields))] = each

    def get(self, runs: Sequence[Run], jobs: int) -> None:
        """Trains those that are not there, in groups of the same data, and writes each down."""
        groups: dict[Any, list[Run]] = {}
        for run in runs:
            if run not in self.of:
                groups.setdefault(run[:3], []).append(run)
        if not groups:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            for found in _mapped(list(groups.values()), jobs):
                for each in found:
                    self.of[Run(*(each[field] for field in Run._fields))] = each
                    file.write(json.dumps(each) + "\n")
                file.flush()

    def rate(self, data: str, scheme: str, correlation: float) -> float | None:
        """The rate of the lowest mean error after the last step on the seeds that choose; none if they have not run."""
        tried: dict[float, list[float]] = {}
        for run, each in self.of.items():
            if run.data == data and run.scheme == scheme and run.correlation == correlation and run.seed in CHOOSING:
                tried.setdefault(run.rate, []).append(each["errors"][-1])
        return min(tried, key=lambda rate: statistics.mean(tried[rate])) if tried else None

    def curves(self, data: str, scheme: str, correlation: float) -> dict[int, list[float]]:
        """Errors after each epoch at the rate that was chosen, by seed."""
        rate = self.rate(data, scheme, correlation)
        wanted = (data, correlation, scheme, rate)
        found = {
            run.seed: each["errors"]
            for run, each in self.of.items()
            if (run.data, run.correlation, run.scheme, run.rate) == wanted and run.seed not in CHOOSING
        }
        return dict(sorted(found.items()))

    def seeds(self, data: str, scheme: str, correlations: Sequence[float]) -> list[int]:
        """The measured seeds that a scheme has at all these correlations."""
        return sorted(set.intersection(*(set(self.curves(data, scheme, c)) for c in correlations)))

    def last(self, data: str, scheme: str, correlation: float, seeds: Sequence[int]) -> list[float]:
        """Errors after the last step, in the order of seeds."""
        curves = self.curves(data, scheme, correlation)
        return [curves[seed][-1] for seed in seeds]


def _mapped(groups: Sequence[Sequence[Run]], jobs: int) -> Iterator[list[dict[str, Any]]]:
    if jobs == 1:
        yield from map(group, groups)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        for done in as_completed([pool.submit(group, runs) for runs in groups]):
            yield done.result()


def measure(results: Results, data: str, seeds: int, schemes: Sequence[str], rates: Sequence[float], jobs: int) -> None:
    """Chooses rates, then trains so many networks a scheme and correlation."""
    correlations = _correlations(data)
    cells = [(c, scheme) for c in correlations for scheme in schemes]
    results.get([Run(data, seed, *cell, rate) for seed in CHOOSING for cell in cells for rate in rates], jobs)
    chosen = {cell: results.rate(data, cell[1], cell[0]) for cell in cells}
    results.get([Run(data, seed, *cell, rate) for seed in range(seeds) for cell, rate in chosen.items() if rate], jobs)


def _correlations(data: str) -> list[float]:
    return CORRELATIONS if data == MAIN else [CORRELATIONS[0], CORRELATIONS[-1]]


def minus(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """Differences seed by seed."""
    return [a - b for a, b in zip(first, second, strict=True)]


def table(results: Results, steps: int) -> str:
    """Errors, how they grow, gaps to the shared bottom, growth on the way, variants."""
    low, high = CORRELATIONS[0], CORRELATIONS[-1]
    heads = " | ".join(f"correlation {c:g}" for c in CORRELATIONS)
    rule = "--:|" * len(CORRELATIONS)
    each = {scheme: results.seeds(MAIN, scheme, CORRELATIONS) for scheme in SCHEMES}
    lines = [f"| squared error / variance | parameters | seeds | {heads} | {low:g} minus {high:g} | rates |"]
    lines.append(f"|---|--:|--:|{rule}--:|---|")
    for scheme, seeds in each.items():
        of = [results.last(MAIN, scheme, c, seeds) for c in CORRELATIONS]
        rates = ", ".join(f"{results.rate(MAIN, scheme, c):g}" for c in CORRELATIONS)
        count = next(found["parameters"] for run, found in results.of.items() if run.scheme == scheme)
        cells = " | ".join(shown(cell) for cell in [*of, minus(of[0], of[-1])])
        lines.append(f"| {scheme} | {count:,} | {len(seeds)} | {cells} | {rates} |")
    lines += ["", f"| difference, seed by seed | {heads} | at {low:g} minus at {high:g} |", f"|---|{rule}--:|"]
    for first, second in [(BOTTOM, "OMoE"), (BOTTOM, "MMoE"), ("OMoE", "MMoE")]:
        both = sorted(set(each[first]) & set(each[second]))
        of = [minus(*(results.last(MAIN, scheme, c, both) for scheme in (first, second))) for c in CORRELATIONS]
        cells = " | ".join(shown(cell) for cell in [*of, minus(of[0], of[-1])])
        lines.append(f"| {first} minus {second} | {cells} |")
    lines += ["", f"| deviation over seeds | {heads} |", f"|---|{rule}"]
    for scheme, seeds in each.items():
        of = [statistics.stdev(results.last(MAIN, scheme, c, seeds)) for c in CORRELATIONS]
        lines.append(f"| {scheme} | " + " | ".join(f"{deviation:.4f}" for deviation in of) + " |")
    epochs = DATA[MAIN].epochs
    looks = [max(1, epochs * k // 6) for k in (1, 2, 3, 4, 6)]
    heads = " | ".join(f"{steps * look:,} steps" for look in looks)
    lines += ["", f"| error at {low:g} minus at {high:g}, after | {heads} |", "|---|" + "--:|" * len(looks)]
    for scheme, seeds in each.items():
        curves = [results.curves(MAIN, scheme, c) for c in (low, high)]
        of = [minus(*([curve[seed][look - 1] for seed in seeds] for curve in curves)) for look in looks]
        lines.append(f"| {scheme} | " + " | ".join(shown(cell) for cell in of) + " |")
    lines += ["", f"| {BOTTOM} minus MMoE, after | {heads} |", "|---|" + "--:|" * len(looks)]
    both = sorted(set(each[BOTTOM]) & set(each["MMoE"]))
    gaps = {}
    for c in (low, high):
        curves = [results.curves(MAIN, scheme, c) for scheme in (BOTTOM, "MMoE")]
        gaps[c] = [minus(*([curve[seed][look - 1] for seed in both] for curve in curves)) for look in looks]
        lines.append(f"| correlation {c:g} | " + " | ".join(map(shown, gaps[c])) + " |")
    growth = [minus(*pair) for pair in zip(*gaps.values(), strict=True)]
    lines.append(f"| at {low:g} minus at {high:g} | " + " | ".join(map(shown, growth)) + " |")
    lines += ["", *variants(results)]
    return "\n".join(lines) + f"\n\n{tried(results)}\n\n{labels(results)}\n\n{machine()}"


def variants(results: Results) -> list[str]:
    """What changes with data and steps, of the variants that have run."""
    low, high = CORRELATIONS[0], CORRELATIONS[-1]
    heads = [f"{scheme} at {low:g}, {low:g} minus {high:g}" for scheme in SCHEMES]
    heads.append(f"{BOTTOM} minus MMoE at {low:g}")
    lines = ["| variant, seeds | " + " | ".join(heads) + " |", "|---|" + "--:|" * len(heads)]
    for name in VARIANTS:
        seeds = sorted(set.intersection(*(set(results.seeds(name, each, (low, high))) for each in SCHEMES)))
        if len(seeds) < 2:
            continue
        of = {scheme: [results.last(name, scheme, c, seeds) for c in (low, high)] for scheme in SCHEMES}
        cells = [f"{statistics.mean(pair[0]):.4f}, {shown(minus(*pair))}" for pair in of.values()]
        cells.append(shown(minus(of[BOTTOM][0], of["MMoE"][0])))
        lines.append(f"| {name}, {len(seeds)} | " + " | ".join(cells) + " |")
    return lines if len(lines) > 2 else []


def tried(results: Results) -> str:
    """Errors of the seeds that choose, by rate."""
    each = []
    for scheme in SCHEMES:
        for c in CORRELATIONS:
            of = [
                statistics.mean(results.of[Run(MAIN, seed, c, scheme, rate)]["errors"][-1] for seed in CHOOSING)
                for rate in RATES
            ]
            each.append(f"{scheme} at {c:g} " + ", ".join(f"{error:.4f}" for error in of))
    rates = ", ".join(f"{rate:g}" for rate in RATES)
    return f"Errors of the seeds that choose, at rates of {rates}: " + "; ".join(each) + "."


def labels(results: Results) -> str:
    """How the labels correlate, as the paper's figure 2."""
    found = [
        statistics.mean(each["labels"] for run, each in results.of.items() if run[:1] + run[2:3] == (MAIN, c))
        for c in CORRELATIONS
    ]
    of = ", ".join(f"{value:.2f} at {c:g}" for value, c in zip(found, CORRELATIONS, strict=True))
    return f"Pearson correlation of the labels: {of}."


def draw(results: Results, steps: int) -> None:
    """Errors over steps: the shared bottom over correlations, then all schemes at each."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 4, figsize=(15, 3.8), layout="constrained", sharey=True)

    def line(axis: Any, scheme: str, correlation: float, color: str, label: str) -> None:
        curves = np.array(list(results.curves(MAIN, scheme, correlation).values()))
        means, halves = (np.array(of) for of in zip(*map(interval, curves.T), strict=True))
        x = steps * np.arange(1, len(means) + 1) / 1000
        axis.plot(x, means, color=color, label=label)
        axis.fill_between(x, means - halves, means + halves, color=color, alpha=0.25, linewidth=0)

    for k, correlation in enumerate(CORRELATIONS):
        line(axes[0], BOTTOM, correlation, f"C{k + 3}", f"correlation {correlation:g}")
        for j, scheme in enumerate(SCHEMES):
            line(axes[k + 1], scheme, correlation, f"C{j}", scheme)
        axes[k + 1].set_title(f"correlation {correlation:g}")
    axes[0].set(title=BOTTOM, ylabel="squared error / variance, rows held out", yscale="log")
    for axis in axes:
        axis.set_xlabel("thousand steps")
        axis.grid(alpha=0.3, which="both")
        axis.legend(fontsize="small")
    figure.savefig(ROOT / "docs" / "correlation.png", dpi=110)


def main() -> None:
    """Parses arguments, trains what is not there, prints the tables, draws the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path, default=ROOT / "target" / "correlation.jsonl")
    parser.add_argument("--seeds", type=int, default=100, help="networks of each scheme and correlation")
    parser.add_argument("--schemes", nargs="+", choices=SCHEMES, default=list(SCHEMES), help="train these alone")
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, help="train these, all by default, with 10 seeds")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--quick", action="store_true", help="few seeds, rows and epochs: whether it runs")
    parser.add_argument("--write", action="store_true", help="train nothing; put tables and picture into docs/")
    arguments = parser.parse_args()
    if arguments.quick:
        DATA.update({MAIN: Data(rows=1000, epochs=6), VARIANTS[0]: Data(terms=4, rows=1000, epochs=6)})
        arguments.path = arguments.path.with_suffix(".quick.jsonl")
    results = Results(arguments.path)
    if not arguments.write:
        if arguments.variants is None or arguments.quick:
            seeds = 3 if arguments.quick else arguments.seeds
            measure(results, MAIN, seeds, arguments.schemes, RATES, arguments.jobs)
        if arguments.variants is not None:
            for name in VARIANTS[:1] if arguments.quick else arguments.variants or VARIANTS:
                measure(results, name, 3 if arguments.quick else 10, arguments.schemes, RATES[1:], arguments.jobs)
    steps = -(-DATA[MAIN].rows // BATCH)
    text = table(results, steps)
    print(f"\n{text}")
    if arguments.write:
        write(ROOT / "docs" / "benchmarks.md", text, "correlation")
        draw(results, steps)


if __name__ == "__main__":
    main()
