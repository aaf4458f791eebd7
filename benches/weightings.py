"""Speed and memory of weightings: Polytask's `Trainer.fit` against TorchJD and PyTorch, in one run.

    python benches/weightings.py            # everything, about half an hour
    python benches/weightings.py --quick    # fewer repetitions, fewer numbers of tasks
    python benches/weightings.py --write    # also puts the tables into docs/benchmarks.md
    python benches/weightings.py --only steps --method UPGrad

T linear heads of one output each, mean squared error, Adam, two threads. The ways of a row take turns:

* `Trainer.fit` on NumPy arrays: order of rows, gathering, losses, weights, Adam and history included;
* TorchJD, rows indexed by hand from tensors, fused Adam, losses not read: the fastest of its ways with T heads, and the
  fastest with the heads fused into one layer by hand (`torchjd_steps.py` has them; a short heat decides, row by row);
* the usual PyTorch loop, for equal weighting;
* the floor: the bare matrix products of one forward, T backwards, Gramian and combination, on buffers that exist, with
  gradient values laid out `[rows, tasks, width]`, so that both products of a layer are one plain product for all tasks.

Median, and minimum and maximum of all repetitions. Every part runs in a process of its own, every measurement of memory
as well.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from gradient_steps import TRUNKS, Problem, Way, turns, weighting
from timing import ROOT, machine, write

THREADS = 2
SMALL, LARGE = TRUNKS
TASKS = (2, 4, 8, 16, 40)

#: How many times TorchJD's speed is wanted: on the small trunk, on the large one, and there at two tasks.
AIMS = {
    **dict.fromkeys(("UPGrad", "MGDA", "AlignedMTL", "IMTLG"), (8, 1.5, 1.3)),
    **dict.fromkeys(("PCGrad", "GradVac", "CAGrad"), (10, 2, 1.5)),
    **dict.fromkeys(("NashMTL", "FairGrad"), (20, 4, 3)),
}
#: Above this floor (microseconds) a step should cost at most so many times its floor.
FLOOR_FROM, FLOOR_AIM = 300, 1.3
#: Milliseconds that weights from a 40 x 40 Gramian should take at most.
WEIGHTS_AIM = {"NashMTL": 3, "FairGrad": 3}
#: The trunk whose Jacobians exceed the budget, and the rows of its batches.
DEEP, DEEP_ROWS = [1024] * 6, 16

Row = dict[str, Any]


def steps(options: argparse.Namespace) -> Iterator[Row]:
    """Whole steps of every method against TorchJD; on the large trunk in bfloat16 as well."""
    for trunk in TRUNKS:
        for tasks in options.tasks:
            for method in options.methods:
                problem = Problem(trunk, tasks)
                rivals, names = problem.torchjd(method)
                ways = {"polytask": problem.polytask(weighting(method)), "floor": problem.floor(equal=False), **rivals}
                if trunk == LARGE and tasks >= 8:
                    ways["bfloat16"] = problem.polytask(weighting(method, gramian_precision="bfloat16"))
                times = turns(ways, options.repetitions)
                yield {"trunk": trunk, "tasks": tasks, "method": method, "ways": names, "times": times}


def equal(options: argparse.Namespace) -> Iterator[Row]:
    """Equal weighting against eager PyTorch, and a Gramian method at the representation against equal weighting."""
    for trunk in TRUNKS:
        for tasks in options.tasks:
            problem = Problem(trunk, tasks)
            ways = {
                "polytask": problem.polytask("equal"),
                "floor": problem.floor(equal=True),
                "eager": problem.eager(),
                "representation": problem.polytask(weighting("UPGrad", at="representation")),
            }
            yield {"trunk": trunk, "tasks": tasks, "times": turns(ways, options.repetitions)}


def weights(options: argparse.Namespace) -> Iterator[Row]:
    """Milliseconds for weights from a 40 x 40 Gramian, the call from Python included."""
    import numpy as np
    import torch
    from torchjd.aggregation import GramianWeightedAggregator
    from torchjd_steps import aggregator

    generator = np.random.default_rng(0)
    random = generator.standard_normal((40, 1000))
    jacobians = {
        "random": random,
        "conflicting": random + 3 * np.outer((-1.0) ** np.arange(40), generator.standard_normal(1000)),
        "low rank": random[:, :10] @ generator.standard_normal((10, 1000)),
    }
    for kind, jacobian in jacobians.items():
        gramian = jacobian @ jacobian.T
        for name in options.methods if options.method else weightings_of_a_gramian(gramian):
            ways = {"polytask": repeated(weighting(name).weights, gramian)}
            if name in AIMS and isinstance(aggregator(name, 40), GramianWeightedAggregator):
                ways["torchjd"] = repeated(aggregator(name, 40).gramian_weighting, torch.from_numpy(gramian))
            times = turns(ways, options.repetitions)
            yield {"gramian": kind, "method": name, "times": {k: [t / 1e3 for t in ts] for k, ts in times.items()}}


def repeated(call: Callable[[Any], object], argument: object) -> Way:
    """Calls so many times."""
    return lambda times: [call(argument) for _ in range(times)] and None


def weightings_of_a_gramian(gramian: object) -> Iterator[str]:
    """The classes that need no more than a Gramian."""
    from polytask import registry

    for info in registry.REGISTRY:
        if info["family"] == "weighting":
            try:
                weighting(info["class"]).weights(gramian)
            except (TypeError, ValueError):
                continue
            yield info["class"]


def memory(options: argparse.Namespace) -> Iterator[Row]:
    """Peak resident memory of training with equal weighting and with a Gramian method, beyond the Jacobian's budget."""
    for tasks in (8, 16, 32):
        row: Row = {"tasks": tasks, "jacobian": tasks * parameters(DEEP[0], DEEP) * 4 / 2**20}
        for method in ("Equal", "UPGrad"):
            command = [sys.executable, __file__, "--part", "peak", "--method", method, "--peak-tasks", str(tasks)]
            report = subprocess.run(command, capture_output=True, text=True, check=True, env=environment())
            row[method.lower()] = json.loads(report.stdout)["peak"]
        yield row


