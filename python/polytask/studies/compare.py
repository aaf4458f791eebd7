"""Candidates against single-task networks: tuned alike, chosen by validation, judged on test rows."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments.keywords import checked
from ..arguments.messages import listed
from ..arguments.numbers import whole
from ..components.registry import make
from ..data import Rows
from ..data.split import split
from ..model.model import MultiTaskModel
from ..process import interrupts
from ..results.comparison import SINGLE, Comparison, Way
from ..training.early_stopping import EarlyStopping
from ..training.trainer import Trainer
from .measures import gradients
from .study import HELD_OUT, Network, Study

_log = logging.getLogger("polytask")

#: The part of the rows that is kept for the test where no test data are given.
_TEST = 0.2


@dataclass
class _Job:
    """One network to train, or whose result is there.

    Attributes:
        way: the candidate's name.
        study: of the candidate.
        tasks: names of its tasks.
        seed, factor: from which seed, by which factor of the learning rate.
        result: what was found.
    """

    way: str
    study: Study
    tasks: tuple[str, ...]
    seed: int
    factor: float
    result: dict[str, Any] | None = None


@checked
def compare(
    candidates: Mapping[str, MultiTaskModel | Trainer],
    data: Any,
    *,
    seeds: int = 5,
    validation: Any = HELD_OUT,
    test: Any = None,
    epochs: int = 50,
    batch_size: int = 256,
    patience: int = 6,
    tune: Sequence[float] = (0.3, 1.0, 3.0),
    path: str | PathLike[str] | None = None,
    weights: Any = None,
    progress: bool = True,
) -> Comparison:
    """How good ways to train several tasks are, against single-task networks that are trained for real.

    Single-task networks have the parts and the optimizer of the first candidate. Every network, single-task ones as
    well, is tried with each factor of its learning rate from the first seed; the one with the lowest validation losses
    (the mean over tasks, relative to the best of the trials) is taken for all seeds. Each is stopped at its best epoch
    by validation losses, and judged on test rows, by which nothing is chosen. Candidates train side by side where they
    can; what is given stays as it is.

    Arguments:
        candidates: by name, models (equal weights, Adam) or trainers with their weighting, regularizers and optimizer;
            all of the same tasks.
        data: as for `pt.Trainer.fit`, in memory.
        seeds: how many networks of each.
        validation: data, a `pt.data.Split`, or the fraction of the rows of `data` to hold out.
        test: data to judge on; where none are given, a fifth of the rows of `data`, taken before anything else.
        epochs, batch_size, weights: of each network, as for `pt.Trainer.fit`.
        patience: epochs without a lower validation loss after which a network stops.
        tune: factors of the learning rate; `[1.0]` tries none. An optimizer of PyTorch's stays as it is.
        path: a folder in which each network's result is kept when it is there; a second call with the same arguments
            goes on where the first one was broken off.
        progress: whether bars over the networks are shown.

    Raises:
        TypeError, ValueError: what is wrong, what was expected and what came.
        KeyboardInterrupt: Ctrl-C; results so far are kept in `path`.
    """
    count = whole(seeds, "`seeds`")
    stop = whole(patience, "`patience`")
    trainers = _trainers(candidates)
    factors = _factors(tune)
    with interrupts.held():
        if test is None:
            data, test = split(data, _TEST)
        studies = {
            name: Study(trainer, data, validation, epochs=epochs, batch_size=batch_size, weights=weights)
            for name, trainer in trainers.items()
        }
        first = next(iter(studies.values()))
        tests = {name: _read(study, test, weights) for name, study in studies.items()}
        folder = None if path is None else Path(fspath(path))
        work = _Comparing(first, studies, tests, count, stop, factors, folder, bool(progress))
        return work.run()


class _Comparing:
    """Trains what is asked for, network by network."""

    def __init__(
        self,
        first: Study,
        studies: dict[str, Study],
        tests: dict[str, Rows],
        seeds: int,
        patience: int,
        factors: list[float],
        folder: Path | None,
        progress: bool,
    ) -> None:
        self.first = first
        self.studies = studies
        self.tests = {id(study): tests[name] for name, study in studies.items()}
        self.seeds = seeds
        self.patience = patience
        self.factors = factors
        self.folder = folder
        self.progress = progress
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def run(self) -> Comparison:
        tasks = self.first.tasks
        groups: list[tuple[str, Study, tuple[str, ...]]] = [(SINGLE, self.first, (task,)) for task in tasks]
        groups += [(name, study, tasks) for name, study in self.studies.items()]
        trials = [
            _Job(name, study, members, 0, factor) for name, study, members in groups for factor in self._factors(study)
        ]
        self._train(trials)
        chosen = {(name, members): self._best(trials, name, members) for name, _, members in groups}
        rest = [
            _Job(name, study, members, seed, chosen[name, members])
            for name, study, members in groups
            for seed in range(1, self.seeds)
        ]
        self._train(rest)
        jobs = [job for job in [*trials, *rest] if job.factor == chosen[job.way, job.tasks]]
        ways = {name: self._way(name, [job for job in jobs if job.way == name]) for name in (SINGLE, *self.studies)}
        higher = {
            task.name: {metric.name: bool(metric.higher_is_better) for metric in metrics}
            for task, metrics in zip(self.first.model.tasks, self.first.model.metrics, strict=True)
        }
        rows = len(self.first.train), len(self.first.held_out()), len(self.tests[id(self.first)])
        return Comparison(ways, higher, rows, self._conflicts())

    def _factors(self, study: Study) -> list[float]:
        """Those of a candidate whose learning rate is ours to change."""
        return [1.0] if "optimizer" in study.trainer._own else self.factors

    def _train(self, jobs: Sequence[_Job]) -> None:
        """Trains those whose results are not there, and keeps each when it is."""
        for study in dict.fromkeys(job.study for job in jobs):
            open_jobs = []
            for job in jobs:
                if job.study is study:
                    job.result = self._kept(job)
                    if job.result is None:
                        open_jobs.append(job)
            networks = [self._network(job) for job in open_jobs]
            began = time.perf_counter()
            before = began
            for place, network in study.run(networks, progress=self.progress, callbacks=self._stopping):
                now = time.perf_counter()
                open_jobs[place].result = self._judged(open_jobs[place], network, now - before)
                before = now
                self._keep(open_jobs[place])

    def _network(self, job: _Job) -> Network:
        study = job.study
        settings: dict[str, Any] = {}
        if "optimizer" not in study.trainer._own:
            settings["optimizer"] = _scaled(study.trainer._core.settings["optimizer"], job.factor)
        if job.way == SINGLE:
            changes = {"sharing": {"name": "hard"}}
            return study.network(job.tasks, job.seed, metrics=True, changes=changes, settings=settings)
        return study.network(job.tasks, job.seed, metrics=True, settings=settings, plain=False)

    def _stopping(self, network: Network) -> list[EarlyStopping]:
        return [EarlyStopping("loss", patience=self.patience)]

    def _judged(self, job: _Job, network: Network, seconds: float) -> dict[str, Any]:
        study = job.study
        held_out = study.evaluate(network, study.held_out())
        tested = study.evaluate(network, self.tests[id(study)])
        return {
            "way": job.way,
            "tasks": list(job.tasks),
            "seed": job.seed,
            "factor": job.factor,
            "losses": {task: held_out[task]["loss"] for task in job.tasks},
            "scores": {task: dict(tested[task]) for task in job.tasks},
            "parameters": network.model.summary().parameters,
            "seconds": seconds,
        }

    def _best(self, trials: Sequence[_Job], name: str, members: tuple[str, ...]) -> float:
        """The factor with the lowest losses."""
        each = [job for job in trials if job.way == name and job.tasks == members]
        losses = np.array([[_of(job)["losses"][task] for task in members] for job in each])
        with np.errstate(all="ignore"):
            relative = np.mean(losses / np.abs(np.nanmin(losses, axis=0)), axis=1)
        if np.isnan(relative).all():
            raise ValueError(f"{name}: no validation row has a label of {listed(members)}, and nothing can be chosen")
        return each[int(np.nanargmin(relative))].factor

    def _way(self, name: str, jobs: Sequence[_Job]) -> Way:
        scores: dict[str, dict[str, np.ndarray]] = {task: {} for task in self.first.tasks}
        losses = {task: np.full(self.seeds, np.nan) for task in self.first.tasks}
        for job in jobs:
            found = _of(job)
            for task in job.tasks:
                losses[task][job.seed] = found["losses"][task]
                for metric, value in found["scores"][task].items():
                    values = scores[task].setdefault(metric, np.full(self.seeds, np.nan))
                    values[job.seed] = np.nan if value is None else value
        parameters = sum(_of(job)["parameters"] for job in jobs if job.seed == 0)
        seconds = sum(_of(job)["seconds"] for job in jobs) / self.seeds
        factors = {", ".join(job.tasks): job.factor for job in jobs}
        study = self.first if name == SINGLE else self.studies[name]
        return Way(name, scores, losses, parameters, seconds, len(self._factors(study)), factors)

    def _conflicts(self) -> np.ndarray | None:
        """How often gradients conflict in the first candidate that trains all tasks together."""
        study = self.first
        if len(study.tasks) < 2 or study.model._foreign:
            return None
        try:
            found = gradients.measure(study, 1, None, False).parts["conflict"]
        except ValueError as error:
            _log.info("conflicts of gradients are not known: %s", error)
            return None
        np.fill_diagonal(found, np.nan)
        return None if np.isnan(found).all() else found

    def _file(self, job: _Job) -> Path | None:
        """Where a network's result is kept: named by all that it follows from."""
        if self.folder is None:
            return None
        study = job.study
        settings = {**study.trainer._core.settings, "device": None}
        rows = [study.train, study.held_out(), self.tests[id(study)]]
        follows = [
            job.way, job.tasks, job.seed, job.factor, study.epochs, study.batch_size, self.patience,
            study.model._plain.description, settings, [each.fingerprint() for each in rows],
        ]  # fmt: skip
        digest = hashlib.blake2b(json.dumps(follows, sort_keys=True, default=repr).encode(), digest_size=12)
        return self.folder / f"{digest.hexdigest()}.json"

    def _kept(self, job: _Job) -> dict[str, Any] | None:
        file = self._file(job)
        if file is None or not file.exists():
            return None
        try:
            found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            _log.warning("%s is damaged, and its network trains again", file)
            return None
        return found

    def _keep(self, job: _Job) -> None:
        file = self._file(job)
        if file is not None:
            beside = file.with_suffix(".new")
            beside.write_text(json.dumps(job.result), encoding="utf-8")
            os.replace(beside, file)


