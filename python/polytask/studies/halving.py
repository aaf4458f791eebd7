"""Successive halving: trials that train side by side, of which the best go on at each rung."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..model.transfer import Start
from ..training.callback import Callback
from ..training.monitor import Watched, find
from ..training.progress import Networks
from ..training.run import Run
from ..training.trainer import Trainer
from .running import advance
from .space import Made
from .study import Network, Study
from .trials import Trial

_log = logging.getLogger("polytask")


def rungs_of(trials: int, epochs: int, eta: int | None, least: int) -> list[int]:
    """The epochs after which the best trials go on, the last epoch included."""
    rungs = [epochs]
    while eta is not None and trials >= eta and rungs[0] >= eta * least:
        trials //= eta
        rungs.insert(0, rungs[0] // eta)
    return rungs


def halve(
    study: Study,
    candidates: Sequence[Candidate],
    rungs: Sequence[int],
    eta: int | None,
    progress: bool,
    write: Callable[[], None],
) -> list[Candidate]:
    """Trains rung by rung; gives all, the best one first."""
    going = list(candidates)
    behind: list[Candidate] = []
    bar = Networks(progress, sum(max(1, len(candidates) // (eta or 1) ** k) for k in range(len(rungs))))
    try:
        for rung in rungs:
            calls = [partial(each.train, rung) for each in going]
            for _ in study.side_by_side([each.loop for each in going], calls):
                write()
                bar.next()
            ranked = _ranked(going, rung)
            stay = len(ranked) if rung == rungs[-1] else max(1, len(ranked) // (eta or 1))
            fit = sum(each.error is None for each in ranked)
            going, left = ranked[: min(stay, fit)], ranked[min(stay, fit) :]
            behind = left + behind
            for each in left:
                each.end()
            if not going:
                raise ValueError(f"every trial failed, the first one: {behind[0].error}")
        for each in going:
            each.end()
        write()
    finally:
        bar.close()
    return going + behind


def _ranked(candidates: Sequence[Candidate], rung: int) -> list[Candidate]:
    """The best first, by the mean of their ranks in what is watched; those that failed last, in their order."""
    values = np.array([each.judged(rung) for each in candidates])
    values[np.isnan(values)] = -np.inf
    ranks = np.mean([[np.mean(column > value) + 0.5 * np.mean(column == value) for value in column]
                     for column in values.T], 0)  # fmt: skip
    order = sorted(range(len(candidates)), key=lambda at: (candidates[at].error is not None, ranks[at]))
    return [candidates[at] for at in order]


def network_of(study: Study, start: Start, made: Made) -> Network:
    """A fresh network of a trial's settings, which begins with what the study's model has learned or is frozen."""
    found = study.fresh(made.tasks, **made.changes)
    start.give(found._core)
    return Network(study.tasks, 0, study.trainer._twin(found, study.trainer.seed, **made.trainer))


class Candidate:
    """A trial that trains."""

    def __init__(
        self,
        number: int,
        made: Made,
        study: Study,
        network: Network,
        watched: Watched,
        patience: int,
        rungs: Sequence[int],
        folder: str | None,
    ) -> None:
        self.error: str | None = None
        self._trainer: Trainer | None = network.trainer
        self._file = None if folder is None else os.path.join(folder, f"trial-{number:04d}.safetensors")
        self._epochs = study.epochs
        judge = _Judge(watched, study, network)
        self._keeper = _Keeper(judge, patience, rungs, self._file)
        self.loop = study.loop(network, [self._keeper], batch_size=made.batch_size)
        judge.read(self.loop.columns())
        self.trial = Trial(number, made.settings, network.model, network.history)

    def train(self, until: int) -> None:
        """Goes on to a rung; one whose numbers are no longer finite has failed."""
        trainer = self._trainer
        begun = self.loop.paused
        if trainer is None or self.error is not None or (len(self.trial.history) and not begun):
            return
        self.error = advance(trainer, self.loop, self._file, until)
        if self.error is not None:
            _log.warning("trial %s %s failed: %s", self.trial.number, self.trial.settings, self.error)

    def judged(self, rung: int) -> list[float]:
        """What is watched at the best epoch up to a rung, higher being better; NaN of one that failed or that never was
        a number.
        """
        judge = self._keeper.judge
        each = [judge.signed(row) for row in self.trial.history[:rung]]
        best = judge.best([values[0] for values in each])
        return [math.nan] * len(judge.names) if best is None or self.error is not None else each[best]

    def end(self) -> None:
        """Ends the training where it is: the model is as after its best epoch, and the optimizer's memory is free."""
        trial = self.trial
        if self._trainer is not None and self.loop.paused:
            self._trainer.stop()
            self._trainer._go(self.loop, False, None)
        judge = self._keeper.judge
        best = judge.best([judge.signed(row)[0] for row in trial.history])
        trial.curve = [judge.values(row)[judge.names[0]] for row in trial.history]
        if best is not None:
            trial.best_epoch = best + 1
            trial.values = judge.values(trial.history[best])
        self._trainer = None
        trial.state = self.state
        trial.error = self.error

    @property
    def state(self) -> str:
        """In a word."""
        if self.error is not None:
            return "failed"
        if self._keeper.gave_up:
            return "stopped"
        return "complete" if len(self.trial.history) == self._epochs else "halted"


