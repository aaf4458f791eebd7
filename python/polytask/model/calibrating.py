"""Temperatures of tasks, of a model or of models together: fitted to labels, and read from what callers say."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..arguments.messages import none_of
from ..data.task import Task
from ..results.calibration import Calibrated, Calibration, Reliability
from . import temperature
from .labelled import Labelled, classifying

_log = logging.getLogger("polytask")

#: Between these lie the probabilities that single precision tells from 0 and from 1.
_LOWEST, _HIGHEST = 2.0**-150, 1 - 2.0**-25


def fitted(
    kinds: Mapping[str, str], names: Sequence[str], found: Mapping[str, Labelled], bins: int, asked: bool
) -> Calibration:
    """Those of tasks with labels, by raw outputs.

    Raises:
        ValueError: none has a label, or one that was asked for by name.
    """
    each = {}
    for name in names:
        one = None if name not in found else _one(kinds[name], found[name], bins)
        if one is not None:
            each[name] = one
        elif asked:
            raise ValueError(f"`data` have no label for task `{name}`")
    if not each:
        raise ValueError("`data` have no label for any classification task")
    return Calibration(each)


def _one(kind: str, found: Labelled, bins: int) -> Calibrated | None:
    outputs, known, weights = found
    there = ~np.isnan(known) if kind == "binary" else known >= 0
    count = int(there[weights > 0].sum())
    if not count:
        return None
    best = temperature.fitted(kind, outputs, known, weights)
    ends = 1.0, 1.0 if best is None else best
    before, after = (
        Reliability.of(*temperature.judged(kind, temperature.probabilities(kind, outputs, t), known, weights), bins)
        for t in ends
    )
    first, last = (temperature.likelihood(kind, outputs, known, weights, t) for t in ends)
    return Calibrated(ends[1], count, (first, last), (before, after), best is not None)


def kept(before: Mapping[str, float], found: Calibration, tasks: Sequence[Task]) -> dict[str, float]:
    """The temperatures that are in force after a calibration; warns of tasks that no temperature puts right."""
    for task in tasks:
        weighted = [name for name in ("class_weights", "pos_weight") if getattr(task.loss, name, None) is not None]
        if task.name in found and weighted:
            _log.warning("task `%s` learned with `%s`, which moves all its probabilities to one side, and a "
                         "temperature does not move them back: train without, and choose a threshold", task.name,
                         weighted[0])  # fmt: skip
    new = {name: each.temperature for name, each in found.items() if each.fitted}
    return {name: t for name, t in before.items() if name not in found} | new


def logits(kind: str, p: np.ndarray) -> np.ndarray:
    """What probabilities would be made of, in double precision; 0 and 1 are taken for the next numbers to them."""
    q = np.clip(p.astype(np.float64), _LOWEST, _HIGHEST)
    return np.log(q) - np.log1p(-q) if kind == "binary" else np.log(q)


def tempered(kind: str, p: np.ndarray, t: float | None) -> np.ndarray:
    """Probabilities at a temperature, or as they are."""
    return p if t is None else temperature.probabilities(kind, logits(kind, p), t).astype(np.float32)


def read(given: Any, tasks: Sequence[Task], kinds: Sequence[str]) -> dict[str, float]:
    """Temperatures by task, as callers say them; 1 is none.

    Raises:
        TypeError, ValueError: no dict, another task, or no number above 0.
    """
    if not isinstance(given, Mapping):
        raise TypeError(f"`temperatures` should be a dict, {{task: temperature}}; got {type(given).__name__}")
    suited = classifying(tasks, kinds)
    found = {}
    for name, value in given.items():
        if name not in suited:
            raise ValueError(f"`temperatures`: no task {none_of(name, suited, 'classification tasks are')}")
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            raise TypeError(f"`temperatures` of task `{name}` should be a number above 0; got {value!r}")
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"`temperatures` of task `{name}` should be a number above 0; got {value!r}")
        found[name] = float(value)
    return {name: value for name, value in found.items() if value != 1}
