"""From the parameters of an estimator to its model, and the model's training."""

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import _check_sample_weight

from ..arguments.messages import listed
from ..arguments.numbers import whole
from ..components.component import Component
from ..components.own_module import apart, is_module
from ..components.registry import make
from ..data import Split
from ..data.finder import Finder
from ..data.inputs import Inputs
from ..data.task import Task
from ..model.ensemble import Ensemble
from ..model.model import MultiTaskModel
from ..results.history import History
from ..studies.search import search
from ..studies.tabular import GOOD_ENCODER, GOOD_OPTIMIZER, GOOD_PATIENCE
from ..training.early_stopping import EarlyStopping
from ..training.trainer import Trainer
from . import targets
from .features import Batches, Scaling
from .labels import Labels
from .tables import Learned
from .targets import Target

#: Parameters of the encoder that there is without one of the caller's own.
_OF_LAYERS = ("hidden_layer_sizes", "activation", "dropout")
#: How much trouble an estimator may take, and the parameters that it says itself then.
_QUALITIES: dict[str, tuple[str, ...]] = {
    "fast": (),
    "good": ("encoder", "hidden_layer_sizes", "activation"),
    "best": ("encoder", *_OF_LAYERS, "optimizer", "lr", "schedule", "early_stopping", "warm_start"),
}
#: The part of the rows that is held out where nobody says it, and how many rows choose an ensemble, if they are no more
#: than a part of all.
_STOPPING, _CHOOSING, _MOST_CHOOSING = 0.1, 250, 0.25


@dataclass(frozen=True, eq=False)
class Rows:
    """What there is to learn from: features, targets by task, and row weights."""

    x: Any
    targets: Mapping[str, np.ndarray]
    weights: np.ndarray | None

    def take(self, at: np.ndarray) -> "Rows":
        """Some of the rows."""
        some = {name: y[at] for name, y in self.targets.items()}
        return Rows(self.x[at], some, None if self.weights is None else self.weights[at])

    def data(self, scaling: Scaling | Learned, size: int, seed: int | None) -> Any:
        """What a trainer takes: arrays, or of sparse features batches of this size."""
        if hasattr(self.x, "tocsr") and isinstance(scaling, Scaling):
            return Batches(self.x, self.targets, self.weights, scaling, size, seed)
        weights = () if self.weights is None else (self.weights,)
        return scaling.whole(self.x), self.targets, *weights


def made(
    settings: Any, kind: str | None, features: int | Inputs, labels: Labels, seed: int
) -> tuple[MultiTaskModel, list[Target]]:
    """A model of so many features, or of a table's, with its tasks, given or inferred, all of this kind if it is one.

    Raises:
        ValueError, TypeError: what is wrong among the parameters, or labels of another kind.
    """
    inferred = targets.inferred(labels, kind) if settings.tasks is None else None
    tasks = targets.given(settings.tasks) if inferred is None else [task for task, _ in inferred]
    # Of a module the model has a copy: what `fit` is given stays as it is, and a second `fit` begins as the first did.
    own = [copy.deepcopy(task) if is_module(task.head) else task for task in tasks]
    parts = {"encoder": apart(_encoder(settings)), "sharing": settings.sharing, "head": apart(settings.head)}
    model = MultiTaskModel(features, tasks=own, seed=seed, **parts)
    pairs = list(zip(tasks, model.kinds, strict=True))
    wrong = [task.name for task, each in pairs if kind is not None and (each == "values") != (kind == "values")]
    if wrong:
        raise ValueError(f"`tasks` of {type(settings).__name__} should all be of {kind}; {listed(wrong)} are not: "
                         "pt.sklearn.MultiTaskEstimator takes both")  # fmt: skip
    classes = [targets.classes_of(*pair) for pair in pairs] if inferred is None else [each for _, each in inferred]
    return model, [Target(*pair, each) for pair, each in zip(pairs, classes, strict=True)]


