"""Metrics by torchmetrics, on labelled rows only, NaN where they are undefined."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch

from .component import listed, meant

Tensor = torch.Tensor
#: What a task may be given for its metrics, or a list of them: one of our names, a callable, callables by name.
Given: TypeAlias = str | Callable[..., Any] | Mapping[str, Callable[..., Any]]


@dataclass(frozen=True)
class Metric:
    """A metric: a name of this module, or somebody's callable."""

    name: str
    function: Callable[[Tensor, Tensor], Any] | None
    higher_is_better: bool | None

    @property
    def named(self) -> bool:
        """Whether it is one of ours, which its name brings back."""
        return self.function is None

    @property
    def given(self) -> Given:
        """What a task may be given for it."""
        return self.name if self.function is None else {self.name: self.function}

    def fits(self, kind: str) -> bool:
        """Whether it suits labels of a kind: "classes", "binary" or "values"."""
        return self.function is not None or self.name in (VALUES if kind == "values" else LABELS)

    def score(self, kind: str, predicted: np.ndarray, known: np.ndarray) -> float:
        """Its value on all rows; rows (or cells) without a label are left out, several labels are averaged.

        `predicted` are probabilities `[rows, classes]` or `[rows, labels]`, or values `[rows, outputs]`; `known` are
        classes `[rows]` with -1 where missing, or values `[rows, labels]` with NaN.
        """
        if kind == "classes":
            rows = known >= 0
            return self._of_classes(torch.from_numpy(predicted[rows]), torch.from_numpy(known[rows]))
        values = [self._column(kind, predicted[:, j], known[:, j]) for j in range(known.shape[1])]
        defined = [value for value in values if value == value]
        return sum(defined) / len(defined) if defined else float("nan")

    def _column(self, kind: str, predicted: np.ndarray, known: np.ndarray) -> float:
        rows = ~np.isnan(known)
        p, y = torch.from_numpy(predicted[rows]).double(), torch.from_numpy(known[rows])
        if len(y) == 0:
            return float("nan")
        if self.function is not None:
            return self._call(p, y)
        # note: soft labels count as the class they are nearer to.
        return _value(self.name, p, y) if kind == "values" else _binary(self.name, p, (y >= 0.5).long())

    def _of_classes(self, p: Tensor, y: Tensor) -> float:
        if len(y) == 0:
            return float("nan")
        if self.function is not None:
            return self._call(p, y)
        if p.shape[1] == 2:
            return _binary(self.name, p[:, 1].double(), y)
        return _multiclass(self.name, p.double(), y)

    def _call(self, p: Tensor, y: Tensor) -> float:
        # note: a torchmetrics object adds up what it sees until it is reset.
        getattr(self.function, "reset", lambda: None)()
        value = self.function(p, y)  # type: ignore[misc]
        try:
            return float(value)
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(f"metric `{self.name}` should give one number; got {value!r}") from None


#: Metrics of class and binary labels: torchmetrics' name, and when they are defined.
LABELS: dict[str, tuple[str, Callable[[Tensor, Tensor], bool]]] = {
    "accuracy": ("accuracy", lambda p, y: True),
    "auroc": ("auroc", lambda p, y: bool((y == 0).any() and (y == 1).any())),
    "average_precision": ("average_precision", lambda p, y: bool((y == 1).any())),
    "f1": ("f1_score", lambda p, y: bool((y == 1).any() or (p > 0.5).any())),
    "precision": ("precision", lambda p, y: bool((p > 0.5).any())),
    "recall": ("recall", lambda p, y: bool((y == 1).any())),
}

#: Metrics of numbers: torchmetrics' name, whether higher is better, and how many different targets they need.
VALUES: dict[str, tuple[str, bool, int]] = {
    "mae": ("mean_absolute_error", False, 1),
    "mse": ("mean_squared_error", False, 1),
    "rmse": ("mean_squared_error", False, 1),
    "r2": ("r2_score", True, 2),
    "explained_variance": ("explained_variance", True, 2),
    "pearson": ("pearson_corrcoef", True, 2),
    "spearman": ("spearman_corrcoef", True, 2),
}

#: What a task is judged by if it does not say.
DEFAULTS = {"classes": ["accuracy"], "binary": ["auroc"], "values": ["mae", "r2"]}


