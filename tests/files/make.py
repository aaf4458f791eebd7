"""Model files and checkpoints for every sharing scheme, optimizer, loss and kind of input, with what they predict.

    python tests/files/make.py tests/files/0.1.0

writes `<case>.model.safetensors`, `<case>.checkpoint.safetensors` (with its `.npz`, if callbacks have arrays) and
`predictions.npz`.

    python tests/files/make.py --pickles tests/files/pickles

writes `model.pickle`, `trainer.pickle` and `expected.npz`, the predictions of both. Files that an earlier version wrote
are never written again: a new version gets a folder of its own.
Features are exact in every precision, so that nothing but the files needs to be stored.
"""

from __future__ import annotations

import functools
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polytask as pt

ROWS = 24
Case = tuple[Callable[[], pt.MultiTaskModel], dict[str, Any], Any]


def numbers(columns: int, rows: int = ROWS) -> np.ndarray:
    """Quarters between -1.25 and 1.25, `[rows, columns]`."""
    at = 7 * np.arange(rows)[:, None] + 3 * np.arange(columns)[None, :] + (np.arange(rows)[:, None] // 5) ** 2
    return ((at % 11 - 5) / 4).astype(np.float32)


def codes(categories: list[int], rows: int = ROWS) -> np.ndarray:
    """Codes below these numbers, a column each."""
    return np.stack([(5 * np.arange(rows) + j) % n for j, n in enumerate(categories)], axis=1)


def frame(rows: int = ROWS) -> pd.DataFrame:
    """Numbers, strings, truth values, several values a row, with gaps."""
    x = numbers(2, rows).astype(np.float64)
    x[3, 0] = np.nan
    colours = np.array(["red", "green", None, "blue"], dtype=object)
    return pd.DataFrame(
        {
            "height": x[:, 0],
            "weight": x[:, 1],
            "colour": colours[np.arange(rows) % 4],
            "member": np.arange(rows) % 3 == 0,
            "genres": [("a|b", "b", "c|a|b", "")[i % 4] for i in range(rows)],
        }
    )


def bag_codes(rows: int = ROWS) -> np.ndarray:
    """A plain column and a bag of three places, some of them empty."""
    bag = codes([4, 4, 4], rows)
    bag[::3, 2] = -1
    return np.concatenate([codes([3], rows), bag], axis=1)


def labels() -> dict[str, np.ndarray]:
    """Targets of all tasks that cases have; some are missing."""
    i = np.arange(ROWS)
    value = (numbers(3).sum(axis=1) / 4).astype(np.float32)
    value[5] = np.nan
    kind = i % 3
    kind[7] = -1
    return {
        "kind": kind,
        "flag": (i % 4 < 2).astype(np.int64),
        "bought": (i % 4 == 0).astype(np.int64),
        "value": value,
        "tags": np.stack([i % 2, i % 3 == 0], axis=1).astype(np.float32),
        "count": (i % 5).astype(np.float32),
    }


def three() -> list[pt.Task]:
    """One task of each kind."""
    return [
        pt.Task("kind", classes=["low", "middle", "high"], metrics=["accuracy"]),
        pt.Task("flag", loss="binary_cross_entropy", weight=0.5),
        pt.Task("value"),
    ]


def steps() -> list[pt.Task]:
    """A funnel of two."""
    return [pt.Task(name, loss="binary_cross_entropy") for name in ("flag", "bought")]


def model(inputs: Any = 4, tasks: Callable[[], list[pt.Task]] = three, hidden: Any = (6, 4), **more: Any) -> Any:
    """A small one; `more` of its parts."""
    parts = {"encoder": pt.encoder.MLP(list(hidden)), "seed": 3, **more}
    return pt.MultiTaskModel(inputs() if callable(inputs) else inputs, tasks=tasks(), **parts)


SCHEMES: dict[str, dict[str, Any]] = {
    "hard": {},
    "soft": {"sharing": pt.sharing.Soft()},
    "cross_stitch": {"sharing": pt.sharing.CrossStitch()},
    "sluice": {"sharing": pt.sharing.Sluice(), "hidden": (4, 4)},
    "nddr": {"sharing": pt.sharing.NDDR()},
    "mmoe": {"sharing": pt.sharing.MMoE(experts=3)},
    "omoe": {"sharing": pt.sharing.OMoE(experts=3)},
    "cgc": {"sharing": pt.sharing.CGC()},
    "ple": {"sharing": pt.sharing.PLE()},
    "dselect_k": {"sharing": pt.sharing.DSelectK(experts=3)},
    "ltb": {"sharing": pt.sharing.LTB()},
    "branched": {"sharing": pt.sharing.Branched([[["kind", "flag", "value"]], [["kind", "flag"], ["value"]]])},
    "esmm": {"sharing": pt.sharing.ESMM(), "tasks": steps},
    "aitm": {"sharing": pt.sharing.AITM(), "tasks": steps},
}
OPTIMIZERS: dict[str, Any] = {
    "sgd": pt.optim.SGD(lr=0.02, momentum=0.9, nesterov=True),
    "adam": pt.optim.Adam(lr=0.02),
    "adamw": pt.optim.AdamW(lr={"encoder": 0.02, "heads": 0.01}, weight_decay=0.1),
    "rmsprop": pt.optim.RMSprop(lr=0.01, momentum=0.5, centered=True),
    "adagrad": pt.optim.Adagrad(lr=0.05),
}
INPUTS: dict[str, tuple[Any, Callable[[], Any]]] = {
    "numeric": (4, lambda: numbers(4)),
    "categorical": (lambda: pt.Inputs(categorical=[5, 3]), lambda: codes([5, 3])),
    "mixed": (
        lambda: pt.Inputs(numeric=2, categorical=[5, 3], embedding=[4, 2]),
        lambda: {"numeric": numbers(2), "categorical": codes([5, 3])},
    ),
    "bag": (lambda: pt.Inputs(categorical=[3, pt.Bag(4, length=3)]), bag_codes),
    "bag_sum": (lambda: pt.Inputs(categorical=[3, pt.Bag(4, length=3, combine="sum")]), bag_codes),
    "sparse": (lambda: pt.Inputs(categorical=[40, 3], embedding=2, sparse=[True, False]), lambda: codes([40, 3])),
    "frame": (lambda: pt.Inputs.from_frame(frame(), bags=["genres"], bins=3), frame),
}
PARTS: dict[str, dict[str, Any]] = {
    "batch_norm": {"encoder": pt.encoder.MLP([6, 6], norm="batch", dropout=0.1, residual=True, activation="gelu")},
    "layer_norm": {"encoder": pt.encoder.MLP([6, 4], norm="layer", activation="tanh")},
    "linear": {"encoder": pt.encoder.MLP([6], activation=None)},
    "tower": {"head": pt.head.Tower([5], activation="silu")},
}
LOSSES: dict[str, Callable[[], list[pt.Task]]] = {
    "classes": lambda: [
        pt.Task("kind", classes=3, loss=pt.loss.CrossEntropy(class_weights="balanced", label_smoothing=0.1)),
        pt.Task("flag", classes=2, loss="focal"),
    ],
    "labels": lambda: [
        pt.Task("tags", loss=pt.loss.BinaryCrossEntropy(pos_weight="balanced"), outputs=2, columns=["t0", "t1"]),
        pt.Task("flag", loss=pt.loss.Focal(gamma=1.0)),
    ],
    "values": lambda: [
        pt.Task("value", loss="mean_absolute"),
        pt.Task("count", loss="poisson"),
        pt.Task("tags", loss="huber", outputs=2),
    ],
    "distributions": lambda: [
        pt.Task("value", loss="gaussian_nll"),
        pt.Task("count", loss=pt.loss.Quantile([0.1, 0.5, 0.9])),
    ],
}
# Whatever a checkpoint keeps beside model and optimizer: states of weightings, regularizers, schedules, callbacks.
RUNS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "famo": ({}, {"weighting": pt.weighting.FAMO()}),
    "gradnorm": ({}, {"weighting": pt.weighting.GradNorm()}),
    "nash_mtl": ({}, {"weighting": pt.weighting.NashMTL(refresh=10)}),
    "uncertainty": ({}, {"weighting": pt.weighting.Uncertainty()}),
    "plateau": ({}, {"schedule": pt.schedule.Plateau(patience=0), "observe": ["weights", "gradients"]}),
    "relation": (
        {"sharing": "soft"},
        {"regularizers": [pt.regularizer.TaskRelation(0.1, refresh=2), "l2"], "schedule": pt.schedule.Cosine(warmup=3)},
    ),
}


