"""Candidates against single-task networks: tuned alike, chosen by validation, judged on test rows."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from .. import _core
from ..arguments.keywords import checked
from ..arguments.messages import listed
from ..arguments.numbers import whole
from ..arguments.paths import folder_path
from ..data import Rows, forms
from ..data.split import Split, set_apart, split
from ..model.model import MultiTaskModel
from ..process import interrupts, memory
from ..results.comparison import SINGLE, Comparison, Way
from ..training.callback import Callback
from ..training.early_stopping import EarlyStopping
from ..training.settings import at_rates
from ..training.trainer import Trainer
from . import candidates as asked
from . import seeded
from .measures import gradients, probes
from .study import HELD_OUT, Network, Study

_log = logging.getLogger("polytask")

#: The part of the rows that is kept for the test where no test data are given.
_TEST = 0.2
#: What a folder's results follow from stands in this file of it.
_FOLLOWS = "comparison.json"
#: What a kept result has.
_KEYS = {"losses", "scores", "parameters", "seconds", "conflicts", "cosines"}
#: Settings of a trainer by which no network comes out another.
_NO_MATTER = ("device", "threads", "observe")


@dataclass
class _Job:
    """One network to train, or whose result is there.

    Attributes:
        way: the candidate's name.
        study: of the candidate.
        tasks: names of its tasks.
        seed, factor: from which seed, by which factor of the learning rate.
        result: what was found.
        looks: products `[tasks, tasks]` of its tasks' gradients while it trained.
        looking: seconds that this took.
    """

    way: str
    study: Study
    tasks: tuple[str, ...]
    seed: int
    factor: float
    result: dict[str, Any] | None = None
    looks: list[np.ndarray] = field(default_factory=list)
    looking: float = 0.0


@checked
@memory.gives_back
def compare(
    candidates: Mapping[str, MultiTaskModel | Trainer] | Sequence[MultiTaskModel | Trainer],
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

    Single-task networks have the parts and the optimizer of the first candidate, equal weights and no regularizers. All
    networks begin fresh, a candidate's first one from its own seed, and go through the same rows. Each has at last the
    parameters of its best epoch by validation loss, the sum of its tasks' losses as in `pt.History`, plus its trainer's
    regularizers. Every candidate, and every single-task network for itself, is tried with each factor of its learning
    rate from the first seed; the factor with the lowest validation losses (the mean over its tasks, each relative to
    the best of the trials) is taken for all seeds. Judged is on test rows, by which nothing is chosen. Networks of a
    candidate train side by side where they can; what is given stays as it is.

    Arguments:
        candidates: by name, models (equal weights, Adam) or trainers with their weighting, regularizers and optimizer,
            whose callbacks are not called; or a list of them, which are called by their sharing and weighting. All of
            the same tasks, with the same losses and metrics; their inputs, encoders, heads and task weights may differ.
        data: as for `pt.Trainer.fit`, in memory.
        seeds: how many networks of each; of one there are neither intervals nor tests.
        validation: data, a `pt.data.Split`, or the fraction of the rows of `data` to hold out; the same rows for all.
        test: data to judge on; where none are given, a fifth of the rows of `data`, taken before anything else: at
            random, or where `validation` is a `pt.data.Split` by its labels, groups or time.
        epochs, batch_size, weights: of each network, as for `pt.Trainer.fit`.
        patience: epochs without a lower validation loss after which a network stops.
        tune: factors of the learning rates, the same for all; `[1.0]` tries none. An optimizer of PyTorch's has its
            learning rate from whoever made it, and stays as it is.
        path: a folder in which each network's result is kept as soon as it is there; a second call with the same
            arguments goes on where the first one was broken off. More seeds, factors and candidates may be asked for;
            other data or settings of what is there are refused. Code of your own is known by its name alone.
        progress: whether bars over the networks are shown.

    Raises:
        TypeError, ValueError: what is wrong, what was expected and what came.
        OSError: what the operating system says of `path`.
        KeyboardInterrupt: Ctrl-C; results so far are kept in `path`.
    """
    count = whole(seeds, "`seeds`")
    stop = whole(patience, "`patience`")
    trainers = asked.trainers(candidates)
    factors = asked.factors(tune)
    lacking = test is None
    if lacking and weights is not None and not forms.name_columns(weights):
        raise ValueError("`weights` that are arrays are of all rows of `data`, of which a part is kept for the test: "
                         "pass `test`, or the weights with the data, (x, targets, weights)")  # fmt: skip
    with interrupts.held():
        first = next(iter(trainers.values()))
        held_out = asked.held_out(validation, first.seed)
        if lacking and isinstance(validation, Split):
            columns = {task.name: task.columns for task in first.model.tasks}
            data, test, held_out = set_apart(data, _TEST, held_out, columns, 0)
        elif lacking:
            data, test = split(data, _TEST)
        studies = {
            name: Study(trainer, data, held_out, epochs=epochs, batch_size=batch_size, weights=weights)
            for name, trainer in trainers.items()
        }
        tests = {name: asked.read(study, test, weights) for name, study in studies.items()}
        for name, study in studies.items():
            asked.check_labels(study.model, study.held_out(), "validation")
            asked.check_labels(study.model, tests[name], "test")
        folder = None if path is None else Path(folder_path(path))
        work = _Comparing(studies, tests, count, stop, factors, folder, bool(progress))
        return work.run(_how(next(iter(studies.values())), stop, held_out, lacking))


