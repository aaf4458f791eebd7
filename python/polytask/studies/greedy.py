"""An ensemble in one run: networks of many settings side by side, of which each task takes the best together."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..model import predictions
from ..model.averaged import Averaged
from ..model.model import MultiTaskModel
from ..process import workers
from ..training.callback import Callback
from ..training.progress import Networks
from ..training.run import Run
from .mixture import Candidate, GreedyEnsemble
from .selection import greedy
from .space import Made
from .study import Network, Study

_log = logging.getLogger("polytask")

#: Files of members, finished or not.
_MEMBER = re.compile(r"member-\d{4,}-\d{4,}\.safetensors(\.\d+)*(\.partial)?")

#: Held-out rows that are predicted at a time: many networks keep room for so many.
_ROWS = 1024

#: A network after one of its epochs.
Key = tuple[int, int]


class Member:
    """A network as it was after an epoch in which a task took it."""

    def __init__(self, state: Mapping[str, np.ndarray], points: Sequence[np.ndarray]) -> None:
        self.state = state
        self.points = points


class Greedy:
    """Trains in rounds: all networks that go on make one epoch each, then every task's ensemble is built anew of what
    they predict on the held-out rows and of the members that tasks have. So whatever goes on side by side, the same
    seed gives the same ensemble.

    Arguments:
        study: data and what all networks have.
        made: what each network is made with.
        most: members of a task's ensemble, counted as often as they are taken.
        patience: epochs in which no task of a network got better, after which it stops.
        folder: where the run is kept, so that it can go on.
        asked: what a run that goes on must have in common.
    """

    def __init__(
        self,
        study: Study,
        made: Sequence[Made],
        *,
        most: int,
        patience: int,
        folder: str | None,
        asked: Mapping[str, Any],
    ) -> None:
        per = next((task for task in study.model.tasks if task.per is not None), None)
        if per is not None:
            raise ValueError(f"task `{per.name}`: an ensemble predicts for rows; got a task of {per.per}")
        self._study = study
        self._most = most
        self._folder = folder
        self._asked = asked
        held_out = study.held_out()
        pairs = zip(study.model.tasks, study.model.kinds, strict=True)
        self._judges = [Averaged(task, kind, held_out, j) for j, (task, kind) in enumerate(pairs)]
        if not any(len(judge) for judge in self._judges):
            raise ValueError("`validation` has no label of any task, by which members could be chosen")
        start = study.model._start()
        self._runs = [
            _Running(number, each, study, self._judges, patience, folder, start) for number, each in enumerate(made)
        ]
        self._members: dict[Key, Member] = {}
        self._chosen: list[dict[Key, int]] = [{} for _ in self._judges]
        self._losses = [float("inf")] * len(self._judges)
        self._rounds: list[dict[str, Any]] = []

    def run(self, budget: float | None, progress: bool) -> GreedyEnsemble:
        """Trains until all networks have stopped or there is no time left; gives the ensemble."""
        began = time.monotonic()
        going = self._restore()
        bar = Networks(progress, self._study.epochs)
        for _ in self._rounds:
            bar.next()
        took = 0.0
        try:
            for epoch in range(len(self._rounds) + 1, self._study.epochs + 1):
                since = time.monotonic()
                if not going or (budget is not None and took and since - began + took > budget):
                    break
                calls = [partial(each.train, epoch) for each in going]
                for _ in self._study.side_by_side([each.loop for each in going], calls):
                    pass
                self._choose(going)
                took = time.monotonic() - since
                going = self._settle(going, epoch, took)
                bar.next()
        finally:
            bar.close()
        for each in going:
            each.end("halted")
        return self._ensemble()

    def _choose(self, going: Sequence[_Running]) -> None:
        """Builds each task's ensemble anew of what there is; one that is no better leaves it as it was."""
        fresh = {each.key: each for each in going if each.error is None}
        keys = [*sorted(self._members), *(key for key in fresh if key not in self._members)]

        def points(key: Key, j: int) -> np.ndarray:
            return self._members[key].points[j] if key in self._members else fresh[key].watcher.points[j]

        def choose(j: int) -> tuple[dict[Key, int], float]:
            judge = self._judges[j]
            there = [key for key in keys if np.isfinite(points(key, j)).all()] if len(judge) else []
            counts, loss = greedy([points(key, j) for key in there], judge.loss, self._most)
            return {key: count for key, count in zip(there, counts, strict=True) if count}, loss

        for j, (chosen, loss) in workers.side_by_side([partial(choose, j) for j in range(len(self._judges))]):
            if loss < self._losses[j]:
                self._chosen[j], self._losses[j] = chosen, loss
        wanted = {key for chosen in self._chosen for key in chosen}
        for key in wanted - set(self._members):
            self._members[key] = Member(fresh[key].model.state_dict(), fresh[key].watcher.points)
            self._write_member(key, fresh[key].model)
        for key in set(self._members) - wanted:
            del self._members[key]

    def _settle(self, going: Sequence[_Running], epoch: int, took: float) -> list[_Running]:
        """Ends what stopped, and keeps what the round gave; gives those that go on."""
        names = self._study.tasks
        row: dict[str, Any] = {"epoch": epoch, "networks": len(going), "members": len(self._members)}
        for name, loss, j in zip(names, self._losses, range(len(names)), strict=True):
            known = [value for each in self._runs for value in each.watcher.losses(j) if value == value]
            row[f"{name}/loss"] = loss if np.isfinite(loss) else float("nan")
            row[f"{name}/single"] = min(known, default=float("nan"))
        row["seconds"] = took
        self._rounds.append(row)
        for each in going:
            if each.error is not None:
                each.end("failed")
            elif each.watcher.gave_up:
                each.end("stopped")
            elif epoch == self._study.epochs:
                each.end("complete")
        if not self._members and all(each.error is not None for each in self._runs):
            raise ValueError(f"every network failed, the first one: {self._runs[0].error}")
        self._write()
        return [each for each in going if each.state == "going"]

    def _ensemble(self) -> GreedyEnsemble:
        study = self._study
        keys = sorted(self._members)
        if not keys:
            raise ValueError("no network has a finite loss on `validation`")
        models = [self._runs[number].again(self._members[number, epoch].state) for number, epoch in keys]
        names = study.tasks
        weights = {
            name: [float(chosen.get(key, 0)) for key in keys]
            for name, chosen in zip(names, self._chosen, strict=True)
            if chosen
        }
        # A task without held-out labels takes what the others chose.
        for name in names:
            weights.setdefault(name, [1.0] * len(keys))
        trials = [each.candidate(names, self._chosen) for each in self._runs]
        return GreedyEnsemble(models, weights, [f"{number}@{epoch}" for number, epoch in keys], trials,
                              self._rounds)  # fmt: skip

    def _restore(self) -> list[_Running]:
        """What a run in the folder had come to; gives the networks that go on."""
        file = None if self._folder is None else Path(self._folder, "ensemble.json")
        if file is None or not file.exists():
            self._write()
            return list(self._runs)
        try:
            kept = json.loads(file.read_text(encoding="utf-8"))
            self._rounds = kept["rounds"]
            self._losses = [float("inf") if loss is None else loss for loss in kept["losses"]]
            self._chosen = [{(number, epoch): count for number, epoch, count in chosen} for chosen in kept["chosen"]]
            for each, said in zip(self._runs, kept["networks"], strict=True):
                each.restore(said)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"`path`: {file} is no result of a search ({error!r})") from None
        keys = sorted({key for chosen in self._chosen for key in chosen})
        calls = [partial(self._read_member, key) for key in keys]
        # Code of the caller's own belongs to the thread of the program.
        own = self._study.model._foreign
        for place, member in enumerate(call() for call in calls) if own else workers.side_by_side(calls):
            self._members[keys[place]] = member
        return [each for each in self._runs if each.state == "going"]

    def _read_member(self, key: Key) -> Member:
        assert self._folder is not None
        run = self._runs[key[0]]
        core, _ = predictions.opened(_file(self._folder, key))
        model = run.again(core.state())
        return Member(model.state_dict(), run.watcher.predicted(model))

    def _write_member(self, key: Key, model: MultiTaskModel) -> None:
        if self._folder is not None:
            model.save(_file(self._folder, key))

    def _write(self) -> None:
        """Writes what the run has come to; complete or not there."""
        if self._folder is None:
            return
        known = {
            "asked": self._asked,
            "rounds": self._rounds,
            "losses": [loss if np.isfinite(loss) else None for loss in self._losses],
            "chosen": [[[*key, count] for key, count in chosen.items()] for chosen in self._chosen],
            "networks": [each.describe() for each in self._runs],
        }
        file = Path(self._folder, "ensemble.json")
        unfinished = file.with_suffix(".partial")
        unfinished.write_text(json.dumps(known), encoding="utf-8")
        os.replace(unfinished, file)
        kept = {os.path.basename(_file(self._folder, key)) for key in self._members}
        for other in Path(self._folder).iterdir():
            if _MEMBER.fullmatch(other.name) and other.name not in kept:
                other.unlink()
        for each in self._runs:
            each.tidy()


