"""Metrics on labelled rows only, NaN where they are undefined: by the core, by torchmetrics, or somebody's own."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch

from . import _core
from .arguments.messages import listed, none_of

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

    @property
    def ranks(self) -> bool:
        """Whether it is one of ours of lists."""
        return self.named and _ranks(self.name)

    @property
    def whole(self) -> bool:
        """Whether it must be given all rows at once: a callable that does not say how it adds up."""
        return self.function is not None and not all(hasattr(self.function, name) for name in _ADDING)

    @property
    def labels_first(self) -> bool:
        """Whether it is a callable that says that it takes arrays of labels and then predictions, as those of
        scikit-learn do.
        """
        try:
            parameters = inspect.signature(self.function).parameters if self.function is not None else {}
        except (TypeError, ValueError):  # builtins may have no signature
            return False
        return next(iter(parameters), None) == "y_true"

    def score(self, kind: str, predicted: np.ndarray, known: np.ndarray) -> float:
        """Its value on all rows; rows (or cells) without a label are left out, several labels are averaged.

        `predicted` are probabilities `[rows, classes]` or `[rows, labels]`, or values `[rows, outputs]`; `known` are
        classes `[rows]` with -1 where missing, or values `[rows, labels]` with NaN.
        """
        sums = Sums(self, kind, predicted.shape[1])
        sums.add(predicted, known)
        return sums.value()

    def number(self, value: Any) -> float:
        """What a callable gave as a number."""
        try:
            return float(value)
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(f"metric `{self.name}` should give one number; got {value!r}") from None


class Sums:
    """A metric of rows that come in parts, or of all rows at once where it is `whole`."""

    def __init__(self, metric: Metric, kind: str, width: int) -> None:
        self._kind = kind
        self._tally: _core.Tally | None = None
        if metric.named and metric.name in COUNTED[kind]:
            self._tally = _core.Tally(kind, metric.name, width)
        else:
            self._columns = [_Column(metric, kind, width) for _ in range(1 if kind == "classes" else width)]

    def add(self, predicted: np.ndarray, known: np.ndarray) -> None:
        """Takes up rows, as `Metric.score` has them."""
        if self._tally is not None:
            self._tally.add(np.ascontiguousarray(predicted), np.ascontiguousarray(known, np.float64))
        elif self._kind == "classes":
            _add(self._columns[0], predicted, known, known >= 0)
        else:
            for j, column in enumerate(self._columns):
                _add(column, predicted[:, j], known[:, j], ~np.isnan(known[:, j]))

    def value(self) -> float:
        """The metric, NaN where it is not defined, the mean over the columns where it is."""
        if self._tally is not None:
            return self._tally.value()
        defined = [value for value in (column.value() for column in self._columns) if value == value]
        return sum(defined) / len(defined) if defined else float("nan")


def _add(column: _Column, predicted: np.ndarray, known: np.ndarray, rows: np.ndarray) -> None:
    # note: a selection is a copy, which is as large as all predictions.
    pair = (predicted, known) if rows.all() else (predicted[rows], known[rows])
    if rows.any():
        column.add(*(torch.from_numpy(np.ascontiguousarray(each)) for each in pair))


class _Column:
    """A metric of one column of labels, whose rows all have one."""

    def __init__(self, metric: Metric, kind: str, width: int) -> None:
        self._metric = metric
        self._kind = "binary" if metric.named and kind == "classes" and width == 2 else kind
        self._width = width
        self._one: Any = None
        self._result: Any = None
        self._seen: list[Tensor] = []
        self._differ = [False, False]
        self._defined = kind == "classes" and self._kind == kind
        self._rows = 0

    def add(self, p: Tensor, y: Tensor) -> None:
        if self._kind == "values":
            p = p.double()
            y = y.double()
        elif self._kind == "binary":
            # note: soft labels count as the class they are nearer to.
            p = (p[:, 1] if p.ndim == 2 else p).double()
            y = (y >= 0.5).long() if self._metric.named else y
        if self._metric.whole:
            given = (y.numpy(), p.numpy()) if self._metric.labels_first else (p, y)
            self._result = self._metric.number(self._metric.function(*given))  # type: ignore[misc]
        else:
            if self._one is None:
                self._one = self._made()
                self._seen = [p[0], y[0]]
            self._one.update(p, y)
        self._rows += len(y)
        if self._metric.named:
            self._look(p, y)

    def _look(self, p: Tensor, y: Tensor) -> None:
        if self._metric.name in OWN:
            self._defined = True
        elif self._kind == "binary":
            self._defined |= DECISIONS[self._metric.name][1](p, y)
        elif self._kind == "values":
            each = zip(self._differ, (p, y), self._seen, strict=True)
            self._differ = [differ or bool((new != first).any()) for differ, new, first in each]
            self._defined = self._differ[1] and (self._differ[0] or self._metric.name == "explained_variance")

    def _made(self) -> Any:
        if self._metric.function is not None:
            # A copy, since another evaluation may begin before this one ends.
            made = copy.deepcopy(self._metric.function)
            made.reset()  # type: ignore[attr-defined]
            return made
        if self._metric.name in OWN:
            return OWN[self._metric.name]()
        import torchmetrics

        if self._metric.name in _NUMBERS:
            return _NUMBERS[self._metric.name]()
        if self._kind == "values":
            return getattr(torchmetrics, CURVES[self._metric.name])().set_dtype(torch.float64)
        name = DECISIONS[self._metric.name][0]
        if self._kind == "binary":
            return getattr(torchmetrics.classification, f"Binary{name}")(validate_args=False)
        made = getattr(torchmetrics.classification, f"Multiclass{name}")
        return made(num_classes=self._width, average="macro", validate_args=False)

    def value(self) -> float:
        if self._rows == 0 or (self._metric.named and not self._defined):
            return float("nan")
        return self._result if self._metric.whole else self._metric.number(self._one.compute())


class _Ranks:
    """Spearman's correlation, which is of all rows."""

    def __init__(self) -> None:
        self._pairs: list[tuple[Tensor, Tensor]] = []

    def update(self, p: Tensor, y: Tensor) -> None:
        self._pairs.append((p, y))

    def compute(self) -> Tensor:
        from torchmetrics.functional import spearman_corrcoef

        p, y = zip(*self._pairs, strict=True)
        return spearman_corrcoef(torch.cat(p), torch.cat(y))