class _Comparing:
    """Trains what is asked for, network by network."""

    def __init__(
        self,
        studies: dict[str, Study],
        tests: dict[str, Rows],
        seeds: int,
        patience: int,
        factors: list[float],
        folder: Path | None,
        progress: bool,
    ) -> None:
        self.first = next(iter(studies.values()))
        self.studies = studies
        self.tests = {id(study): tests[name] for name, study in studies.items()}
        self.seeds = seeds
        self.patience = patience
        self.factors = factors
        self.folder = folder
        self.progress = progress
        self.follows = {name: self._follows(study) for name, study in studies.items()}
        self.follows[SINGLE] = self.follows[next(iter(studies))]
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            _check_folder(folder, self.follows)

    def run(self, how: Sequence[str]) -> Comparison:
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
            task.name: asked.directions(task, metrics)
            for task, metrics in zip(self.first.model.tasks, self.first.model.metrics, strict=True)
        }
        rows = len(self.first.train), len(self.first.held_out()), len(self.tests[id(self.first)])
        return Comparison(ways, higher, rows, how)

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
            of = {id(network): job for network, job in zip(networks, open_jobs, strict=True)}

            def callbacks(network: Network, of: dict[int, _Job] = of) -> list[Callback]:
                return [EarlyStopping("loss", patience=self.patience), *self._looking(of[id(network)], network)]

            for place, network in study.run(networks, progress=self.progress, callbacks=callbacks):
                job = open_jobs[place]
                job.result = self._judged(job, network)
                self._keep(job)

    def _looking(self, job: _Job, network: Network) -> list[Callback]:
        """What looks at the gradients of several tasks, in the network of the last seed."""
        if len(job.tasks) < 2 or job.seed != self.seeds - 1 or network.model._foreign:
            return []

        def look(network: Network, batch: _core.Data) -> None:
            began = time.perf_counter()
            job.looks.append(network.model._plain.gradients(batch, "gramian"))
            job.looking += time.perf_counter() - began

        return [probes.probe(job.study, network, None, look)]

    def _network(self, job: _Job) -> Network:
        study = job.study
        settings: dict[str, Any] = {}
        if "optimizer" not in study.trainer._own:
            settings["optimizer"] = at_rates(study.trainer._core.settings["optimizer"], job.factor)
        if job.way == SINGLE:
            changes = {"sharing": {"name": "hard"}}
            return study.network(job.tasks, job.seed, metrics=True, changes=changes, settings=settings)
        return study.network(job.tasks, job.seed, metrics=True, settings=settings, plain=False)

    def _judged(self, job: _Job, network: Network) -> dict[str, Any]:
        study = job.study
        held_out = study.evaluate(network, study.held_out())
        tested = study.evaluate(network, self.tests[id(study)])
        looks = [gradients.compared(gramian) for gramian in job.looks]
        cosines, conflicts = (
            seeded.mean(np.stack([look[at] for look in looks])).tolist() if looks else None for at in (0, 2)
        )
        return {
            "way": job.way,
            "tasks": list(job.tasks),
            "seed": job.seed,
            "factor": job.factor,
            "losses": {task: held_out[task]["loss"] for task in job.tasks},
            "scores": {task: dict(tested[task]) for task in job.tasks},
            "parameters": network.model.summary().parameters,
            "seconds": sum(network.history["seconds"]) - job.looking,
            "conflicts": conflicts,
            "cosines": cosines,
        }

    def _best(self, trials: Sequence[_Job], name: str, members: tuple[str, ...]) -> float:
        """The factor with the lowest losses."""
        each = [job for job in trials if job.way == name and job.tasks == members]
        losses = np.array([[_of(job)["losses"][task] for task in members] for job in each])
        lowest = np.min(np.where(np.isnan(losses), np.inf, losses), axis=0)
        with np.errstate(all="ignore"):
            relative = np.mean(losses / np.where(lowest == 0, 1.0, np.abs(lowest)), axis=1)
        if not np.isfinite(relative).any():
            raise ValueError(f"`candidates`: {name} has no finite validation losses of {listed(members)} with any "
                             "factor of the learning rate, and nothing can be chosen")  # fmt: skip
        return each[int(np.argmin(np.where(np.isnan(relative), np.inf, relative)))].factor

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
        seen = [_of(job) for job in jobs if _of(job)["conflicts"] is not None]
        looks = [np.array(seen[-1][key], np.float64) if seen else None for key in ("conflicts", "cosines")]
        return Way(name, scores, losses, parameters, seconds, self._factors(study), factors, *looks)

    def _follows(self, study: Study) -> dict[str, str]:
        """What a candidate's results follow from, by what it is called."""
        model, trainer = study.model, study.trainer
        settings = {name: value for name, value in trainer._core.settings.items() if name not in _NO_MATTER}
        own = {name: str(part) for name, part in trainer._own.items()}
        tasks = [[task.notes(), [each.name for each in metrics]]
                 for task, metrics in zip(model.tasks, model.metrics, strict=True)]  # fmt: skip
        return {
            "its model": _digest([model._plain.description, tasks]),
            "its trainer": _digest([settings, own]),
            "`epochs`": _digest(study.epochs),
            "`batch_size`": _digest(study.batch_size),
            "`patience`": _digest(self.patience),
            "the rows to learn from": _digest(study.train.fingerprint()),
            "the rows of `validation`": _digest(study.held_out().fingerprint()),
            "the rows of `test`": _digest(self.tests[id(study)].fingerprint()),
        }

    def _file(self, job: _Job) -> Path | None:
        """Where a network's result is kept: named by all that it follows from."""
        if self.folder is None:
            return None
        named = [job.way, job.tasks, job.seed, job.factor, self.follows[job.way]]
        return self.folder / f"{_digest(named)}.json"

    def _kept(self, job: _Job) -> dict[str, Any] | None:
        file = self._file(job)
        if file is None or not file.exists():
            return None
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        if not isinstance(found, dict) or not found.keys() >= _KEYS:
            _log.warning("%s is damaged, and its network trains again", file)
            return None
        return found

    def _keep(self, job: _Job) -> None:
        file = self._file(job)
        if file is not None:
            _write(file, job.result)


