"""The rows that `make compare-times` measures: steps of the networks of `bench-speed` and `bench-weightings`."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parents[2] / "benches"))
import gradient_steps
import speed
import weightings

#: Takes a number of steps.
Way = Callable[[int], object]


@dataclass
class Row:
    """What is measured, on so many threads; steps come in multiples of an epoch."""

    name: str
    threads: int
    epoch: int
    make: Callable[[], Way]

    def __str__(self) -> str:
        return f"{self.name}; {self.threads} thread{'s' * (self.threads > 1)}"


def rows() -> Iterator[Row]:
    """All of them."""
    small, large = gradient_steps.TRUNKS
    for case in speed.CASES:
        yield Row(case.name, case.threads, speed.BATCHES, functools.partial(network, case))
    yield Row("Census-Income", 2, speed.BATCHES, census)
    for trunk, tasks, threads, methods in (
        (small, 2, 1, ("Equal", "UPGrad")),
        (small, 8, 1, ("Equal", "UPGrad", *weightings.AIMS)),
        (small, 40, 1, ("Equal", "UPGrad", "PCGrad")),
        (large, 8, 1, ("Equal", "UPGrad", "PCGrad", "NashMTL")),
        (large, 40, 2, ("Equal", "UPGrad")),
    ):
        for method in dict.fromkeys(methods):
            yield gradient(trunk, tasks, threads, method)
    yield gradient(small, 8, 1, "UPGrad", at="representation")
    yield gradient(large, 40, 2, "UPGrad", at="representation")
    yield gradient(large, 8, 1, "UPGrad", gramian_precision="bfloat16")
    yield Row(f"{len(weightings.DEEP)} layers of {weightings.DEEP[0]}, 8 tasks, UPGrad", 2, 1, deep)
    for method in ("UPGrad", "MGDA", "NashMTL"):
        yield Row(f"weights from a 40 x 40 Gramian, {method}", 1, 1, functools.partial(weights, method))


def network(case: speed.Case) -> Way:
    """A row of `bench-speed`."""
    import polytask as pt

    generator = np.random.default_rng(0)
    rows = case.batch * speed.BATCHES
    x = generator.standard_normal((rows, case.inputs), dtype=np.float32)
    targets = [generator.integers(0, width, rows) for width in case.heads]
    model = pt.MultiTaskModel(input_size=case.inputs, hidden_size=case.hidden, output_sizes=case.heads, seed=0)
    return training(pt.Trainer(model, lr=1e-3, seed=0), (x, *targets), case.batch, case.metrics)


def census() -> Way:
    """The first rows of Census-Income, on the network of `bench-speed`."""
    import polytask as pt
    from polytask.datasets.census import TASKS, census_income, features

    batch = 1024
    train, _ = census_income(batch * speed.BATCHES)
    numeric, categorical = features(train)
    tasks = [pt.Task(task, loss="binary_cross_entropy") for task in TASKS]
    columns = pt.Inputs.from_frame(train, numeric=numeric, categorical=categorical)
    x = dict(zip(("numeric", "categorical"), columns.transform(train, tasks, "`train`"), strict=True))
    inputs = pt.Inputs(columns.numeric, columns.categorical)
    model = pt.MultiTaskModel(inputs, tasks=tasks, encoder=pt.encoder.MLP([256, 128]), seed=0)
    targets = {task: train[task].to_numpy() for task in TASKS}
    return training(pt.Trainer(model, lr=1e-3, seed=0), (x, targets), batch)


def gradient(trunk: str, tasks: int, threads: int, method: str, **arguments: str) -> Row:
    """A row of `bench-weightings`."""

    def make() -> Way:
        weighting = gradient_steps.weighting(method, **arguments)
        return gradient_steps.Problem(trunk, tasks).polytask(weighting)

    name = ", ".join([trunk, f"{tasks} tasks", method, *(f"{key}={value}" for key, value in arguments.items())])
    return Row(name, threads, gradient_steps.BATCHES, make)


def deep() -> Way:
    """A trunk whose Jacobian is too large to be kept whole."""
    import polytask as pt

    width, rows = weightings.DEEP[0], weightings.DEEP_ROWS
    generator = np.random.default_rng(0)
    x = generator.standard_normal((rows, width), dtype=np.float32)
    targets = list(generator.standard_normal((8, rows), dtype=np.float32))
    tasks = [pt.Task(f"task {k}") for k in range(8)]
    model = pt.MultiTaskModel(width, tasks=tasks, encoder=pt.encoder.MLP(weightings.DEEP), seed=0)
    return training(pt.Trainer(model, lr=1e-3, weighting="upgrad"), (x, *targets), rows)


def training(trainer: Any, data: Any, batch: int, metrics: bool = False) -> Way:
    """Trains on these data for a number of steps."""
    labels = data[1]
    rows = len(next(iter(labels.values())) if isinstance(labels, dict) else labels)
    how = {"batch_size": batch, "progress": False, "train_metrics": metrics}
    return lambda steps: trainer.fit(data, epochs=steps * batch // rows, **how)


def weights(method: str) -> Way:
    """Calls that find the weights of so many tasks."""
    jacobian = np.random.default_rng(0).standard_normal((40, 1000))
    gramian = jacobian @ jacobian.T
    find = gradient_steps.weighting(method).weights  # type: ignore[attr-defined]
    return lambda times: [find(gramian) for _ in range(times)]