def peak(options: argparse.Namespace) -> Iterator[Row]:
    """Peak resident memory (MiB) of this process after a few steps."""
    import resource

    import numpy as np
    import polytask as pt

    tasks = options.peak_tasks
    generator = np.random.default_rng(0)
    x = generator.standard_normal((DEEP_ROWS * 4, DEEP[0]), dtype=np.float32)
    targets = list(generator.standard_normal((tasks, len(x)), dtype=np.float32))
    names = [pt.Task(f"task {k}") for k in range(tasks)]
    model = pt.MultiTaskModel(DEEP[0], tasks=names, encoder=pt.encoder.MLP(DEEP), seed=0)
    trainer = pt.Trainer(model, lr=1e-3, weighting=weighting(options.method))
    trainer.fit((x, *targets), epochs=2, batch_size=DEEP_ROWS, progress=False, train_metrics=False)
    yield {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def parameters(inputs: int, widths: list[int]) -> int:
    """Parameters of a perceptron."""
    return sum((into + 1) * out for into, out in itertools.pairwise([inputs, *widths]))


def number(times: list[float]) -> str:
    """Median (minimum-maximum)."""
    return f"{statistics.median(times):.4g} ({min(times):.4g}-{max(times):.4g})"


def ratio(a: list[float], b: list[float], aim: str = "") -> str:
    """How many times the median of `b` goes into that of `a`."""
    return f"**{statistics.median(a) / statistics.median(b):.2f}x**" + (f" (aim {aim})" if aim else "")


def of_floor(ours: list[float], bare: list[float]) -> str:
    """Times the floor, with the aim where there is one."""
    aim = f" (aim {FLOOR_AIM})" if statistics.median(bare) > FLOOR_FROM else ""
    return f"{statistics.median(ours) / statistics.median(bare):.2f}{aim}"


def table(header: list[str], rows: list[list[str]], words: int = 1) -> str:
    """A Markdown table whose first columns hold words."""
    lines = [header, ["---"] * words + ["--:"] * (len(header) - words), *rows]
    return "\n".join("| " + " | ".join(each) + " |" for each in lines)


def steps_table(rows: list[Row]) -> str:
    """Microseconds a step."""
    header = ["trunk, batch", "method", "tasks", "Polytask", "floor", "TorchJD", "heads fused by hand", "of floor"]
    cells = []
    for row in rows:
        times, small, tasks = row["times"], row["trunk"] == SMALL, row["tasks"]
        aim = AIMS[row["method"]][0 if small else 2 if tasks == 2 else 1]
        line = [row["trunk"], row["method"], str(tasks), number(times["polytask"]), number(times["floor"])]
        for kind in ("torchjd", "fused"):
            line.append(f"{number(times[kind])}, {row['ways'][kind].replace(', one head', '')}")
        line.append(of_floor(times["polytask"], times["floor"]))
        line.append(ratio(times["torchjd"], times["polytask"], f"{aim:g}x"))
        line.append(ratio(times["fused"], times["polytask"]))
        cells.append(line)
    return table([*header, "vs TorchJD", "vs fused"], cells, words=2)


def bfloat16_table(rows: list[Row]) -> str:
    """Microseconds a step with the per-task products in bfloat16."""
    header = ["trunk, batch", "method", "tasks", "bfloat16", "float32", "TorchJD", "vs float32", "vs TorchJD"]
    cells = []
    for row in rows:
        times = row["times"]
        if "bfloat16" in times:
            line = [row["trunk"], row["method"], str(row["tasks"])]
            line += [number(times[way]) for way in ("bfloat16", "polytask", "torchjd")]
            line.append(ratio(times["polytask"], times["bfloat16"]))
            cells.append([*line, ratio(times["torchjd"], times["bfloat16"], "3x")])
    return table(header, cells, words=2)


def equal_table(rows: list[Row]) -> str:
    """Microseconds a step of equal weighting, and what weights at the representation add."""
    header = ["trunk, batch", "tasks", "equal", "floor", "PyTorch", 'UPGrad, `at="representation"`']
    cells = []
    for row in rows:
        times = row["times"]
        line = [row["trunk"], str(row["tasks"])]
        line += [number(times[way]) for way in ("polytask", "floor", "eager", "representation")]
        line.append(of_floor(times["polytask"], times["floor"]))
        line.append(ratio(times["eager"], times["polytask"], "4x" if row["trunk"] == SMALL else ""))
        cells.append([*line, ratio(times["representation"], times["polytask"], "at most 1.3x")])
    return table([*header, "of floor", "vs PyTorch", "representation vs equal"], cells)


def weights_table(rows: list[Row]) -> str:
    """Milliseconds a call of `.weights(gramian)`."""
    header = ["40 x 40 Gramian", "method", "Polytask", "TorchJD", "aim"]
    cells = []
    for row in rows:
        times = row["times"]
        rival = number(times["torchjd"]) if "torchjd" in times else "-"
        line = [row["gramian"], row["method"], number(times["polytask"]), rival]
        cells.append([*line, f"< {WEIGHTS_AIM.get(row['method'], 1)}"])
    return table(header, cells, words=2)


def memory_table(rows: list[Row]) -> str:
    """MiB."""
    header = ["tasks", "the Jacobian would take", "peak, equal weighting", "peak, UPGrad", "difference"]
    cells = [
        [
            f"{number:.0f}"
            for number in (row["tasks"], row["jacobian"], row["equal"], row["upgrad"], row["upgrad"] - row["equal"])
        ]
        for row in rows
    ]
    return table(header, cells, words=0)


#: What is measured, and the tables it fills: title, what follows it, the table.
PARTS = {
    "steps": (
        steps,
        [
            ("Steps with a gradient method, microseconds", steps_table),
            ('The same with `gramian_precision="bfloat16"`', bfloat16_table),
        ],
    ),
    "equal": (equal, [("Equal weighting, microseconds a step", equal_table)]),
    "weights": (weights, [("Weights from a Gramian, milliseconds a call", weights_table)]),
    "memory": (
        memory,
        [(f"Peak memory, MiB, trunk of {len(DEEP)} layers of {DEEP[0]}, {DEEP_ROWS} rows", memory_table)],
    ),
    "peak": (peak, []),
}


def environment() -> dict[str, str]:
    """Two threads."""
    return {**os.environ, "OMP_NUM_THREADS": str(THREADS), "MKL_NUM_THREADS": str(THREADS)}


def child(options: argparse.Namespace) -> None:
    """Runs one part and prints each row as a line of JSON."""
    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(THREADS)
    for row in PARTS[options.part][0](options):
        print(json.dumps(row), flush=True)


def main() -> None:
    """Parses arguments, runs a process a part, prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 repetitions; 2, 8 and 40 tasks")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    parser.add_argument("--only", choices=[part for part in PARTS if part != "peak"], help="this part alone")
    parser.add_argument("--method", choices=[*AIMS, "Equal"], help="this method alone")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--peak-tasks", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.repetitions = 3 if options.quick else options.repetitions
    options.tasks = (2, 8, 40) if options.quick else TASKS
    options.methods = [options.method] if options.method else list(AIMS)
    if options.part:
        child(options)
        return
    texts = []
    for part, (_, tables) in PARTS.items():
        if not tables or (options.only and part != options.only):
            continue
        rows = []
        command = [sys.executable, *sys.argv, "--part", part]
        with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout or ():
                rows.append(json.loads(line))
                print(tables[0][1](rows[-1:]).splitlines()[-1], flush=True)
        if process.returncode:
            raise SystemExit(process.returncode)
        texts += [f"### {title}\n\n{show(rows)}" for title, show in tables]
    text = "\n\n".join([*texts, machine()])
    print(f"\n{text}")
    if options.write:
        write(ROOT / "docs" / "benchmarks.md", text, "weightings")


if __name__ == "__main__":
    main()
