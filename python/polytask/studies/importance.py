"""Permutation importance: what each task loses when a column no longer belongs to its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import metrics as _metrics
from ..arguments.keywords import checked
from ..arguments.messages import none_of
from ..arguments.numbers import seeded, whole
from ..metrics import Metric
from ..model import labelled, predictions
from ..model.ensemble import Ensemble
from ..model.model import MultiTaskModel
from ..process import interrupts
from ..results.importance import Importance
from .features import Features, predictor


@checked
def importance(
    model: MultiTaskModel | Ensemble,
    data: Any,
    metric: Any = None,
    *,
    tasks: Sequence[str] | str | None = None,
    columns: Sequence[str] | str | None = None,
    repeats: int = 5,
    seed: int | None = 0,
    weights: Any = None,
    batch_size: int = 4096,
) -> Importance:
    """How much each task depends on each column: what its metric loses when the column's values are permuted among rows
    (Breiman, Random Forests, Machine Learning 2001; Fisher, Rudin and Dominici, All Models are Wrong, but Many are
    Useful, JMLR 2019, of which this is the difference). Nothing is trained; the model is as it was.

    A column of a frame is permuted as a whole, with its bins, its indicator of missing numbers and all values of a bag;
    of an array, each number of a row; of arrays of a shape and of features of positions, all that a row has. One
    permutation serves all tasks.

    What is important is so to this model. Of columns that say the same each is unimportant as long as the other is
    there, and permuted rows may be such as there are none. On training rows it is what the model uses, on other rows
    what that is worth.

    Arguments:
        model: a `pt.MultiTaskModel` or a `pt.Ensemble`; of an estimator of `pt.sklearn` its `model_`, with features in
            its scale.
        data: one data set with targets, in any form that `pt.Trainer.fit` takes; it is held in memory.
        metric: a name, a callable or `{name: callable}` as for `pt.Task(metrics=)`, for all tasks, or one a task,
            `{task: metric}`; by default the first of each task. A callable without `higher_is_better` is taken to be
            better where it is higher.
        tasks: names of tasks of rows; by default all that have labels there.
        columns: which; all by default.
        repeats: permutations of each column.
        seed: of the permutations; None as for `pt.Trainer`.
        weights: as for `fit`: rows of weight 0 are left out of metrics.
        batch_size: rows that are predicted at a time.

    Raises:
        TypeError, ValueError: what is wrong, what was expected and what came.
        KeyboardInterrupt: Ctrl-C.
    """
    subject = predictor(model)
    count, size, start = whole(repeats, "`repeats`"), whole(batch_size, "`batch_size`"), seeded(seed)
    each = {task.name: (task, kind) for task, kind in zip(subject.tasks, subject.kinds, strict=True)}
    rows_alone = [name for name, (task, _) in each.items() if task.per is None]
    names = labelled.chosen(tasks, rows_alone, "tasks of rows")
    judges = _judges(subject, metric, names)
    with interrupts.held():
        data, parts = labelled.read(subject.reader, data, weights, size)
        features = Features(subject, data, size)
        if sum(map(len, parts)) != len(features):
            raise TypeError("`data` should be (x, {task: targets}), a frame, a Dataset or batches")
        kinds = [each[task.name][1] for task in subject.tasks]
        nothing = [np.empty((len(features), 0), np.float32)] * len(kinds)
        found = labelled.gathered([(part, nothing) for part in parts], subject.tasks, kinds)
        known = {name: _known(each[name][1], found[name]) for name in names if name in found}
        known = {name: labels for name, labels in known.items() if _any(labels)}
        lacking = next((name for name in names if name not in known), None)
        if lacking is not None and (tasks is not None or not known):
            raise ValueError(f"`data` have no label for task `{lacking}`")
        wanted = features.names if columns is None else [columns] if isinstance(columns, str) else list(columns)
        wanted = [features.check(name) for name in wanted]

        def scores(rows: Any) -> np.ndarray:
            outputs = features.predict(rows)
            return np.array([
                judges[name].score(each[name][1], predictions.points(each[name][0], outputs[name]), labels)
                for name, labels in known.items()
            ])  # fmt: skip

        signs = np.array([-1.0 if judges[name].higher_is_better is False else 1.0 for name in known])
        plain = scores(features.rows)
        losses = np.empty((len(known), len(wanted), count))
        for i, name in enumerate(wanted):
            for repeat in range(count):
                interrupts.look()
                order = np.random.default_rng([start, i, repeat]).permutation(len(features))
                losses[:, i, repeat] = signs * (plain - scores(features.permuted(name, order)))
    return Importance(
        wanted,
        {name: judges[name].name for name in known},
        dict(zip(known, plain.tolist(), strict=True)),
        dict(zip(known, losses, strict=True)),
    )


def _judges(subject: MultiTaskModel | Ensemble, metric: Any, names: Sequence[str]) -> dict[str, Metric]:
    """The metric of each task."""
    models = list(subject) if isinstance(subject, Ensemble) else [subject]
    own: dict[str, list[Metric]] = {}
    kinds: dict[str, str] = {}
    for model in models:
        for task, kind, each in zip(model.tasks, model.kinds, model.metrics, strict=True):
            own.setdefault(task.name, each)
            kinds[task.name] = kind
    by_task = isinstance(metric, Mapping) and not any(
        callable(each) and name not in own for name, each in metric.items()
    )
    unknown = next((name for name in metric if name not in own), None) if by_task else None
    if unknown is not None:
        raise ValueError(f"`metric`: unknown task {none_of(unknown, own, 'the model has')}")
    found = {}
    for name in names:
        asked = metric.get(name) if by_task else metric
        several = own[name] if asked is None else _metrics.for_kind(_metrics.read(asked, name), kinds[name], name)
        if not several:
            raise ValueError(f"task `{name}` has no metric: say one by `metric`")
        if asked is not None and len(several) > 1:
            raise ValueError(f"`metric` should be one for task `{name}`; got {len(several)}")
        found[name] = several[0]
    return found


def _known(kind: str, found: labelled.Labelled) -> np.ndarray:
    """Labels, without those of rows of weight 0."""
    out = found.weights == 0
    if kind == "classes":
        return np.where(out, -1, found.known)
    return np.where(out[:, None], np.nan, found.known)


def _any(known: np.ndarray) -> bool:
    return bool((known >= 0).any() if known.dtype.kind == "i" else (~np.isnan(known)).any())
