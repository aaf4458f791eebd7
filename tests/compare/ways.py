"""All kinds of trainings, each with what is promised of it from one commit to the next."""

from __future__ import annotations

import functools
import inspect
import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polytask as pt
import torch

sys.path.append(str(Path(__file__).parents[1] / "files"))
import make

FILES = Path(make.__file__).parent
#: The same bits; parameters within 1e-6 of their norm; or nothing: what differs is said.
SAME, CLOSE, SAID = "same", "close", "said"

Numbers = dict[str, np.ndarray]


@dataclass
class Size:
    """A network, the rows of its data and of a batch."""

    inputs: Any
    hidden: tuple[int, int]
    rows: int
    batch: int


#: In `rows` three tasks have so many numbers a layer that loops over them run on several threads, in `more rows` one
#: has; in `wide` it is loops over parameters.
SIZES = {
    "small": Size(8, (8, 8), 120, 24),
    "rows": Size(lambda: pt.Inputs(numeric=8, categorical=[5, 3], embedding=[4, 2]), (32, 32), 6144, 3072),
    "more rows": Size(12, (64, 64), 8192, 4096),
    "wide": Size(64, (512, 448), 32, 16),
}
#: The Jacobian of these tasks' shared weights is larger than what is kept whole.
MANY, DEEP = 40, Size(64, (640, 640), 64, 32)


@dataclass
class Way:
    """A training: of which model, by what, on what, and how long."""

    promise: str
    size: Size
    model: Callable[[], Any]
    steps: int
    trainer: dict[str, Any] = field(default_factory=dict)
    fit: dict[str, Any] = field(default_factory=dict)

    def __call__(self) -> Numbers:
        """Parameters and history after it."""
        model = self.model()
        x, labels = data(self.size, model)
        validation = {name: values[::2] for name, values in x.items()}, {name: y[::2] for name, y in labels.items()}
        epochs = self.steps * self.trainer.get("accumulate", 1) * self.size.batch // self.size.rows
        trainer = pt.Trainer(model, seed=5, **self.trainer, **threads())
        how = {"epochs": epochs, "batch_size": self.size.batch, "progress": False, "train_metrics": False, **self.fit}
        history = trainer.fit((x, labels), validation=validation, **how)
        if trainer.steps != self.steps:
            raise AssertionError(f"{trainer.steps} steps instead of {self.steps}")
        return numbers(model, history)


def threads() -> dict[str, int]:
    """As many as the process has, said to a trainer that would choose."""
    return {"threads": torch.get_num_threads()} if "threads" in inspect.signature(pt.Trainer).parameters else {}


def numbers(model: Any, history: Any) -> Numbers:
    """What a training ended with."""
    state = {f"state/{name}": array for name, array in model.state_dict().items()}
    columns = {f"history/{name}": np.array(history[name]) for name in history.columns if name != "seconds"}
    return {**state, **{name: column for name, column in columns.items() if column.dtype.kind in "fiub"}}


