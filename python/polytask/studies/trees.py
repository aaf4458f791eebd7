"""Boosted trees, one a task, beside networks: whether there is anything to gain from a network at all."""

from __future__ import annotations

import inspect
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from ..arguments.messages import none_of
from ..data import Rows, labels
from ..data.bag import Bag
from ..metrics import Metric
from ..model.ensemble import Ensemble
from ..model.model import MultiTaskModel

_log = logging.getLogger("polytask")

#: Categories up to which scikit-learn's trees split a column by sets of them.
_MOST = 254
#: Rounds without improvement on the rows that say when to stop.
_PATIENCE = 10
#: The libraries, and the module of each.
_MODULES = {"scikit-learn": "sklearn.ensemble", "LightGBM": "lightgbm", "CatBoost": "catboost"}


@dataclass(frozen=True)
class _Table:
    """What trees of one task learn from, stop by and are judged by: features and labels of each, and weights."""

    kind: str
    classes: int
    sets: list[bool]
    rounds: int
    train: tuple[np.ndarray, np.ndarray]
    held_out: tuple[np.ndarray, np.ndarray]
    weights: np.ndarray | None

    @property
    def places(self) -> list[int]:
        """Which columns are categories."""
        return [place for place, is_set in enumerate(self.sets) if is_set]


def libraries(asked: str | Sequence[str] | None) -> list[str]:
    """Those that are asked for: "auto" is scikit-learn, "all" are all, of which those that are not installed are left
    out; none is None.

    Raises:
        TypeError, ValueError: a library that there is not, or that was named and is not installed.
    """
    if asked is None:
        return []
    if asked in ("auto", "all"):
        return [name for name in (_MODULES if asked == "all" else ["scikit-learn"]) if _installed(name)]
    names = [asked] if isinstance(asked, str) else asked
    if not isinstance(names, Sequence):
        raise TypeError(f'`trees` should be "auto", "all", libraries or None; got {asked!r}')
    for name in names:
        if name not in _MODULES:
            raise ValueError(f"`trees`: unknown library {none_of(name, ['auto', 'all', *_MODULES], 'there are')}")
        if not _installed(name):
            raise ValueError(f"`trees`: {name} is not installed")
    return list(names)


def beside(
    model: MultiTaskModel | Ensemble,
    parts: tuple[Rows, Rows, Rows],
    scores: Mapping[str, Mapping[str, float]],
    names: Sequence[str],
    rounds: int = 1000,
    until: float = math.inf,
) -> dict[str, dict[str, Any]]:
    """Of each task its first metric on test rows, by the network, by boosted trees of these libraries with their
    defaults, a model a task, which ends early by the validation rows (of several libraries the one that is best there),
    and by what is the same for all rows: the mean label, or the share of each class, of the rows to learn from.

    Numbers and categories are as the networks see them, but for bins of numbers, a category that was not seen being one
    of its own. Left out are
    tasks of positions or of several outputs, those whose metric is undefined, and what the time is over for.

    Arguments:
        model: whose tasks and inputs these are.
        parts: rows to learn from, to stop by and to test.
        scores: the network's, on the last ones.
        names: of the libraries.
        rounds: trees a class, at most.
        until: when to begin with no other task, as `time.monotonic` counts.
    """
    if any(rows.fields for rows in parts):
        return {}
    inputs = model.reader.inputs
    bins = 0 if inputs.tabular is None else len(inputs.tabular.bins)
    each = [_features(rows, bins) for rows in parts]
    sets = _sets(inputs.categorical[: len(inputs.categorical) - bins], each[0].shape[1])
    found: dict[str, dict[str, Any]] = {}
    for j, (task, kind) in enumerate(zip(model.tasks, model.kinds, strict=True)):
        metric = next(iter(_metrics(model, task.name)), None)
        if metric is None or task.per is not None or (kind != "classes" and task.outputs > 1):
            continue
        x, known, weights = zip(*(_known(*pair, kind, j) for pair in zip(each, parts, strict=True)), strict=True)
        if not all(map(len, known)):
            continue
        classes = 2 if kind == "binary" else task.classes or 2
        there = np.isin(known[1], known[0]) if kind != "values" else np.ones(len(known[1]), bool)
        held_out = x[1][there], known[1][there]
        table = _Table(kind, classes, sets, rounds, (x[0], known[0]), held_out, weights[0])
        best: tuple[float, str, float] | None = None
        sign = -1 if metric.higher_is_better is False else 1
        for name in names:
            if time.monotonic() > until:
                break
            try:
                predict = _fitted(table, name)
            except Exception as error:
                # Each library has errors of its own for what it does not take.
                _log.warning("boosted trees of %s do not take task `%s`: %s", name, task.name, error)
                continue
            by, tested = (metric.score(kind, predict(x[i]), _shaped(known[i], kind)) for i in (1, 2))
            if best is None or math.isnan(best[0]) or sign * by > sign * best[0]:
                best = by, name, tested
        network = scores[task.name][metric.name]
        if best is None or math.isnan(network) or math.isnan(best[2]):
            continue
        better = sign * best[2] > sign * network
        judged = {"network": network, "trees": best[2], "library": best[1], "better": better}
        if metric.named:
            constant = metric.score(kind, _constant(table, len(x[2])), _shaped(known[2], kind))
            judged |= {"constant": constant, "useful": not sign * network <= sign * constant}
        found[task.name] = {"metric": metric.name, **judged}
    return found


