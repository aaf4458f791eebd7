"""Does sharing less pay the more, the less tasks have in common? The experiment of the MMoE paper (KDD 2018).

    python benches/correlation.py              # 10 seeds
    python benches/correlation.py --write      # also puts table and picture into docs/
    python benches/correlation.py --quick      # whether it runs

Two regressions of a given correlation on 100 inputs. All networks have about equally many parameters, and the sizes
of the paper: experts of 16 units, 8 of them, towers of 8. Learning rate and strength of the regularizer are chosen
for each scheme and correlation on validation rows of three seeds that do not count; the epoch on those of the seed at
hand. Each seed has its own directions, rows and initial weights, the same for all schemes, so that differences are
paired.

10,000 rows to train on: a network of one task then explains about nine tenths of the variance and is still far from the
noise, so that what a scheme does with its parameters counts.
"""

from __future__ import annotations

import argparse
import statistics
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, NamedTuple

import polytask as pt
from experiments import error, interval, part, shown, train
from polytask.datasets import correlated_tasks
from timing import ROOT, machine, write

CORRELATIONS = [0.0, 0.5, 0.9, 1.0]
RATES = [1e-3, 3e-3, 1e-2]
STRENGTHS = [1e-3, 1e-2]
#: Seeds that choose settings and are not measured.
CHOOSING = [1000, 1001, 1002]
TRAIN, HELD_OUT, TEST = 10_000, 2_000, 10_000


class Setting(NamedTuple):
    """What is chosen on validation rows: the learning rate, and the strength of a regularizer if there is one."""

    lr: float
    strength: float = 0.0


class Scheme(NamedTuple):
    """A way of sharing, and the width that gives it as many parameters as the others."""

    sharing: Any
    width: int
    regularizer: Any = None

    def settings(self) -> list[Setting]:
        """The grid."""
        return [Setting(lr, strength) for lr in RATES for strength in (STRENGTHS if self.regularizer else [0.0])]

    def model(self, inputs: int, seed: int) -> pt.MultiTaskModel:
        """Its network."""
        return pt.MultiTaskModel(
            inputs,
            tasks=[pt.Task(name, loss="mean_squared", metrics=[]) for name in ("a", "b")],
            encoder=pt.encoder.MLP([self.width]),
            sharing=self.sharing,
            head=pt.head.Tower([8]),
            seed=seed,
        )


SCHEMES = {
    "Hard": Scheme(pt.sharing.Hard(), 126),
    "MMoE": Scheme(pt.sharing.MMoE(experts=8), 16),
    "CGC": Scheme(pt.sharing.CGC(shared_experts=4, task_experts=2), 16),
    "Soft": Scheme(pt.sharing.Soft(), 68),
    "Soft, TaskRelation": Scheme(pt.sharing.Soft(), 68, pt.regularizer.TaskRelation),
}


def run(scheme: Scheme, correlation: float, setting: Setting, seed: int, sizes: list[int], epochs: int) -> Any:
    """Loss on the validation rows, error on the test rows, parameters."""
    x, labels = correlated_tasks(sum(sizes), correlation, seed=seed)
    rows = part(x, labels, 0, sizes[0])
    held_out = part(x, labels, sizes[0], sizes[0] + sizes[1])
    test = part(x, labels, sizes[0] + sizes[1], None)
    model = scheme.model(x.shape[1], seed)
    regularizers = [scheme.regularizer(strength=setting.strength)] if scheme.regularizer else []
    how = {"lr": setting.lr, "seed": seed, "regularizers": regularizers, "epochs": epochs, "batch_size": 256}
    loss = train(model, rows, held_out, **how)
    return loss, error(model, test), model.summary().parameters


def chosen(scheme: Scheme, correlation: float, sizes: list[int], epochs: int) -> Setting:
    """The setting of the lowest mean loss on validation rows."""

    def loss(setting: Setting) -> float:
        return statistics.mean(run(scheme, correlation, setting, seed, sizes, epochs)[0] for seed in CHOOSING)

    return min(scheme.settings(), key=loss)


def measured(name: str, correlation: float, seeds: int, sizes: list[int], epochs: int) -> Any:
    """The setting chosen, the errors seed by seed, parameters."""
    scheme = SCHEMES[name]
    setting = chosen(scheme, correlation, sizes, epochs)
    runs = [run(scheme, correlation, setting, seed, sizes, epochs) for seed in range(seeds)]
    return setting, [each[1] for each in runs], runs[0][2]


