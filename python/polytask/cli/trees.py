"""Boosted trees, one a task, beside networks: whether there is anything to gain from a network at all."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np

from ..data import Rows, labels
from ..data.task import Task
from ..metrics import Metric
from ..model.ensemble import Ensemble
from ..model.model import MultiTaskModel
from ..results.results import Results

#: Categories up to which scikit-learn's trees split a column by sets of them.
_MOST = 254


def scores(
    model: MultiTaskModel | Ensemble, train: Any, validation: Any, test: Any, weights: str | None
) -> Results | None:
    """Metrics on the test rows of scikit-learn's histogram boosting with its defaults, a model a task, which ends early
    by the validation rows; None where scikit-learn is not installed.

    Numbers and categories are as the networks see them, a category that was not seen being one of its own.
    """
    try:
        import sklearn.ensemble as trees
    except ImportError:
        return None
    parts = [model.reader.rows(frame, weights=weights) for frame in (train, validation, test)]
    each = [_features(rows) for rows in parts]
    sizes = list(model.reader.inputs.categorical)
    numbers = each[0].shape[1] - len(sizes)
    sets = [False] * numbers + [isinstance(size, int) and size <= _MOST for size in sizes]
    found: dict[str, dict[str, float]] = {}
    for j, (task, kind) in enumerate(zip(model.tasks, model.kinds, strict=True)):
        known = [labels.unified(rows.targets[j], rows.masks[j], kind) for rows in parts]
        (x, y, w), (held_out, judged, _), (rows, wanted, _) = (
            _known(*three, kind, j) for three in zip(each, known, parts, strict=True)
        )
        made = trees.HistGradientBoostingRegressor if kind == "values" else trees.HistGradientBoostingClassifier
        machine = made(max_iter=1000, early_stopping=True, categorical_features=sets, random_state=0)
        # Earlier versions hold rows out themselves.
        stop = {"X_val": held_out, "y_val": judged} if "X_val" in inspect.signature(machine.fit).parameters else {}
        machine.fit(x, y, sample_weight=w, **(stop if len(judged) else {}))
        predicted = machine.predict(rows)[:, None] if kind == "values" else _probabilities(machine, rows, task, kind)
        metrics = _metrics(model, task)
        found[task.name] = {metric.name: metric.score(kind, predicted, _shaped(wanted, kind)) for metric in metrics}
    return Results(found, float("nan"))


def sentences(ours: Results, theirs: Results, model: MultiTaskModel | Ensemble) -> list[str]:
    """Of each task by its first metric who is better, in words."""
    found = []
    for task in model.tasks:
        metric = _metrics(model, task)[0]
        network, tree = ours[task.name][metric.name], theirs[task.name][metric.name]
        if math.isnan(network) or math.isnan(tree):
            continue
        better = (tree > network) == (metric.higher_is_better is not False) and tree != network
        who = "Boosted trees are better at" if better else "Boosted trees are not better at"
        found.append(f"{who} `{task.name}`: {metric.name} {tree:.4f}, the network's is {network:.4f}.")
    return found


def _metrics(model: MultiTaskModel | Ensemble, task: Task) -> list[Metric]:
    models = model if isinstance(model, Ensemble) else [model]
    each = (pair for one in models for pair in zip(one.tasks, one.metrics, strict=True))
    return next(metrics for other, metrics in each if other.name == task.name)


def _features(rows: Rows) -> np.ndarray:
    """Numbers, then codes."""
    there = [part for part in (rows.numeric, rows.categorical) if part is not None]
    return np.concatenate([np.asarray(part, np.float64) for part in there], axis=1)


def _known(x: np.ndarray, y: np.ndarray | None, rows: Rows, kind: str, j: int) -> tuple[Any, Any, Any]:
    """Features, labels and weights of the rows that have a label."""
    assert y is not None, "tables have a column of each task"
    y = y if kind == "classes" else y[:, 0]
    there = y >= 0 if kind == "classes" else ~np.isnan(y)
    weights = rows.weights[j] if len(rows.weights) else None
    return x[there], y[there], None if weights is None else weights[there]


def _shaped(y: np.ndarray, kind: str) -> np.ndarray:
    return y if kind == "classes" else y[:, None]


def _probabilities(machine: Any, rows: np.ndarray, task: Task, kind: str) -> np.ndarray:
    """`[rows, classes]`, or `[rows, 1]` of a binary label; 0 of classes that were never seen."""
    p = machine.predict_proba(rows)
    whole = np.zeros((len(rows), 2 if kind == "binary" else task.classes or 2))
    whole[:, machine.classes_.astype(int)] = p
    return whole[:, 1:] if kind == "binary" else whole