def _installed(name: str) -> bool:
    try:
        import_module(_MODULES[name])
    except ImportError:
        return False
    return True


def _fitted(table: _Table, name: str) -> Callable[[np.ndarray], np.ndarray]:
    """What predicts by trees of a library: probabilities `[rows, classes]`, `[rows, 1]` of a binary label, or values
    `[rows, 1]`.
    """
    seen = np.unique(table.train[1])
    trained = _FIT[name](import_module(_MODULES[name]), table) if len(seen) > 1 else None

    def predict(x: np.ndarray) -> np.ndarray:
        if table.kind == "values":
            return np.full((len(x), 1), seen[0]) if trained is None else trained[0].predict(trained[1](x))[:, None]
        whole = np.zeros((len(x), table.classes))
        # Classes that were never seen have the probability 0.
        whole[:, seen.astype(int)] = 1.0 if trained is None else trained[0].predict_proba(trained[1](x))
        return whole[:, 1:] if table.kind == "binary" else whole

    return predict


def _constant(table: _Table, rows: int) -> np.ndarray:
    """The same prediction for each row, shaped as those of trees."""
    y = table.train[1]
    each = np.eye(table.classes)[y.astype(int)] if table.kind == "classes" else y[:, None]
    return np.tile(np.average(each, axis=0, weights=table.weights), (rows, 1))


def _of_scikit_learn(library: Any, table: _Table) -> tuple[Any, Callable[[np.ndarray], Any]]:
    made = _made(library, table, "HistGradientBoosting{}")
    machine = made(max_iter=table.rounds, early_stopping=True, n_iter_no_change=_PATIENCE,
                   categorical_features=table.sets, random_state=0)  # fmt: skip
    # Earlier versions hold rows out themselves.
    stops = "X_val" in inspect.signature(machine.fit).parameters and len(table.held_out[1])
    stop = {"X_val": table.held_out[0], "y_val": table.held_out[1]} if stops else {}
    machine.fit(*table.train, sample_weight=table.weights, **stop)
    return machine, np.asarray


def _of_lightgbm(library: Any, table: _Table) -> tuple[Any, Callable[[np.ndarray], Any]]:
    machine = _made(library, table, "LGBM{}")(n_estimators=table.rounds, random_state=0, verbose=-1)
    how: dict[str, Any] = {"sample_weight": table.weights, "categorical_feature": table.places}
    x, y = table.held_out
    if len(y):
        # Earlier versions have one argument for both.
        newer = "eval_X" in inspect.signature(machine.fit).parameters
        how |= {"eval_X": x, "eval_y": y} if newer else {"eval_set": [(x, y)]}
        how["callbacks"] = [library.early_stopping(_PATIENCE, verbose=False)]
    machine.fit(*table.train, **how)
    return machine, np.asarray


def _of_catboost(library: Any, table: _Table) -> tuple[Any, Callable[[np.ndarray], Any]]:
    def prepared(x: np.ndarray) -> np.ndarray:
        # Categories are whole numbers there, and no floats.
        objects = x.astype(object)
        objects[:, table.places] = x[:, table.places].astype(int)
        return objects

    how = {"random_seed": 0, "verbose": False, "allow_writing_files": False}
    machine = _made(library, table, "CatBoost{}")(iterations=table.rounds, **how)
    x, y = table.held_out
    stop = {"eval_set": (prepared(x), y), "early_stopping_rounds": _PATIENCE} if len(y) else {}
    machine.fit(
        prepared(table.train[0]), table.train[1], sample_weight=table.weights, cat_features=table.places, **stop
    )
    return machine, prepared


_FIT = {"scikit-learn": _of_scikit_learn, "LightGBM": _of_lightgbm, "CatBoost": _of_catboost}


def _made(library: Any, table: _Table, name: str) -> Any:
    return getattr(library, name.format("Regressor" if table.kind == "values" else "Classifier"))


def _metrics(model: MultiTaskModel | Ensemble, name: str) -> list[Metric]:
    models = model if isinstance(model, Ensemble) else [model]
    each = (pair for one in models for pair in zip(one.tasks, one.metrics, strict=True))
    return next(metrics for other, metrics in each if other.name == name)


def _features(rows: Rows, bins: int) -> np.ndarray:
    """Numbers, then codes, of which the last ones are bins of numbers and left out."""
    there = [part for part in (rows.numeric, rows.categorical) if part is not None]
    each = [np.asarray(part, np.float64).reshape(len(rows), -1) for part in there]
    found = np.concatenate(each, axis=1)
    return found[:, : found.shape[1] - bins]


def _sets(categorical: Sequence[Any], width: int) -> list[bool]:
    """Which features are categories, of which there are not too many."""
    codes: list[bool] = []
    for size in categorical:
        codes += [False] * size.length if isinstance(size, Bag) else [size <= _MOST]
    return [False] * (width - len(codes)) + codes


def _known(x: np.ndarray, rows: Rows, kind: str, j: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Features, labels and weights of the rows that have a label."""
    weights = rows.weights[j] if len(rows.weights) else None
    y = labels.unified(rows.targets[j], rows.masks[j] if len(rows.masks) else None, kind, weights)
    if y is None:
        return x[:0], np.empty(0), None
    y = y if kind == "classes" else y[:, 0]
    there = y >= 0 if kind == "classes" else ~np.isnan(y)
    return x[there], y[there], None if weights is None else weights.reshape(-1)[there]


def _shaped(y: np.ndarray, kind: str) -> np.ndarray:
    return y if kind == "classes" else y[:, None]
