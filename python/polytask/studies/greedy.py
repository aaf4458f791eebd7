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
from ..model.chosen import GreedyEnsemble
from ..model.model import MultiTaskModel
from ..process import workers
from ..training.progress import Networks
from .running import Key, Running
from .selection import greedy
from .space import Made
from .study import Study

_log = logging.getLogger("polytask")

#: An ensemble begins with at most so many networks, the more the fewer labels choose (so many over their number), but
#: with no more than this part of all.
_FIRST, _LABELS, _PART = 10, 1000, 4

#: Files of members, finished or not.
_MEMBER = re.compile(r"member-\d{4,}-\d{4,}\.safetensors(\.\d+)*(\.partial)?")


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
            Running(number, each, study, self._judges, patience, folder, start) for number, each in enumerate(made)
        ]
        self._members: dict[Key, Member] = {}
        self._chosen: list[dict[Key, int]] = [{} for _ in self._judges]
        self._losses = [float("inf")] * len(self._judges)
        self._rounds: list[dict[str, Any]] = []

    def run(self, budget: float | None, progress: bool) -> GreedyEnsemble:
        """Trains until all networks have stopped or there is no time left; gives the ensemble."""
        began = time.monotonic()
        going = self._restore()
        bar = Networks(progress, self._study.epochs, "epoch")
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

    def _choose(self, going: Sequence[Running]) -> None:
        """Builds each task's ensemble anew of what there is; one that is no better leaves it as it was."""
        fresh = {each.key: each for each in going if each.error is None}
        keys = [*sorted(self._members), *(key for key in fresh if key not in self._members)]

        def points(key: Key, j: int) -> np.ndarray:
            return self._members[key].points[j] if key in self._members else fresh[key].watcher.points[j]

        def choose(j: int) -> tuple[dict[Key, int], float]:
            judge = self._judges[j]
            there = [key for key in keys if np.isfinite(points(key, j)).all()] if len(judge) else []
            first = max(1, min(_FIRST, _LABELS // max(len(judge), 1), len(self._runs) // _PART))
            counts, loss = greedy([points(key, j) for key in there], judge.loss, self._most, first=first)
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

    def _settle(self, going: Sequence[Running], epoch: int, took: float) -> list[Running]:
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
        found = GreedyEnsemble(models, weights, [f"{number}@{epoch}" for number, epoch in keys], trials,
                               self._rounds)  # fmt: skip
        found._scalings = {task.name: task.scaling for task in study.model.tasks}
        return found

    def _restore(self) -> list[Running]:
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
