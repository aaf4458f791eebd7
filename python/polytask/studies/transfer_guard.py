"""A callback that watches for negative transfer and for tasks that overfit while others still learn."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..arguments.keywords import checked
from ..arguments.messages import listed, none_of
from ..arguments.numbers import whole
from ..components.component import plain
from ..data.task import Task
from ..model.model import MultiTaskModel
from ..process import interrupts
from ..results.histories import Histories
from ..results.history import History
from ..training.callback import Callback
from ..training.trainer import Trainer
from .study import Study

_log = logging.getLogger("polytask")
#: What may be done about a task that is behind, and about one that gets no better.
_BEHIND = ("warn", "stop")
_STUCK = ("freeze", "lower")


class TransferGuard(Callback):
    """Watches each task's validation score after each epoch, beside that of a network of the task alone: where sharing
    makes a task worse there is negative transfer (Wang et al., Characterizing and Avoiding Negative Transfer, CVPR
    2019).

    A task is *behind* where its best score so far is worse than the reference by more than `tolerance`: for a history,
    than the best of as many epochs of it, for `patience` epochs in a row; for a number, once the task is stuck. A task
    is *stuck* where its score has not improved for `patience` epochs, as when it overfits while others still learn.

    Nothing here puts a single head back to its best epoch: it fits the shared layers of that epoch, and they have moved
    on. `snapshots` keep whole models instead, one for each task. Each call of `fit` begins anew, and
    weights are equal again.

    Arguments:
        reference: what each task reaches alone: `{task: number}`, or `{task: pt.History}` of its network; of some of
            the tasks or of all. `pt.TransferGuard.alone` trains such networks.
        monitor: a metric of the tasks, or "loss", for all or `{task: metric}`.
        mode: "min", "max", or "auto": as the metric says itself; for all or `{task: mode}`.
        action: one of these, or several. "warn" logs a task that is behind, once; "stop" ends the training then.
            "freeze" freezes the head of a task that is stuck until `fit` ends, so that it overfits no further; the
            shared layers still learn from the task. "lower" multiplies the weight of a task that is stuck by `factor`,
            and again after as many epochs; for that the guard is the weighting too, of weights that are equal at first:
            `pt.Trainer(model, weighting=guard, callbacks=[guard])`.
        tolerance: how much worse than the reference is no harm, as a part of it.
        patience: epochs, see above.
        factor: of "lower".
        snapshots: whether to keep the parameters of each task's best epoch, for `best`; as much memory as a model for
            each task whose best epoch is another.

    Attributes:
        reference: as it was given, or of the networks that `alone` trained.
        behind: the tasks that are behind.
        stuck: the tasks that are stuck.
        best_epochs: of each task that had a score, counted from 1.
        factors: of the tasks' weights.
    """

    of_one_run = True

    @checked
    def __init__(
        self,
        reference: Mapping[str, float | History] | None = None,
        *,
        monitor: str | Mapping[str, str] = "loss",
        mode: str | Mapping[str, str] = "auto",
        action: str | Sequence[str] = "warn",
        tolerance: float = 0.02,
        patience: int = 5,
        factor: float = 0.5,
        snapshots: bool = False,
    ) -> None:
        self.reference = _references(reference)
        self.monitor = monitor
        self.mode = mode
        self.action = _actions(action)
        self.tolerance = _between(tolerance, "`tolerance`", math.inf)
        self.patience = whole(patience, "`patience`")
        self.factor = _between(factor, "`factor`", 1.0)
        self.snapshots = bool(snapshots)
        if not self.reference and any(each in _BEHIND for each in self.action):
            raise ValueError(f"`reference` should say what tasks reach alone, for action={self.action}; see "
                             "pt.TransferGuard.alone")  # fmt: skip
        self._model: MultiTaskModel | None = None
        self._begin([])

    @classmethod
    def alone(
        cls,
        subject: MultiTaskModel | Trainer | Sequence[Task] | Task,
        data: Any,
        *,
        validation: Any,
        epochs: int = 20,
        batch_size: int = 32,
        weights: Any = None,
        seeds: int = 1,
        progress: bool = True,
        **how: Any,
    ) -> TransferGuard:
        """A guard whose reference are networks of each task alone, which are trained for it side by side.

        The comparison is fair where the networks train as the shared one will: on the same data, with the same
        optimizer, batch size and rows held out (a fraction of the rows are the same ones for the same seed).

        Arguments:
            subject: the `pt.Trainer` to come, whose optimizer and other settings they have, but for weighting,
                regularizers and callbacks; or a `pt.MultiTaskModel` or tasks, for Adam.
            data, validation, epochs, batch_size, weights: as for `pt.Trainer.fit`, of each network; in memory.
            seeds: how many of each; means over them are compared.
            progress: whether a bar over the networks is shown.
            how: as for the guard itself.

        Raises:
            TypeError, ValueError: what is wrong, what was expected and what came.
            KeyboardInterrupt: Ctrl-C.
        """
        count = whole(seeds, "`seeds`")
        cls({"": 0.0}, **how)  # for its errors, before anything is trained
        with interrupts.held():
            study = Study(subject, data, validation, epochs=epochs, batch_size=batch_size, weights=weights)
            study.held_out()
            networks = [study.network([task], seed, metrics=True) for task in study.tasks for seed in range(count)]
            for _ in study.run(networks, progress=bool(progress)):
                pass
        each = {task: [network.history for network in networks if network.tasks == (task,)] for task in study.tasks}
        numbers = list(range(count))
        return cls({task: runs[0] if count == 1 else Histories(runs, numbers) for task, runs in each.items()}, **how)

    def _begin(self, tasks: Sequence[str]) -> None:
        self._tasks = list(tasks)
        self.behind: list[str] = []
        self.stuck: list[str] = []
        self.best_epochs: dict[str, int] = {}
        self.factors = dict.fromkeys(tasks, 1.0)
        self._columns: dict[str, tuple[str, int]] = {}
        self._best: dict[str, float] = {}
        self._epoch = 0
        self._late = dict.fromkeys(tasks, 0)
        self._wait = dict.fromkeys(tasks, 0)
        self._frozen: list[str] = []
        self._kept: dict[str, dict[str, np.ndarray]] = {}

    @property
    def gains(self) -> dict[str, float]:
        """By how much each task's best score so far is better than the reference of as many epochs, as a part of it;
        negative where it is worse. Of the tasks that have both.
        """
        there = {task: self._gain(task) for task in self._tasks}
        return {task: gain for task, gain in there.items() if gain is not None}

    def best(self, task: str) -> MultiTaskModel:
        """A new copy of the model as it was after the task's best epoch.

        Raises:
            ValueError: an unknown task, or nothing was kept of it.
        """
        if self._model is None or task not in self._kept:
            known = listed(self._kept)
            raise ValueError(f"`guard.best`: nothing is kept of {task!r} (but of {known}): it needs snapshots=True and "
                             "an epoch with a score")  # fmt: skip
        model = copy.deepcopy(self._model)
        model.load_state_dict(self._kept[task])
        return model

    def weigh(self, losses: torch.Tensor, tasks: Sequence[str]) -> torch.Tensor:
        """The factors of these tasks, as the weighting of a trainer."""
        return torch.tensor([self.factors.get(task, 1.0) for task in tasks], dtype=losses.dtype)

    def on_fit_start(self, trainer: Trainer) -> None:
        names = [task.name for task in trainer.model.tasks]
        self._begin(names)
        self._model = trainer.model
        given = [self.reference, *(each for each in (self.monitor, self.mode) if isinstance(each, Mapping))]
        unknown = next((name for each in given for name in each if name not in names), None)
        if unknown is not None:
            raise ValueError(f"{self}: unknown task {none_of(unknown, names, 'the model has')}")
        for task in names:
            column, _ = self._columns[task] = self._column(trainer, task)
            if not column.startswith("validation/"):
                raise ValueError(f"{self} looks at validation rows: give them to fit(validation=...)")
            reference = self.reference.get(task)
            if isinstance(reference, History):
                reference[column]  # for its error
        own = trainer._own.get("weighting")
        if "lower" in self.action and (own is None or own.instance is not self):
            raise ValueError('action="lower" changes the weights of tasks, for which the guard is the weighting too: '
                             "pt.Trainer(model, weighting=guard, callbacks=[guard])")  # fmt: skip

    def on_epoch_end(self, trainer: Trainer, row: dict[str, Any]) -> None:
        self._epoch += 1
        improved = [task for task in self._tasks if self._look(task, row)]
        if improved and self.snapshots:
            state = trainer.model.state_dict()
            self._kept |= dict.fromkeys(improved, state)
        self.stuck = [task for task in self._tasks if self._wait[task] >= self.patience]
        for task in self.stuck:
            self._hold_back(trainer, task)
        self._compare(trainer, row["epoch"])

    def on_fit_exit(self, trainer: Trainer) -> None:
        if self._frozen:
            trainer.model.unfreeze(*self._frozen)
        self._frozen = []

    def state(self) -> dict[str, Any]:
        return {
            "epoch": self._epoch,
            "best": self._best,
            "best_epochs": self.best_epochs,
            "late": self._late,
            "wait": self._wait,
            "behind": self.behind,
            "stuck": self.stuck,
            "frozen": self._frozen,
        }

    def arrays(self) -> dict[str, np.ndarray]:
        places = {task: self._tasks.index(task) for task in self._kept}
        return {f"{place}/{name}": value for task, place in places.items() for name, value in self._kept[task].items()}

    def restore(self, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        if list(state["wait"]) != self._tasks:
            raise ValueError(f"it watched {listed(state['wait'])}, not {listed(self._tasks)}")
        kept: dict[str, dict[str, np.ndarray]] = {}
        for name, value in arrays.items():
            place, _, path = name.partition("/")
            kept.setdefault(self._tasks[int(place)], {})[path] = value
        self._epoch = int(state["epoch"])
        self._best = dict(state["best"])
        self.best_epochs = dict(state["best_epochs"])
        self._late = dict(state["late"])
        self._wait = dict(state["wait"])
        self.behind = list(state["behind"])
        self.stuck = list(state["stuck"])
        self._frozen = list(state["frozen"])
        self._kept = kept

    def state_dict(self) -> dict[str, Any]:
        """The factors, which a checkpoint keeps of the weighting."""
        return {"factors": dict(self.factors)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` gave."""
        self.factors = {task: float(factor) for task, factor in state["factors"].items()}

    def _column(self, trainer: Trainer, task: str) -> tuple[str, int]:
        metric = self.monitor if isinstance(self.monitor, str) else self.monitor.get(task, "loss")
        mode = self.mode if isinstance(self.mode, str) else self.mode.get(task, "auto")
        return trainer.watch(f"{task}/{metric}", mode)

    def _look(self, task: str, row: Mapping[str, Any]) -> bool:
        """Whether this is the task's best epoch so far; one without a number says nothing."""
        column, sign = self._columns[task]
        value = sign * row[column]
        if math.isnan(value):
            return False
        better = task not in self._best or value > self._best[task]
        self._wait[task] = 0 if better else self._wait[task] + 1
        if better:
            self._best[task] = value
            self.best_epochs[task] = row["epoch"]
        return better

    def _hold_back(self, trainer: Trainer, task: str) -> None:
        """What is done about a task that is stuck."""
        if "lower" in self.action and self._wait[task] % self.patience == 0:
            self.factors[task] *= self.factor
            _log.info("%s: the weight of task `%s` is lowered to %.3g of what it was", self, task, self.factors[task])
        below = f"heads.{task}"
        if "freeze" not in self.action or any(path.startswith(f"{below}.") for path in self._frozen):
            return
        paths = [name for name in trainer.model.state_dict() if name.startswith(f"{below}.")]
        new = [path for path in paths if path not in trainer.model.frozen]
        if new:
            trainer.model.freeze(*new)
            self._frozen += new
            _log.info("%s: the head of task `%s` is frozen", self, task)

    def _compare(self, trainer: Trainer, epoch: int) -> None:
        """What is done about tasks that are behind."""
        for task, gain in self.gains.items():
            late = gain < -self.tolerance
            if not isinstance(self.reference[task], History):
                late = late and task in self.stuck
                self._late[task] = self.patience if late else 0
            else:
                self._late[task] = self._late[task] + 1 if late else 0
        before = self.behind
        self.behind = [task for task in self._tasks if self._late[task] >= self.patience]
        for task in self.behind:
            if task not in before and "warn" in self.action:
                _log.warning("%s: negative transfer at epoch %s: task `%s` is %.1f %% behind what it reaches alone",
                             self, epoch, task, -100 * self.gains[task])  # fmt: skip
        if self.behind and "stop" in self.action:
            _log.info("stopped at epoch %s: %s behind what they reach alone", epoch, listed(self.behind))
            trainer.stop()

    def _gain(self, task: str) -> float | None:
        reference = self.reference.get(task)
        if reference is None or task not in self._best:
            return None
        column, sign = self._columns[task]
        if isinstance(reference, History):
            values = [sign * value for value in reference[column][: self._epoch] if not math.isnan(value)]
            if not values:
                return None
            alone: float = max(values)
        else:
            alone = sign * reference
        return (self._best[task] - alone) / max(abs(alone), 1e-12)

    def __repr__(self) -> str:
        return f"TransferGuard(action={self.action})"


def _references(given: Any) -> dict[str, float | History]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(
            f"`reference` should be a number or a pt.History for each task, {{task: number}}; got {given!r}"
        )
    found: dict[str, float | History] = {}
    for task, value in given.items():
        number = plain(value, f"`reference[{task!r}]`") if not isinstance(value, History) else value
        if isinstance(number, bool) or not isinstance(number, int | float | History):
            raise TypeError(f"`reference[{task!r}]` should be a number or a pt.History; got {value!r}")
        found[task] = number
    return found


def _actions(given: Any) -> list[str]:
    actions = [given] if isinstance(given, str) else list(given)
    known = [*_BEHIND, *_STUCK]
    wrong = next((each for each in actions if each not in known), None)
    if wrong is not None:
        raise ValueError(f"`action`: unknown {none_of(wrong, known, 'there are')}")
    return actions


def _between(value: Any, argument: str, high: float) -> float:
    """A number of at least 0 and below another one."""
    number = plain(value, argument)
    expected = "of at least 0" if high == math.inf else f"from 0 to below {high:g}"
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise TypeError(f"{argument} should be a number {expected}; got {value!r}")
    if not 0 <= number < high:
        raise ValueError(f"{argument} should be a number {expected}; got {value!r}")
    return float(number)