def _write(file: Path, content: Any) -> None:
    """Writes a file that is complete or not there."""
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps(content), encoding="utf-8")
    os.replace(beside, file)


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, default=repr)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _check_folder(folder: Path, follows: dict[str, dict[str, str]]) -> None:
    """Writes down what a folder's results follow from.

    Raises:
        ValueError: those that are there follow from something else.
    """
    file = folder / _FOLLOWS
    there: dict[str, dict[str, str]] = {}
    if file.exists():
        try:
            there = dict(json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            raise ValueError(f"`path`: {file} is damaged; pass another folder") from None
    for name, parts in follows.items():
        before = there.get(name, parts)
        other = [part for part in parts if before.get(part) != parts[part]]
        if other:
            raise ValueError(f"`path`: {folder} has results of another comparison: {name!r} differs in "
                             f"{', '.join(other)}; pass another folder, or the arguments of before")  # fmt: skip
    _write(file, {**there, **follows})


def _of(job: _Job) -> dict[str, Any]:
    assert job.result is not None, "it was trained"
    return job.result


def _how(study: Study, patience: int, held_out: Any, lacking: bool) -> list[str]:
    """How networks were trained, chosen and judged."""
    by = f"{held_out.fraction:g} of the other rows" if isinstance(held_out, Split) else "data that were given"
    ways = ("stratify", "groups", "time")
    by_split = isinstance(held_out, Split) and any(getattr(held_out, way) is not None for way in ways)
    way = "as validation rows are" if by_split else "at random"
    test = f"{_TEST:g} of the rows of `data`, kept {way} before anything else" if lacking else "data that were given"
    return [
        f"Each network trained for at most {study.epochs} epochs in batches of {study.batch_size} rows, stopped after "
        f"{patience} without a lower validation loss (the sum of its tasks' losses, and its regularizers), and has the "
        "parameters of its best epoch.",
        "Single-task networks have the parts and the optimizer of the first candidate.",
        "Every factor below of the learning rate was tried from the first seed, with every candidate and with each "
        "single-task network for itself. The one with the lowest validation losses, the mean over its tasks of each "
        "relative to the best of the trials, was taken for all seeds.",
        f"Validation rows are {by}; test rows are {test}. Nothing was chosen by test rows.",
        "The choice among candidates is the lowest mean over tasks and seeds of the validation loss relative to that "
        "of the single-task network.",
    ]
