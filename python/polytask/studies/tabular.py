"""What is tried on a table where nobody says it: inputs, scales, settings."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..components.registry import make
from ..data import Rows, labels
from ..data.inputs import Inputs
from ..data.task import Task
from ..embedding import Piecewise
from ..model.model import MultiTaskModel
from ..training.trainer import Trainer
from ..values import frames

#: How a frame is read: with bins as which numbers come too, embedded as categories: networks cut by them as sharply as
#: trees.
READ: dict[str, Any] = {"numbers": "quantile", "indicators": True, "bins": 40}
#: How much trouble may be taken: one network, a TabM, an ensemble of many networks.
QUALITIES = ("fast", "good", "best")
#: Of "good": epochs without improvement, and what is said of its parts (compare Gorishniy et al., TabM, 2025).
GOOD_PATIENCE = 16
GOOD_ENCODER: dict[str, Any] = {"name": "tab_m", "dropout": 0.1}
GOOD_OPTIMIZER: dict[str, Any] = {"name": "adamw", "lr": 2e-3, "weight_decay": 3e-4}
#: Rows up to which batches have this size.
_BATCHES = ((2_000, 32), (6_000, 64), (20_000, 128), (80_000, 256), (400_000, 512))
_LARGEST = 1024


def subject(tasks: Any, data: Any, beside: Sequence[str]) -> Any:
    """A model for a frame: its numbers are normal by their quantiles and come as bins too, with an indicator where some
    are missing, and its regressions train in units of their own. Of what is no frame the tasks alone. Columns `beside`
    them are no features.
    """
    given = [tasks] if isinstance(tasks, Task) else tasks
    if not isinstance(given, Iterable) or isinstance(given, str):
        return tasks
    own = list(given)
    if not all(isinstance(task, Task) for task in own):
        return tasks
    own = [scaled(task) for task in own]
    if of_each(data, own):
        return own
    frame = frames.framed(data[0] if isinstance(data, tuple) and data else data)
    if not frames.is_frame(frame):
        return own
    columns = [*beside, *(column for task in own for column in task.columns)]
    there = [name for name in columns if name in frames.names(frame)]
    encoder = make("encoder", {"name": "mlp", "hidden": [256, 256]})
    return MultiTaskModel(inputs(frame, there), tasks=own, encoder=encoder)


def inputs(frame: Any, exclude: Sequence[str] = ()) -> Inputs:
    """The inputs of such a model."""
    return Inputs.from_frame(frame, exclude=exclude, **READ)


def scaled(task: Task) -> Task:
    """The task as it is, or a regression of a location in the scale of its targets."""
    name = "custom" if task.custom else getattr(task.loss, "name", None)
    if task.scale is not None or task.classes is not None or name not in _LOCATIONS or task.head is not None:
        return task
    other = copy.copy(task)
    other.scale = "standardize"
    return other


_LOGARITHMIC = ("mean_squared", "mean_absolute", "huber", "quantile")
_LOCATIONS = (*_LOGARITHMIC, "gaussian_nll")
#: Targets of a larger skewness may train as logarithms; that of an exponential law is 2.
_SKEWED = 1.0


def of_each(data: Any, tasks: Sequence[Task]) -> bool:
    """Whether data are data sets by task, which show no inputs of all."""
    names = [task.name for task in tasks]
    return isinstance(data, Mapping) and all(name in names for name in data)


def batch_size(rows: int) -> int:
    """For so many rows to learn from."""
    return next((size for most, size in _BATCHES if rows <= most), _LARGEST)


def space(trainer: Trainer, rows: Sequence[Rows] = ()) -> dict[str, Any]:
    """Settings that are tried: how numbers are embedded and whether their bins are read, depth, width, dropout,
    learning rate and decay of AdamW; of several tasks also experts; of standardised targets that their logarithms
    suit, by these rows, also the scale of those. Parts that somebody chose, another encoder than an MLP or sharing than
    hard, stay.
    """
    description = trainer.model._plain.description
    found: dict[str, Any] = {}
    usual = Trainer(trainer.model)._core.settings["optimizer"]
    if not trainer._own and trainer._core.settings["optimizer"] == usual:
        decays = [0.0, 1e-4, 1e-3, 1e-2, 5e-2, 0.1]
        found = {"optimizer": ["adamw"], "lr": (3e-4, 5e-3), "weight_decay": decays}
    if trainer.model.inputs.numeric and trainer.model.inputs.embed is None:
        found["embed"] = [None, Piecewise(width=8, bins=24), Piecewise(width=16, bins=48), Piecewise(width=16, bins=48)]
    if trainer.model.inputs.unbinned() is not trainer.model.inputs:
        found["bins"] = [True, False]
    if description["encoder"]["name"] == "mlp":
        # A head of the caller's own stays as wide as it is.
        if not trainer.model._modules.of_tasks and trainer.model._modules.usual is None:
            found["hidden"] = [[256], [128, 128], [256, 256], [256, 128], [256, 256, 256], [512, 256]]
        found |= {"dropout": [0.0, 0.0, 0.1, 0.2, 0.3, 0.4]}
        if len(trainer.model.tasks) > 1 and description["sharing"]["name"] == "hard":
            found |= {"sharing": ["hard", "hard", "mmoe"], "sharing/experts": [4]}
    for j, (task, kind) in enumerate(zip(trainer.model.tasks, trainer.model.kinds, strict=True)):
        if task.scale == "standardize" and getattr(task.loss, "name", None) in _LOGARITHMIC:
            each = [labels.unified(part.targets[j], part.masks[j] if part.masks else None, kind) for part in rows]
            if (values := [part for part in each if part is not None]) and _is_long(np.concatenate(values)):
                found[f"scale/{task.name}"] = ["standardize", "log1p"]
    return found


def _is_long(values: np.ndarray) -> bool:
    """Whether values, `[rows, outputs]`, begin at 0 or above and have a long tail, which their logarithms have not."""
    for column in values.T:
        known = column[~np.isnan(column)]
        if not len(known) or known.min() < 0 or not (skew := _skewness(known)) > _SKEWED:
            return False
        if abs(_skewness(np.log1p(known))) >= skew:
            return False
    return True


def _skewness(values: np.ndarray) -> float:
    """The third moment of values in units of their deviation; 0 where they are equal."""
    errors = values - values.mean()
    deviation = errors.std()
    return float(np.mean((errors / deviation) ** 3)) if deviation > 0 else 0.0