def read(metrics: Any, task: str) -> list[Metric]:
    """The metrics of names and callables.

    Raises:
        ValueError: an unknown name, or one that comes twice.
        TypeError: neither a name nor a callable.
    """
    if isinstance(metrics, str | Mapping) or callable(metrics):
        metrics = [metrics]
    if not isinstance(metrics, Sequence):
        raise TypeError(f"task `{task}`: `metrics` should be a list of names or callables; got {metrics!r}")
    found: list[Metric] = []
    for metric in metrics:
        found += _named(metric, task) if isinstance(metric, Mapping) else [_one(metric, task)]
    names = [metric.name for metric in found]
    if len(set(names)) < len(names) or "loss" in names:
        raise ValueError(f"task `{task}`: `metrics` should have names that differ, and not `loss`; got {listed(names)}")
    return found


def _named(metrics: Mapping[Any, Any], task: str) -> list[Metric]:
    """Callables by the names that they are to have."""
    found = []
    for name, function in metrics.items():
        if not isinstance(name, str) or not name or "/" in name:
            raise ValueError(f"task `{task}`: the name of a metric should be a string without `/`; got {name!r}")
        if not callable(function):
            raise TypeError(f"task `{task}`: metric `{name}` should be a callable; got {function!r}")
        if name in LABELS or name in VALUES:
            raise ValueError(f"task `{task}`: `{name}` is a metric of ours; give yours another name")
        found.append(Metric(name, function, getattr(function, "higher_is_better", None)))
    return found


def _one(metric: Any, task: str) -> Metric:
    if isinstance(metric, str):
        if metric not in LABELS and metric not in VALUES:
            known = [*LABELS, *VALUES]
            raise ValueError(
                f"task `{task}`: unknown metric {metric!r}; {meant(metric, known)}there are {listed(known)}"
            )
        return Metric(metric, None, metric in LABELS or VALUES[metric][1])
    if not callable(metric):
        raise TypeError(f"task `{task}`: a metric should be a name or a callable; got {metric!r}")
    name = getattr(metric, "__name__", type(metric).__name__)
    return Metric(name, metric, getattr(metric, "higher_is_better", None))


def for_kind(metrics: list[Metric] | None, kind: str, task: str) -> list[Metric]:
    """A task's metrics, or the default ones of its kind of labels.

    Raises:
        ValueError: one that does not suit the labels.
    """
    chosen = read(DEFAULTS[kind], task) if metrics is None else metrics
    wrong = next((metric.name for metric in chosen if not metric.fits(kind)), None)
    if wrong is not None:
        fitting = listed(VALUES if kind == "values" else LABELS)
        raise ValueError(f"task `{task}`: metric `{wrong}` does not suit its labels; there are {fitting}")
    return chosen


def load() -> None:
    """Imports torchmetrics, which takes a second, before the first epoch is timed."""
    import torchmetrics.functional.classification  # noqa: F401


def _binary(name: str, p: Tensor, y: Tensor) -> float:
    import torchmetrics.functional.classification as functional

    full, defined = LABELS[name]
    if not defined(p, y):
        return float("nan")
    return float(getattr(functional, f"binary_{full}")(p, y, validate_args=False))


def _multiclass(name: str, p: Tensor, y: Tensor) -> float:
    """Ranking metrics: one class against the rest, averaged over the classes where that is defined."""
    import torchmetrics.functional.classification as functional

    classes = p.shape[1]
    if name in ("auroc", "average_precision"):
        each = [_binary(name, p[:, k], (y == k).long()) for k in range(classes)]
        defined = [value for value in each if value == value]
        return sum(defined) / len(defined) if defined else float("nan")
    function = getattr(functional, f"multiclass_{LABELS[name][0]}")
    average = "micro" if name == "accuracy" else "macro"
    return float(function(p, y, num_classes=classes, average=average, validate_args=False))


def _value(name: str, p: Tensor, y: Tensor) -> float:
    import torchmetrics.functional as functional

    full, _, different = VALUES[name]
    if different > 1 and (len(y) < 2 or bool((y == y[0]).all())):
        return float("nan")
    if name in ("pearson", "spearman") and bool((p == p[0]).all()):
        return float("nan")
    value = float(getattr(functional, full)(p.contiguous(), y.contiguous()))
    return value**0.5 if name == "rmse" else value