def cases() -> dict[str, Case]:
    """A model, the settings of its trainer, and features, by name."""
    found: dict[str, Case] = {}
    x = numbers(4)
    for name, parts in SCHEMES.items():
        found[f"sharing-{name}"] = functools.partial(model, **parts), {}, x
    for name, optimizer in OPTIMIZERS.items():
        found[f"optimizer-{name}"] = model, {"optimizer": optimizer}, x
    for name, (inputs, features) in INPUTS.items():
        found[f"inputs-{name}"] = functools.partial(model, inputs), {}, features()
    sparse, features = INPUTS["sparse"]
    found["inputs-sparse_adagrad"] = functools.partial(model, sparse), {"optimizer": "adagrad"}, features()
    for name, parts in PARTS.items():
        found[f"parts-{name}"] = functools.partial(model, **parts), {}, x
    for name, tasks in LOSSES.items():
        found[f"loss-{name}"] = functools.partial(model, tasks=tasks), {}, x
    for name, (parts, settings) in RUNS.items():
        found[f"run-{name}"] = functools.partial(model, **parts), settings, x
    found["parts-frozen"] = frozen, {}, x
    return found


def frozen() -> pt.MultiTaskModel:
    """A model of which the first layer and one head do not learn."""
    made: pt.MultiTaskModel = model()
    made.freeze("encoder.0", "heads.flag")
    return made