class _Explained:
    """1 less the variance of what is left over that of the labels, both of numbers less the first one, so that numbers
    far from 0 lose nothing.
    """

    def __init__(self) -> None:
        self._first: tuple[Tensor, Tensor] | None = None
        self._rows = 0
        self._sums = torch.zeros(2, 2, dtype=torch.float64)

    def update(self, p: Tensor, y: Tensor) -> None:
        left = y - p
        self._first = (left[0], y[0]) if self._first is None else self._first
        each = [values - first for values, first in zip((left, y), self._first, strict=True)]
        self._sums = self._sums + torch.stack([torch.stack([one.sum(), one.square().sum()]) for one in each])
        self._rows += len(y)

    def compute(self) -> Tensor:
        means = self._sums / self._rows
        left, whole = means[:, 1] - means[:, 0].square()
        share: Tensor = left / whole
        return 1 - share


class _Recalls:
    """Balanced accuracy: the mean over the classes that occur of the share of their rows that are decided right, for
    one class above 0.5, for several the likeliest (as scikit-learn's `balanced_accuracy_score`).
    """

    def __init__(self) -> None:
        self._rows = torch.zeros(0)
        self._right = torch.zeros(0)

    def update(self, p: Tensor, y: Tensor) -> None:
        classes = 2 if p.ndim == 1 else p.shape[1]
        decided = (p > 0.5).long() if p.ndim == 1 else p.argmax(1)
        rows, right = (torch.bincount(each, minlength=classes) for each in (y, y[decided == y]))
        self._rows, self._right = (rows, right) if not len(self._rows) else (self._rows + rows, self._right + right)

    def compute(self) -> Tensor:
        there = self._rows > 0
        return (self._right[there].double() / self._rows[there]).mean()


class _LogLoss:
    """The mean of minus the logarithm of the probability of what occurred, which counts as at least the spacing of
    single precision at 1, and as at most 1 less that (as scikit-learn's `log_loss` of `predict`).
    """

    def __init__(self) -> None:
        self._sum = torch.zeros((), dtype=torch.float64)
        self._rows = 0

    def update(self, p: Tensor, y: Tensor) -> None:
        given = torch.where(y == 1, p, 1 - p) if p.ndim == 1 else p.gather(1, y[:, None].long())[:, 0]
        least = torch.finfo(torch.float32).eps
        self._sum = self._sum - given.double().clamp(least, 1 - least).log().sum()
        self._rows += len(y)

    def compute(self) -> Tensor:
        return self._sum / self._rows