def _file(folder: str, key: Key) -> str:
    return os.path.join(folder, "member-{:04d}-{:04d}.safetensors".format(*key))


class _Running:
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
        self.watcher = _Watcher(study, judges, patience, self._file)
        self._network: Network | None = None
        self._loop: Any = None

    def _fresh(self) -> MultiTaskModel:
        """A fresh network of these settings, which begins from a seed of its own."""
        model = self._study.fresh(self._made.tasks, self.number, **self._made.changes)
        self._start.give(model._core)
        model.metrics = [[] for _ in model.tasks]
        return model

    @property
    def _made_network(self) -> Network:
        """Made when it is needed first: networks that stopped in an earlier call need none."""
        if self._network is None:
            study = self._study
            seed = study.trainer.seed + self.number
            trainer = study.trainer._twin(self._fresh(), seed, **self._made.trainer)
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
        begun = self.loop.paused
        resume = self._file if not begun and self._file is not None and os.path.exists(self._file) else None
        if not begun and resume is None and self.watcher.epochs:
            raise ValueError(f"`path`: {self._file}, a network that goes on, is missing")
        try:
            trainer._go(self.loop, False, resume, until)
        except ValueError as error:
            if trainer.steps == 0:
                raise
            self.error = str(error)
            _log.warning("network %s %s failed: %s", self.number, self._made.settings, error)
        else:
            self.watcher.look(trainer)

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
        """A network of these settings and numbers."""
        model = self._study.fresh(self._study.model.tasks, self.number, **self._made.changes)
        self._start.give(model._core)
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


class _Watcher(Callback):
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
        return [judge.points(outputs) for judge, outputs in zip(self._judges, each, strict=True)]

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