def data(size: Size, model: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Features, and labels of the model's tasks, of which some are missing."""
    generator = np.random.default_rng(0)
    numeric = generator.standard_normal((size.rows, 8 if callable(size.inputs) else size.inputs), dtype=np.float32)
    codes = generator.integers(0, [5, 3], (size.rows, 2))
    at = numeric[:, :4] @ generator.standard_normal((4, MANY), dtype=np.float32)
    decisions = (at + generator.standard_normal(at.shape, dtype=np.float32) > 0).astype(np.float32)
    known = {"kind": (at[:, 0] > 0).astype(int) + (at[:, 1] > 0), "flag": decisions[:, 2], "value": at[:, 3]}
    known |= {"bought": decisions[:, 2] * decisions[:, 4], **{f"t{k}": at[:, k] for k in range(MANY)}}
    known["kind"][::7] = -1
    known["value"][::5] = np.nan
    x = {"numeric": numeric, **({"categorical": codes} if callable(size.inputs) else {})}
    return x, {task.name: known[task.name] for task in model.tasks}


def sgd(size: Size, parts: dict[str, Any], trainer: dict[str, Any] | None = None, **fit: Any) -> Way:
    """Twenty steps of plain gradient descent; parts of the model, settings of the trainer."""
    settings = {"optimizer": pt.optim.SGD(lr=0.05), **(trainer or {})}
    return Way(CLOSE, size, of(size, parts), 20, settings, fit)


def of(size: Size, parts: dict[str, Any]) -> Callable[[], Any]:
    """A model of this size."""
    own = {key: value for key, value in parts.items() if key != "hidden"}
    return functools.partial(make.model, size.inputs, hidden=size.hidden, **own)


def values(count: int) -> list[pt.Task]:
    """So many regressions, whose heads are alike."""
    return [pt.Task(f"t{k}") for k in range(count)]


def schemes() -> dict[str, dict[str, Any]]:
    """Every sharing scheme: parts of a model."""
    known = [getattr(pt.sharing, name) for name in pt.sharing.__all__]
    return {each.name: make.SCHEMES.get(each.name, {"sharing": each.name}) for each in known}


def weightings() -> dict[str, Any]:
    """Every weighting but the two whose bits are promised."""
    return {name: getattr(pt.weighting, name)() for name in pt.weighting.__all__ if name not in ("Equal", "UPGrad")}


def regularizers() -> dict[str, Any]:
    """Every regularizer."""
    given: dict[str, dict[str, Any]] = {"GraphLaplacian": {"relation": np.ones((3, 3)) - np.eye(3)}}
    return {name: getattr(pt.regularizer, name)(**given.get(name, {})) for name in pt.regularizer.__all__}


def modes() -> dict[str, dict[str, Any]]:
    """What every method from gradients may be told."""
    told = {
        "at": ["representation"],
        "refresh": [3],
        "normalize": ["l2", "loss", "loss+"],
        "scale": ["mean", "sum"],
        "per": ["layer"],
        "gramian_precision": ["bfloat16"],
    }
    return {f"{key}={value}": {key: value} for key, values in told.items() for value in values}


def ways() -> Iterator[tuple[str, Callable[[], Numbers], str]]:
    """Name, what to run, and what is promised."""
    small = SIZES["small"]
    found: dict[str, Way] = {}
    for scheme, parts in schemes().items():
        for weighting in ("equal", "upgrad"):
            for name, size in SIZES.items():
                if name in ("small", "rows") or scheme == "hard":
                    settings = {"weighting": weighting, "lr": 0.01}
                    found[f"{weighting} over {scheme}, {name}"] = Way(SAME, size, of(size, parts), 200, settings)
            found[f"{weighting} over {scheme}, accumulated"] = sgd(
                small, parts, {"weighting": weighting, "accumulate": 5}
            )
        for mode, told in modes().items():
            found[f"upgrad({mode}) over {scheme}"] = sgd(small, parts, {"weighting": pt.weighting.UPGrad(**told)})
    for scheme in ("hard", "mmoe"):
        parts = make.SCHEMES[scheme]
        for name, method in weightings().items():
            found[f"{name} over {scheme}"] = sgd(small, parts, {"weighting": method})
        for name in ("NashMTL", "PCGrad", "MGDA"):
            for mode, told in modes().items():
                method = getattr(pt.weighting, name)(**told)
                found[f"{name}({mode}) over {scheme}"] = sgd(small, parts, {"weighting": method})
    for scheme, (name, regularizer) in itertools.product(("hard", "soft", "cgc"), regularizers().items()):
        for weighting in ("equal", "upgrad"):
            settings = {"weighting": weighting, "regularizers": [regularizer]}
            parts = {**make.SCHEMES[scheme], "tasks": functools.partial(values, 3)}
            found[f"{weighting} with {name} over {scheme}"] = sgd(small, parts, settings)
    for mode, told in modes().items():
        found[f"upgrad({mode}), wide"] = sgd(SIZES["wide"], {}, {"weighting": pt.weighting.UPGrad(**told)})
    many = {"tasks": functools.partial(values, MANY)}
    for weighting in ("equal", "upgrad", "pcgrad"):
        found[f"{weighting}, Jacobian in tiles"] = sgd(DEEP, many, {"weighting": weighting})
    for weighting in ("equal", "upgrad"):
        found[f"{weighting}, clipped"] = sgd(small, {}, {"weighting": weighting, "clip_norm": 0.5})
    for name, way in found.items():
        yield name, way, way.promise
    for name in make.cases():
        yield f"case {name}", functools.partial(case, name), SAID if name.startswith("run-") else SAME
    for path in sorted(FILES.glob("*/*.safetensors")):
        yield f"file {path.relative_to(FILES)}", functools.partial(file, path), SAME


def case(name: str) -> Numbers:
    """Trains a case of `make.py`, and predicts."""
    model, settings, x = make.cases()[name]
    made = model()
    trainer = make.trainer(made, {**settings, **threads()})
    history = trainer.fit(make.data(made, x), epochs=3, batch_size=8, progress=False, callbacks=make.stopping(name))
    return {**numbers(made, history), **predicted(made, x)}


def file(path: Path) -> Numbers:
    """Opens a file of an earlier version, and predicts."""
    name, kind, _ = path.name.split(".")
    model, settings, x = make.cases()[name]
    if kind == "model":
        return predicted(pt.MultiTaskModel.load(path), x)
    resumed = model()
    make.trainer(resumed, settings).restore(path)
    return predicted(resumed, x)


def predicted(model: Any, x: Any) -> Numbers:
    """What a model predicts."""
    return {f"predicted/{key}": array for key, array in model.predict(x).items()}