def main() -> None:
    """Parses arguments, trains, prints the table, draws the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=200, help="at most so many")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--quick", action="store_true", help="two seeds, few rows and epochs: whether it runs")
    parser.add_argument("--write", action="store_true", help="put table and picture into docs/")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.epochs = 2, 3
    sizes = [1000, 200, 500] if arguments.quick else [TRAIN, HELD_OUT, TEST]
    errors: dict[str, dict[float, list[float]]] = {name: {} for name in SCHEMES}
    settings: dict[str, list[Setting]] = {name: [] for name in SCHEMES}
    counts = {}
    cells = [(name, correlation) for correlation in CORRELATIONS for name in SCHEMES]
    with ProcessPoolExecutor(arguments.jobs, get_context("spawn")) as pool:
        jobs = [pool.submit(measured, *cell, arguments.seeds, sizes, arguments.epochs) for cell in cells]
        for (name, correlation), job in zip(cells, jobs, strict=True):
            setting, errors[name][correlation], counts[name] = job.result()
            settings[name].append(setting)
            print(f"correlation {correlation}: {name} {shown(errors[name][correlation])} ({setting})", flush=True)
    text = table(errors, settings, counts)
    print(f"\n{text}")
    if arguments.write:
        write(ROOT / "docs" / "benchmarks.md", text, "correlation")
        draw(errors)


def gaps(errors: dict[str, dict[float, list[float]]], name: str, correlation: float) -> list[float]:
    """How much lower the error is than that of Hard, seed by seed."""
    pairs = zip(errors["Hard"][correlation], errors[name][correlation], strict=True)
    return [hard - other for hard, other in pairs]


def table(errors: dict[str, dict[float, list[float]]], settings: dict[str, list[Setting]], counts: Any) -> str:
    """Errors, gaps to Hard, and how the gap grows."""
    seeds = len(errors["Hard"][CORRELATIONS[0]])
    head = " | ".join(f"correlation {c:g}" for c in CORRELATIONS)
    lines = [f"| squared error / variance, {seeds} seeds | parameters | {head} |"]
    lines.append("|---|--:|" + "--:|" * len(CORRELATIONS))
    for name, of in errors.items():
        lines.append(f"| {name} | {counts[name]:,} | " + " | ".join(shown(of[c]) for c in CORRELATIONS) + " |")
    lines += ["", f"| Hard minus ... | {head} | gap at 0 minus gap at 1 |", "|---|" + "--:|" * (len(CORRELATIONS) + 1)]
    for name in [name for name in errors if name != "Hard"]:
        cells = [gaps(errors, name, c) for c in CORRELATIONS]
        growth = [first - last for first, last in zip(cells[0], cells[-1], strict=True)]
        lines.append(f"| {name} | " + " | ".join(shown(cell) for cell in [*cells, growth]) + " |")
    rates = "; ".join(f"{name} " + ", ".join(described(each) for each in of) for name, of in settings.items())
    return "\n".join(lines) + f"\n\nLearning rates (and strengths) chosen, by correlation: {rates}.\n\n{machine()}"


def described(setting: Setting) -> str:
    """As in the note under the table."""
    return f"{setting.lr:g}" + (f" ({setting.strength:g})" if setting.strength else "")


def draw(errors: dict[str, dict[float, list[float]]]) -> None:
    """Errors, and gaps to Hard, over correlations."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for k, (name, of) in enumerate(errors.items()):
        shift = [c + 0.008 * (k - len(errors) / 2) for c in CORRELATIONS]
        left.plot(shift, [statistics.mean(of[c]) for c in CORRELATIONS], "o-", color=f"C{k}", label=name)
        if name != "Hard":
            means, halves = zip(*(interval(gaps(errors, name, c)) for c in CORRELATIONS), strict=True)
            right.errorbar(shift, means, halves, fmt="o-", capsize=3, color=f"C{k}", label=name)
    left.set(xlabel="cosine of the tasks' directions", ylabel="squared error / variance", title="held-out error")
    right.axhline(0, color="0.5", linewidth=0.8)
    right.set(xlabel="cosine of the tasks' directions", title="Hard minus scheme, 95 % interval over paired seeds")
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.invert_xaxis()
    left.legend(fontsize="small")
    figure.savefig(ROOT / "docs" / "correlation.png", dpi=110)


if __name__ == "__main__":
    main()
