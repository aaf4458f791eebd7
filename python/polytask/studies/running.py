"""Networks that train epoch by epoch, watched on held-out rows, each until it stops for itself."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..data.task import Task
from ..model.averaged import Averaged
from ..model.chosen import Candidate
from ..model.model import MultiTaskModel
from ..training.callback import Callback
from ..training.loop import Loop
from ..training.run import Run
from ..training.trainer import Trainer
from .space import Made
from .study import Network, Study

_log = logging.getLogger("polytask")

#: Held-out rows that are predicted at a time: many networks keep room for so many.
_ROWS = 1024

#: A network after one of its epochs.
Key = tuple[int, int]


def advance(trainer: Trainer, loop: Loop, file: str | None, until: int) -> str | None:
    """Trains on to an epoch: from a pause, from a checkpoint if there is one, or from the beginning. Gives why it
    failed, if its numbers are no longer finite.

    Raises:
        ValueError: what cannot begin, such as a checkpoint that is damaged.
    """
    resume = file if not loop.paused and file is not None and os.path.exists(file) else None
    try:
        trainer._go(loop, False, resume, until)
    except ValueError as error:
        if trainer.steps == 0:
            raise
        return str(error)
    return None


class Running:
    """A network that trains, and what is known of it afterwards."""

    def __init__(
        self,
        number: int,
        made: Made,
        study: Study,
        judges: Sequence[Averaged],
        patience: int,
        folder: str | None,
        start: Any,
    ) -> None:
        self.number = number
        self.error: str | None = None
        self.state = "going"
        self._made = made
        self._study = study
        self._start = start
        self._file = None if folder is None else os.path.join(folder, f"network-{number:04d}.safetensors")
        self.watcher = Watcher(study, judges, patience, self._file)
        self._network: Network | None = None
        self._loop: Any = None

    def _fresh(self, tasks: Sequence[Task]) -> MultiTaskModel:
        """A fresh network of these settings, which begins from a seed of its own."""
        model = self._study.fresh(tasks, self.number, **self._made.changes)
        self._start.give(model._core)
        return model

    @property
    def _made_network(self) -> Network:
        """Made when it is needed first: networks that stopped in an earlier call need none."""
        if self._network is None:
            study = self._study
            seed = study.trainer.seed + self.number
            model = self._fresh(self._made.tasks)
            model.metrics = [[] for _ in model.tasks]
            trainer = study.trainer._twin(model, seed, **self._made.trainer)
            self._network = Network(study.tasks, self.number, trainer)
        return self._network

    @property
    def model(self) -> MultiTaskModel:
        """The network as it is."""
        return self._made_network.model

    @property
    def loop(self) -> Any:
        """What trains it."""
        if self._loop is None:
            core = self._made_network.trainer._core
            held_out = core.needs_validation or core.watches is not None
            self._loop = self._study.loop(self._made_network, [self.watcher], batch_size=self._made.batch_size,
                                          validated=held_out)  # fmt: skip
        return self._loop

    @property
    def key(self) -> Key:
        """The network after its last epoch."""
        return self.number, self.watcher.epochs

    def train(self, until: int) -> None:
        """Goes on to an epoch; a network whose numbers are no longer finite has failed."""
        trainer = self._made_network.trainer
        if not self.loop.paused and self.watcher.epochs and (self._file is None or not os.path.exists(self._file)):
            raise ValueError(f"`path`: {self._file}, a network that goes on, is missing")
        self.error = advance(trainer, self.loop, self._file, until)
        if self.error is None:
            self.watcher.look(trainer)
        else:
            _log.warning("network %s %s failed: %s", self.number, self._made.settings, self.error)

    def end(self, state: str) -> None:
        """Ends the training where it is, whose memory is free then."""
        if self._network is not None and self.loop.paused:
            self._network.trainer.stop()
            self._network.trainer._go(self.loop, False, None)
        self.state = state
        self._network = self._loop = None
        self.watcher.points = []

    def tidy(self) -> None:
        """Removes the checkpoint of a network that trains no more, once the results say so."""
        if self._file is not None and self.state in ("stopped", "failed"):
            Path(self._file).unlink(missing_ok=True)

    def again(self, state: Mapping[str, np.ndarray]) -> MultiTaskModel:
        """A network of these settings and numbers, whose tasks weigh what they weigh for the caller."""
        tasks = [copy.copy(task) for task in self._made.tasks]
        for task, given in zip(tasks, self._study.model.tasks, strict=True):
            task.weight = given.weight
        model = self._fresh(tasks)
        model.load_state_dict(state)
        model.metrics = list(self._study.model.metrics)
        return model

    def describe(self) -> dict[str, Any]:
        """What is known of it, as JSON."""
        return {"state": self.state, "error": self.error, "watcher": self.watcher.state()}

    def restore(self, said: Mapping[str, Any]) -> None:
        """Goes on from what `describe` gave, or stays ended."""
        self.state, self.error = said["state"], said["error"]
        self.watcher.restore(said["watcher"], {})

    def candidate(self, names: Sequence[str], chosen: Sequence[Mapping[Key, int]]) -> Candidate:
        """What is known of it at the end."""
        totals = [max(sum(counts.values()), 1) for counts in chosen]
        shares = [sum(count for (number, _), count in counts.items() if number == self.number) / total
                  for counts, total in zip(chosen, totals, strict=True)]  # fmt: skip
        best = [min((value for value in self.watcher.losses(j) if value == value), default=float("nan"))
                for j in range(len(names))]  # fmt: skip
        pair = partial(zip, names, strict=True)
        return Candidate(self.number, self._made.settings, self.watcher.epochs, dict(pair(best)), dict(pair(shares)),
                         self.state, self.error)  # fmt: skip


class Watcher(Callback):
    """Predicts the held-out rows after each epoch, and ends a network of which no task gets better."""

    beside_others = True
    last = True

    def __init__(self, study: Study, judges: Sequence[Averaged], patience: int, file: str | None) -> None:
        self._rows = study.held_out()
        self._judges = judges
        self._patience = patience
        self._file = file
        self.points: list[np.ndarray] = []
        self.gave_up = False
        self._curves: list[list[float]] = [[] for _ in judges]
        self._wait = 0

    @property
    def epochs(self) -> int:
        """How many there were."""
        return len(self._curves[0])

    def losses(self, j: int) -> list[float]:
        """Of one task, an entry an epoch."""
        return self._curves[j]

    def predicted(self, model: MultiTaskModel) -> list[np.ndarray]:
        """A network's points of each task on the held-out rows."""
        each = model._core.predict(self._rows.core(), False, _ROWS)
        triples = zip(self._judges, each, model.tasks, strict=True)
        return [judge.points(outputs, task.scaling) for judge, outputs, task in triples]

    def look(self, trainer: Any) -> None:
        """Predicts where a run was restored after its last epoch."""
        if not self.points:
            self.points = self.predicted(trainer.model)

    def on_epoch_end(self, trainer: Run, row: dict[str, Any]) -> None:
        self.points = self.predicted(trainer.model)
        better = False
        for judge, curve, points in zip(self._judges, self._curves, self.points, strict=True):
            loss = judge.loss(points)
            better |= loss < min((value for value in curve if value == value), default=float("inf"))
            curve.append(loss)
        self._wait = 0 if better else self._wait + 1
        if self._wait >= self._patience:
            self.gave_up = True
            trainer.stop()
        if self._file is not None:
            trainer.save(self._file)

    def state(self) -> dict[str, Any]:
        curves = [[None if value != value else value for value in curve] for curve in self._curves]
        return {"curves": curves, "wait": self._wait, "gave_up": self.gave_up}

    def restore(self, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.points = []
        self._curves = [[float("nan") if value is None else value for value in curve] for curve in state["curves"]]
        self._wait = int(state["wait"])
        self.gave_up = bool(state["gave_up"])