def check_quality(settings: Any) -> None:
    """Refuses a quality that there is not, and parameters that it says itself.

    Raises:
        ValueError: which one, and what was expected.
    """
    quality = settings.quality
    if not isinstance(quality, str) or quality not in _QUALITIES:
        raise ValueError(f"`quality` should be one of {listed(_QUALITIES)}; got {quality!r}")
    known = inspect.signature(type(settings)).parameters
    for name in _QUALITIES[quality]:
        value = getattr(settings, name)
        if value is not known[name].default and not np.array_equal(value, known[name].default):
            raise ValueError(f"`{name}` should be left out with quality={quality!r}, which says it itself; got "
                             f"{value!r}")  # fmt: skip


def _encoder(settings: Any) -> Any:
    if settings.quality == "good":
        return make("encoder", {**GOOD_ENCODER, "dropout": settings.dropout})
    if settings.encoder is not None:
        known = inspect.signature(type(settings)).parameters
        differ = (name for name in _OF_LAYERS if getattr(settings, name) != known[name].default)
        if (other := next(differ, None)) is not None:
            raise ValueError(f"`{other}` should be left out where there is an `encoder`, which says it itself; got "
                             f"{getattr(settings, other)!r}")  # fmt: skip
        return settings.encoder
    sizes = settings.hidden_layer_sizes
    sizes = [sizes] if not hasattr(sizes, "__iter__") or isinstance(sizes, str) else sizes
    if any(isinstance(size, Task) for size in sizes):
        raise TypeError("tasks are given by name, `tasks=[...]`; by position the first is `hidden_layer_sizes`")
    hidden = [whole(size, "`hidden_layer_sizes`") for size in sizes]
    layers = {"name": "mlp", "hidden": hidden, "activation": settings.activation, "dropout": settings.dropout}
    return make("encoder", layers)


def check_watches(settings: Any, x: Any, y: Any) -> None:
    """Refuses validation rows without labels, labels without rows, and both where nothing looks at them.

    Raises:
        ValueError: which it is.
    """
    if x is None or y is None:
        given, other = ("X_val", "y_val") if y is None else ("y_val", "X_val")
        raise ValueError(f"`{given}` should come with `{other}`; got none")
    if settings.quality == "fast" and not settings.early_stopping:
        raise ValueError('`X_val` is looked at with early_stopping=True, or a quality of "good" or "best"; got neither')


def ensemble(
    settings: Any, model: MultiTaskModel, rows: Rows, given: Rows | None, scaling: Scaling | Learned, seed: int
) -> tuple[Ensemble, History]:
    """The ensemble of `quality="best"`, whose networks are of the model's inputs, tasks, sharing and head, chosen by
    the rows that are given for it or by some that are held out.

    Raises:
        ValueError, TypeError: what is wrong, what was expected and what came.
    """
    if any(hasattr(part.x, "tocsr") for part in (rows, given) if part is not None):
        raise ValueError('`X` and `X_val` should be dense with quality="best", whose networks all learn from rows in '
                         "memory; got a sparse matrix")  # fmt: skip
    trainer = Trainer(
        model,
        weighting=copy.deepcopy(settings.weighting),
        regularizers=settings.regularizers,
        clip_norm=settings.clip_norm,
        device=settings.device,
        threads=settings.threads,
        seed=seed,
    )
    rest, held = _parted(settings, rows, given, seed)
    size = None if settings.batch_size == "auto" else _batch_size(settings.batch_size, rows.x.shape[0])
    found = search(
        trainer,
        rest.data(scaling, 0, seed),
        ensemble="greedy",
        trials=whole(settings.trials, "`trials`"),
        validation=held.data(scaling, 0, None),
        epochs=whole(settings.epochs, "`epochs`"),
        batch_size=size,
        patience=whole(settings.n_iter_no_change, "`n_iter_no_change`"),
        seed=seed,
        progress=bool(settings.verbose),
    )
    assert isinstance(found, Ensemble)
    return found, History(found.rounds)


