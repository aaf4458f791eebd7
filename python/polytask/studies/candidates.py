"""What is compared: candidates as trainers of the same tasks, rows to choose by and to judge on, read and checked."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..arguments.messages import listed
from ..data import Rows, labels
from ..data.split import Split
from ..data.task import Task
from ..metrics import Metric
from ..model import scoring
from ..model.model import MultiTaskModel
from ..results.comparison import SINGLE
from ..training.trainer import Trainer
from .study import Study

_log = logging.getLogger("polytask")


def trainers(candidates: Any) -> dict[str, Trainer]:
    """Candidates as trainers, all of the same tasks.

    Raises:
        TypeError, ValueError: something else.
    """
    single = isinstance(candidates, MultiTaskModel | Trainer | str)
    if single or not isinstance(candidates, Mapping | Sequence) or not candidates:
        raise TypeError("`candidates` should be a dict of names and models or trainers, or a list of those; got "
                        f"{candidates!r}")  # fmt: skip
    if isinstance(candidates, Mapping):
        wrong = next((name for name in candidates if not isinstance(name, str)), None)
        if wrong is not None:
            raise TypeError(f"`candidates` should have strings as names; got {wrong!r}")
        found = {name: _trainer(each, name) for name, each in candidates.items()}
    else:
        found = dict(_called([_trainer(each, at) for at, each in enumerate(candidates)]))
    if SINGLE in found:
        raise ValueError(f"`candidates`: the single-task networks are called {SINGLE!r}; choose another name")
    first = next(iter(found))
    for name, trainer in found.items():
        _check_tasks(first, found[first].model, name, trainer.model)
        if trainer.callbacks:
            _log.warning("`candidates`: the callbacks of %r are not called", name)
    return found


def _trainer(candidate: Any, name: object) -> Trainer:
    if not isinstance(candidate, MultiTaskModel | Trainer):
        raise TypeError(f"`candidates[{name!r}]` should be a pt.MultiTaskModel or a pt.Trainer; got {candidate!r}")
    return candidate if isinstance(candidate, Trainer) else Trainer(candidate)


def _called(trainers: Iterable[Trainer]) -> Iterator[tuple[str, Trainer]]:
    """Trainers by their sharing and weighting, with a number for a second one of these."""
    seen = Counter[str]()
    for trainer in trainers:
        weighting = trainer._own.get("weighting", trainer._core.settings["weighting"]["name"])
        name = f"{trainer.model._plain.description['sharing']['name']}, {weighting}"
        seen[name] += 1
        yield name + (f" ({seen[name]})" if seen[name] > 1 else ""), trainer


def _check_tasks(first: str, model: MultiTaskModel, name: str, other: MultiTaskModel) -> None:
    """Raises:
    ValueError: the tasks of two candidates differ in what losses and metrics would mean.
    """
    ours, theirs = ([task.name for task in each.tasks] for each in (model, other))
    if ours != theirs:
        raise ValueError(f"`candidates` should have the same tasks, {listed(ours)}; {name!r} has {listed(theirs)}")
    each = zip(model.tasks, model.metrics, other.tasks, other.metrics, strict=True)
    for task, metrics, another, others in each:
        directions(task, metrics)
        one, two = _meaning(task, metrics), _meaning(another, others)
        wrong = next((key for key in one if one[key] != two[key]), None)
        if wrong is not None:
            raise ValueError(f"`candidates` should have the same tasks; `{wrong}` of task `{task.name}` is "
                             f"{one[wrong]!r} in {first!r} and {two[wrong]!r} in {name!r}")  # fmt: skip


def _meaning(task: Task, metrics: Sequence[Metric]) -> dict[str, Any]:
    """What a task's losses and metrics follow from."""
    described, notes = task.describe(), task.notes()
    kept = {key: described[key] for key in ("loss", "classes", "outputs")}
    return {**kept, **{key: notes[key] for key in ("labels", "scale")}, "metrics": [each.name for each in metrics]}


def directions(task: Task, metrics: Sequence[Metric]) -> dict[str, bool]:
    """Whether more of each metric is better; of the loss, where a task has no metrics.

    Raises:
        ValueError: nobody says so.
    """
    for metric in metrics:
        if metric.higher_is_better is None:
            raise ValueError(f"`candidates`: whether a higher `{metric.name}` of task `{task.name}` is better is not "
                             "known; give the metric an attribute `higher_is_better`")  # fmt: skip
    return {metric.name: bool(metric.higher_is_better) for metric in metrics} or {"loss": False}


def held_out(validation: Any, seed: int) -> Any:
    """What is held out, by one seed for all candidates."""
    if isinstance(validation, Split):
        return validation if validation.seed is not None else replace(validation, seed=seed)
    if isinstance(validation, int | float) and not isinstance(validation, bool) and 0 < validation < 1:
        return Split(validation, seed=seed)
    return validation


def check_labels(model: MultiTaskModel, rows: Rows, argument: str) -> None:
    """Raises:
    ValueError: a task has no label in rows that it is judged by.
    """
    for at, (task, kind) in enumerate(zip(model.tasks, model.kinds, strict=True)):
        if not labels.any_known(rows.of([at]), [kind]):
            raise ValueError(f"`{argument}` should have labels of every task; none of its {len(rows)} rows has one of "
                             f"`{task.name}`")  # fmt: skip


def factors(tune: Any) -> list[float]:
    found = list(_numbers(tune))
    if not found:
        raise ValueError("`tune` should have at least one factor; got none")
    return list(dict.fromkeys(found))


def _numbers(tune: Any) -> Iterator[float]:
    for factor in tune:
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < float("inf"):
            raise ValueError(f"`tune` should be factors of the learning rate, above 0; got {factor!r}")
        yield float(factor)


def read(study: Study, test: Any, weights: Any) -> Rows:
    """Test rows as a candidate's model reads them."""
    reader = study.model.reader
    rows = reader.read(test, "test", weights=weights, inherit=True)
    if not isinstance(rows, Rows):
        raise ValueError("`test` should be rows of one data set in memory; got batches or several data sets")
    scoring.check(study.model, rows)
    reader.scales.apply_all(rows)
    return rows