def trainer(made: pt.MultiTaskModel, settings: dict[str, Any]) -> pt.Trainer:
    """With the settings of a case."""
    return pt.Trainer(made, **{"lr": None if "optimizer" in settings else 0.02, "seed": 5, **settings})


def stopping(name: str) -> list[pt.Callback]:
    """Early stopping keeps parameters, which a checkpoint has in a file of arrays; some cases have it."""
    return [pt.EarlyStopping("loss", patience=50)] if name.startswith("optimizer-") else []


def data(made: pt.MultiTaskModel, x: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """Features with the targets of the model's tasks."""
    return x, {task.name: labels()[task.name] for task in made.tasks}


class _Save(pt.Callback):
    """Writes the checkpoint in the middle of the second epoch."""

    every_steps = 5
    last = True

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_steps(self, trainer: pt.Trainer) -> None:
        if trainer.batches == 5:
            trainer.save(self.path)


def make(folder: Path) -> None:
    """Writes all of them."""
    folder.mkdir(parents=True)
    predictions: dict[str, np.ndarray] = {}
    for name, (build, settings, x) in cases().items():
        made = build()
        training = trainer(made, settings)
        callbacks = [*stopping(name), _Save(folder / f"{name}.checkpoint.safetensors")]
        training.fit(data(made, x), epochs=3, batch_size=8, progress=False, callbacks=callbacks)
        made.save(folder / f"{name}.model.safetensors")
        resumed = build()
        trainer(resumed, settings).restore(folder / f"{name}.checkpoint.safetensors")
        for kind, each in (("model", made), ("checkpoint", resumed)):
            for task, predicted in each.predict(x).items():
                predictions[f"{name}.{kind}/{task}"] = predicted
    np.savez_compressed(folder / "predictions.npz", **predictions)


def pickles(folder: Path) -> None:
    """Writes a model and a trainer, with callbacks, as pickles."""
    folder.mkdir(parents=True)
    made = model()
    # What early stopping keeps are arrays, which NumPy's pickles name differently from version to version.
    callbacks = [pt.EarlyStopping("loss", patience=50, restore_best=False)]
    training = trainer(made, {"weighting": pt.weighting.FAMO(), "callbacks": callbacks})
    training.fit(data(made, numbers(4)), epochs=2, batch_size=8, progress=False)
    expected: dict[str, np.ndarray] = {}
    for kind, each in (("model", made), ("trainer", training)):
        (folder / f"{kind}.pickle").write_bytes(pickle.dumps(each, protocol=4))
        expected |= {f"{kind}/{task}": predicted for task, predicted in made.predict(numbers(4)).items()}
    np.savez_compressed(folder / "expected.npz", **expected)


if __name__ == "__main__":
    if sys.argv[1] == "--pickles":
        pickles(Path(sys.argv[2]))
    else:
        make(Path(sys.argv[1]))