def train(
    settings: Any, model: MultiTaskModel, rows: Rows, given: Rows | None, scaling: Scaling | Learned, seed: int
) -> History:
    """Trains the model on the rows, some of which are held out where it is to stop early and no others are given.

    Raises:
        ValueError, TypeError: what is wrong, what was expected and what came.
    """
    optimizer, lr = _optimizer(settings)
    early = settings.early_stopping or settings.quality == "good"
    trainer = Trainer(
        model,
        optimizer,
        lr=lr,
        schedule=settings.schedule,
        weighting=copy.deepcopy(settings.weighting),
        regularizers=settings.regularizers,
        clip_norm=settings.clip_norm,
        callbacks=[_stopping(settings)] if early else [],
        device=settings.device,
        threads=settings.threads,
        seed=seed,
    )
    size = _batch_size(settings.batch_size, rows.x.shape[0])
    held_out = None
    if early:
        rows, held = _parted(settings, rows, given, seed)
        held_out = held.data(scaling, size, None)
    return trainer.fit(
        rows.data(scaling, size, seed),
        validation=held_out,
        epochs=whole(settings.epochs, "`epochs`"),
        batch_size=size,
        progress=bool(settings.verbose),
    )


def _optimizer(settings: Any) -> tuple[Any, Any]:
    """The optimizer, and a learning rate beside it if it is a name."""
    optimizer, lr = settings.optimizer, settings.lr
    if settings.quality == "good" and optimizer == "adamw":
        optimizer = make("optim", GOOD_OPTIMIZER)
    if lr is None or not isinstance(optimizer, Component) or "lr" not in optimizer.defaults():
        return optimizer, lr
    return type(optimizer)(**{**vars(optimizer), "lr": lr}), None


def _stopping(settings: Any) -> EarlyStopping:
    tol = settings.tol
    if isinstance(tol, bool) or not isinstance(tol, float | int) or not 0 <= tol < np.inf:
        raise ValueError(f"`tol` should be a number of at least 0; got {tol!r}")
    patience = whole(settings.n_iter_no_change, "`n_iter_no_change`")
    return EarlyStopping("loss", max(patience, GOOD_PATIENCE) if settings.quality == "good" else patience, tol)


def _parted(settings: Any, rows: Rows, given: Rows | None, seed: int) -> tuple[Rows, Rows]:
    """Rows to learn from, and those to stop and to choose by: others that are given, or some of these with the shares
    of classes.
    """
    if given is not None:
        return rows, given
    fraction = settings.validation_fraction
    if fraction is None:
        # By a tenth of few rows an ensemble is chosen that is sure of them by chance.
        choosing = min(_CHOOSING / rows.x.shape[0], _MOST_CHOOSING) if settings.quality == "best" else 0.0
        fraction = max(_STOPPING, choosing)
    if isinstance(fraction, bool) or not isinstance(fraction, float | int) or not 0 < fraction < 1:
        raise ValueError(f"`validation_fraction` should be a number between 0 and 1, or None; got {fraction!r}")
    classes = [y for y in rows.targets.values() if y.dtype.kind != "f"]
    held = Split(fraction, stratify=classes or None).rows(rows.x.shape[0], Finder(None), None, seed)
    return rows.take(np.setdiff1d(np.arange(rows.x.shape[0]), held)), rows.take(held)


def _batch_size(size: Any, rows: int) -> int:
    if not isinstance(size, str):
        return whole(size, "`batch_size`")
    if size != "auto":
        raise ValueError(f'`batch_size` should be "auto" or a whole number of at least 1; got {size!r}')
    return int(np.clip(2 ** round(np.log2(rows / 40)), 16, 256))


def read_weights(weights: Any, x: Any) -> np.ndarray:
    """Row weights `[rows]`.

    Raises:
        ValueError: another shape, a weight below 0 or not finite, or all of them 0.
    """
    found: np.ndarray = _check_sample_weight(weights, x, dtype=np.float64, ensure_non_negative=True)
    if not found.any():
        raise ValueError("`sample_weight` should have a weight that is not zero; got zeros alone")
    return found