def _of(job: _Job) -> dict[str, Any]:
    assert job.result is not None, "it was trained"
    return job.result


def _scaled(optimizer: dict[str, Any], factor: float) -> dict[str, Any]:
    """An optimizer's description with another learning rate."""
    lr = optimizer.get("lr", getattr(make("optim", optimizer), "lr", None))
    if isinstance(lr, dict):
        return {**optimizer, "lr": {group: factor * rate for group, rate in lr.items()}}
    return optimizer if lr is None or factor == 1.0 else {**optimizer, "lr": factor * lr}


def _trainers(candidates: Any) -> dict[str, Trainer]:
    """Candidates as trainers, all of the same tasks.

    Raises:
        TypeError, ValueError: something else.
    """
    if not isinstance(candidates, Mapping) or not candidates:
        raise TypeError(f"`candidates` should be a dict of names and models or trainers; got {candidates!r}")
    found = {}
    for name, each in candidates.items():
        if name == SINGLE:
            raise ValueError(f"`candidates`: the single-task networks are called {SINGLE!r}; choose another name")
        if not isinstance(each, MultiTaskModel | Trainer):
            raise TypeError(f"`candidates[{name!r}]` should be a pt.MultiTaskModel or a pt.Trainer; got {each!r}")
        found[str(name)] = each if isinstance(each, Trainer) else Trainer(each)
    tasks = {name: [task.name for task in trainer.model.tasks] for name, trainer in found.items()}
    first = next(iter(tasks.values()))
    other = next((name for name, each in tasks.items() if each != first), None)
    if other is not None:
        theirs = listed(tasks[other])
        raise ValueError(f"`candidates` should have the same tasks, {listed(first)}; {other!r} has {theirs}")
    return found


def _factors(tune: Any) -> list[float]:
    factors = list(_numbers(tune))
    if not factors:
        raise ValueError("`tune` should have at least one factor; got none")
    return list(dict.fromkeys(factors))


def _numbers(tune: Any) -> Iterator[float]:
    for factor in tune:
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < float("inf"):
            raise ValueError(f"`tune` should be factors of the learning rate, above 0; got {factor!r}")
        yield float(factor)


def _read(study: Study, test: Any, weights: Any) -> Rows:
    """Test rows as a candidate's model reads them."""
    reader = study.model.reader
    rows = reader.read(test, "test", weights=weights, inherit=True)
    if not isinstance(rows, Rows):
        raise ValueError("`test` should be rows of one data set in memory; got batches or several data sets")
    study.trainer._check_whole(rows)
    reader.scales.apply_all(rows)
    return rows