class _Judge:
    """What of a row of the history counts.

    "loss" is the sum of the tasks' losses by the weights of the study's model, so that trials with other weights and
    regularizers compare.
    """

    def __init__(self, watched: Watched, study: Study, network: Network) -> None:
        self.names = watched.names
        self._modes = watched.modes
        self._model = network.model
        self._weights = {f"validation/{task.name}/loss": task.weight for task in study.model.tasks}
        self._columns: list[tuple[str, int]] = []

    def read(self, columns: Sequence[str]) -> None:
        """Learns which columns there will be.

        Raises:
            ValueError: what is watched is none of them.
        """
        pairs = zip(self.names, self._modes, strict=True)
        self._columns = [find(name, mode, columns, self._model) for name, mode in pairs]

    def values(self, row: Mapping[str, Any]) -> dict[str, float]:
        """What is watched, by name."""
        pairs = zip(self.names, self._columns, strict=True)
        return {name: self._loss(row) if name == "loss" else float(row[column]) for name, (column, _) in pairs}

    def signed(self, row: Mapping[str, Any]) -> list[float]:
        """The same, higher being better."""
        return [sign * value for value, (_, sign) in zip(self.values(row).values(), self._columns, strict=True)]

    @staticmethod
    def best(values: Sequence[float]) -> int | None:
        """Where the first of the highest is."""
        known = [at for at, value in enumerate(values) if not math.isnan(value)]
        return max(known, key=lambda at: (values[at], -at), default=None)

    def _loss(self, row: Mapping[str, Any]) -> float:
        each = [weight * row[name] for name, weight in self._weights.items() if not math.isnan(row[name])]
        return sum(each) if each else math.nan


class _Keeper(Callback):
    """Keeps the best epoch's parameters, ends a run that gets no better, and writes a checkpoint at each rung."""

    beside_others = True
    last = True

    def __init__(self, judge: _Judge, patience: int, rungs: Sequence[int], file: str | None) -> None:
        self.judge = judge
        self.gave_up = False
        self._patience = patience
        self._rungs = rungs
        self._file = file
        self._best: float | None = None
        self._wait = 0
        self._kept: dict[str, np.ndarray] = {}

    def on_epoch_end(self, trainer: Run, row: dict[str, Any]) -> None:
        value = self.judge.signed(row)[0]
        if not math.isnan(value) and (self._best is None or value > self._best):
            self._best = value
            self._wait = 0
            self._kept = trainer.model.state_dict()
        else:
            self._wait += 1
        if self._wait >= self._patience and row["epoch"] < self._rungs[-1]:
            self.gave_up = True
            trainer.stop()
        if self._file is not None and (self.gave_up or row["epoch"] in self._rungs):
            trainer.save(self._file)

    def on_fit_end(self, trainer: Run) -> None:
        if self._kept:
            trainer.model.load_state_dict(self._kept)
        self._kept = {}

    def state(self) -> dict[str, Any]:
        return {"best": self._best, "wait": self._wait, "gave_up": self.gave_up}

    def arrays(self) -> dict[str, np.ndarray]:
        return self._kept

    def restore(self, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self._best = state["best"]
        self._wait = int(state["wait"])
        self.gave_up = bool(state["gave_up"])
        self._kept = arrays