class _Confusion:
    """How many rows of each class were decided to be of each, for one class above 0.5, for several the likeliest."""

    def __init__(self) -> None:
        self._rows = torch.zeros(0, 0)

    def update(self, p: Tensor, y: Tensor) -> None:
        classes = 2 if p.ndim == 1 else p.shape[1]
        decided = (p > 0.5).long() if p.ndim == 1 else p.argmax(1)
        rows = torch.bincount(y * classes + decided, minlength=classes**2).double().view(classes, classes)
        self._rows = self._rows + rows if len(self._rows) else rows

    def _apart(self) -> Tensor:
        at = torch.arange(len(self._rows))
        return (at[:, None] - at).abs().double()


class _Distance(_Confusion):
    """How many classes a decision is away from the label, on average."""

    def compute(self) -> Tensor:
        return (self._rows * self._apart()).sum() / self._rows.sum()


class _QuadraticKappa(_Confusion):
    """1 less squared distances of decisions from labels over those of decisions and labels that have nothing to do with
    each other (Cohen, Weighted kappa, Psychological Bulletin 1968); not defined where all are of one class.
    """

    def compute(self) -> Tensor:
        squares = self._apart().square()
        chance = self._rows.sum(1, keepdim=True) * self._rows.sum(0) / self._rows.sum()
        return 1 - (self._rows * squares).sum() / (chance * squares).sum()


#: What a callable has that is given rows in parts, as the objects of torchmetrics.
_ADDING = ("update", "compute", "reset")

_OF_CORE = _core.metrics()

#: What the core counts, in steps and evaluations without raw outputs being kept.
COUNTED = {
    kind: tuple(name for name, kinds, _ in _OF_CORE if kind in kinds) for kind in ("classes", "binary", "values")
}

#: Other metrics of class and binary labels: torchmetrics' name, and when they are defined for two sides.
DECISIONS: dict[str, tuple[str, Callable[[Tensor, Tensor], bool]]] = {
    "f1": ("F1Score", lambda p, y: bool((y == 1).any() or (p > 0.5).any())),
    "precision": ("Precision", lambda p, y: bool((p > 0.5).any())),
    "recall": ("Recall", lambda p, y: bool((y == 1).any())),
}

#: Metrics of spans of positions, which are found row by row: see `polytask.model.span_scores`.
SPANS = ("span_f1", "span_precision", "span_recall")
#: Those of relations between positions: see `polytask.model.pair_scores`.
RELATIONS = ("relation_f1", "relation_precision", "relation_recall", "attachment")

#: Metrics of lists of positions, one a row: see `polytask.model.rank_scores`; "ndcg@10" is of the first ten.
RANKS = ("ndcg", "mrr")
_FIRST = re.compile(r"ndcg@[1-9]\d*")

#: Metrics for which rows have to be whole, by what they judge, and all of them.
WHOLE = {"spans": SPANS, "relations": RELATIONS, "ranks": RANKS}
OF_ROWS = (*SPANS, *RELATIONS, *RANKS)

#: Other metrics of numbers: torchmetrics' name.
CURVES = {"explained_variance": "ExplainedVariance", "pearson": "PearsonCorrCoef", "spearman": "SpearmanCorrCoef"}
#: Those of them that are of this module.
_NUMBERS: dict[str, Callable[[], Any]] = {"explained_variance": _Explained, "spearman": _Ranks}

#: Metrics of class and binary labels by this module, which are defined wherever a row has a label.
OWN: dict[str, Callable[[], Any]] = {
    "balanced_accuracy": _Recalls,
    "log_loss": _LogLoss,
    "ordinal_mae": _Distance,
    "quadratic_kappa": _QuadraticKappa,
}

#: All metrics of class and binary labels, and of numbers.
LABELS = (*COUNTED["binary"], *DECISIONS, *OWN)
VALUES = (*COUNTED["values"], *CURVES)

#: Whose lower values are better.
_LOWER = (*(name for name, _, higher_is_better in _OF_CORE if not higher_is_better), "log_loss", "ordinal_mae")

#: What other libraries call a metric, without what some put before or behind it (`neg_`, `_score`, `_macro`).
_ELSEWHERE = {
    "acc": "accuracy",
    "auc": "auroc",
    "auc_pr": "average_precision",
    "aucpr": "average_precision",
    "auprc": "average_precision",
    "balanced_acc": "balanced_accuracy",
    "bce": "log_loss",
    "binary_crossentropy": "log_loss",
    "binary_logloss": "log_loss",
    "categorical_accuracy": "accuracy",
    "categorical_crossentropy": "log_loss",
    "cross_entropy": "log_loss",
    "l1": "mae",
    "l2": "mse",
    "logloss": "log_loss",
    "mean_absolute_error": "mae",
    "mean_squared_error": "mse",
    "mlogloss": "log_loss",
    "multi_logloss": "log_loss",
    "pearsonr": "pearson",
    "pr_auc": "average_precision",
    "quadratic_weighted_kappa": "quadratic_kappa",
    "qwk": "quadratic_kappa",
    "roc_auc": "auroc",
    "roc_auc_ovr": "auroc",
    "root_mean_squared_error": "rmse",
    "sparse_categorical_crossentropy": "log_loss",
    "spearmanr": "spearman",
}

#: What a task is judged by if it does not say.
DEFAULTS = {"classes": ["accuracy"], "binary": ["auroc"], "values": ["mae", "r2"]}
DEFAULTS_OF_ROWS = {"spans": ["accuracy", "span_f1"], "relations": ["relation_f1", "attachment"], "ranks": ["ndcg"]}


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
        if name in LABELS or name in VALUES or of_rows(name):
            raise ValueError(f"task `{task}`: `{name}` is a metric of ours; give yours another name")
        found.append(Metric(name, function, getattr(function, "higher_is_better", None)))
    return found


def of_rows(name: str) -> bool:
    """Whether it is one of ours for which rows have to be whole."""
    return name in OF_ROWS or _ranks(name)


def _ranks(name: str) -> bool:
    return name in RANKS or _FIRST.fullmatch(name) is not None


def _one(metric: Any, task: str) -> Metric:
    if isinstance(metric, Metric):  # of another task
        return metric
    if isinstance(metric, str):
        known = [*LABELS, *VALUES, *OF_ROWS]
        if metric not in known and not _ranks(metric):
            plain = metric.lower().removeprefix("neg_").removesuffix("_score").removesuffix("_macro")
            ours = plain if plain in known else _ELSEWHERE.get(plain)
            told = f"{metric!r}; here it is called `{ours}`; there are {listed(known)}"
            told = none_of(metric, known, "there are") if ours is None else told
            raise ValueError(f"task `{task}`: unknown metric {told}")
        return Metric(metric, None, metric not in _LOWER)
    if not callable(metric):
        raise TypeError(f"task `{task}`: a metric should be a name or a callable; got {metric!r}")
    name = getattr(metric, "__name__", type(metric).__name__)
    return Metric(name, metric, getattr(metric, "higher_is_better", None))


def for_kind(metrics: list[Metric] | None, kind: str, task: str, whole: str | None = None) -> list[Metric]:
    """A task's metrics, or the default ones of its kind of labels, or of the `whole` rows that it is judged by.

    Raises:
        ValueError: one that does not suit the labels.
    """
    if whole == "ranks":
        return _of_ranks(metrics, task)
    default = DEFAULTS[kind] if whole is None else DEFAULTS_OF_ROWS[whole]
    chosen = read(default, task) if metrics is None else metrics
    ours = () if whole is None else WHOLE[whole]
    wrong = next((metric.name for metric in chosen if not metric.fits(kind) and metric.name not in ours), None)
    if wrong in SPANS:
        raise ValueError(f"task `{task}`: metric `{wrong}` is for tasks of spans: say `spans=\"BIO\"`, with kinds "
                         "as `classes`; labels may be tags all the same")  # fmt: skip
    if wrong is not None and _ranks(wrong):
        raise ValueError(f"task `{task}`: metric `{wrong}` is for tasks with `loss=pt.loss.Ranking()`")
    if wrong in RELATIONS:
        raise ValueError(f"task `{task}`: metric `{wrong}` is for tasks of relations: say `per=\"pair\"`, with kinds "
                         "as `classes`")  # fmt: skip
    if wrong is not None:
        fitting = listed([*(VALUES if kind == "values" else LABELS), *ours])
        raise ValueError(f"task `{task}`: metric `{wrong}` does not suit its labels; there are {fitting}")
    return chosen


def _of_ranks(metrics: list[Metric] | None, task: str) -> list[Metric]:
    """Those of a task that ranks the positions of a row."""
    chosen = read(DEFAULTS_OF_ROWS["ranks"], task) if metrics is None else metrics
    wrong = next((metric.name for metric in chosen if not metric.ranks), None)
    if wrong is not None:
        raise ValueError(f"task `{task}`: metrics of a ranking should be {listed([*RANKS, 'ndcg@10'])}; got {wrong!r}")
    return chosen


def load() -> None:
    """Imports torchmetrics, which takes a second, before the first epoch is timed."""
    import torchmetrics.classification

    # Making the first one imports what is left.
    torchmetrics.classification.BinaryF1Score()
