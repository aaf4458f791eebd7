"""A search for settings: networks side by side, of which the best go on."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments.keywords import checked
from ..arguments.numbers import whole
from ..data.task import Task
from ..model.model import MultiTaskModel
from ..model.transfer import Start
from ..process import interrupts
from ..training import checkpoints
from ..training.callback import Callback
from ..training.monitor import Mode, Watched, find
from ..training.progress import Networks
from ..training.run import Run
from ..training.trainer import Trainer
from . import tabular
from .budget import seconds
from .greedy import Greedy
from .mixture import GreedyEnsemble
from .space import Made, Space
from .study import HELD_OUT, Network, Study, columns_beside
from .trials import Search, Trial

_log = logging.getLogger("polytask")
_RESULTS = "search.json"
#: Epochs where nobody says: of a search, of one for an ensemble at most, and those in which a network gets no better.
_EPOCHS = 27
_LONGEST = 100
_PATIENCE = 8


@checked
def search(
    subject: MultiTaskModel | Trainer | Sequence[Task] | Task,
    data: Any,
    space: Mapping[str, Any] | None = None,
    *,
    trials: int = 64,
    ensemble: str | None = None,
    members: int = 32,
    budget: float | str | None = None,
    validation: Any = HELD_OUT,
    epochs: int | None = None,
    batch_size: int | None = None,
    monitor: str | Sequence[str] = "loss",
    mode: Mode = "auto",
    eta: int | str | None = "auto",
    min_epochs: int = 1,
    patience: int | None = None,
    weights: Any = None,
    seed: int = 0,
    path: str | PathLike[str] | None = None,
    progress: bool = True,
) -> Search | GreedyEnsemble:
    """Searches for settings by successive halving (Jamieson and Talwalkar, Non-stochastic Best Arm Identification and
    Hyperparameter Optimization, AISTATS 2016): all trials train to the first rung, of which the best `1 / eta` go on to
    the next one, which is `eta` times as far, and so on to the last epoch.

    Trials train side by side, each with one thread, as many at a time as torch has threads, and each has the bits of an
    uninterrupted training: schedules are planned for all epochs. All begin from the same seed and have the same order
    of rows, start with what the model has learned before or is frozen, as far as it fits, and end as after their best
    epoch. One whose loss is no longer finite has failed and stays behind. All networks are in memory at once. What is
    given stays as it is.

    With `ensemble="greedy"` all trials go on, each from a seed of its own, until none of its tasks has got better for
    `patience` epochs (8 if not given). After each epoch every task's ensemble is built anew from what networks predict
    on the validation rows: the network that helps most is added, the same one as often as it pays, up to `members`
    (Caruana, Niculescu-Mizil, Crew and Ksikes, Ensemble Selection from Libraries of Models, ICML 2004), out of the
    networks as they are and the members that tasks have. Members stay as they were when they were chosen, and a network
    that has stopped takes no room. Judged is by the log loss of classes and binary labels, and by the loss of the task
    for values. Found is a predictor like a model, a `pt.GreedyEnsemble`. The idea of a pack of small networks out of
    which an ensemble is picked on the way is that of Gorishniy et al., TabPack (ICML 2026).

    `space` says what is searched, `{setting: values}`. A list has choices. A tuple of two numbers is a range, both
    included: drawn by the logarithm if both are above 0 and one is at least 10 times the other (`(1e-4, 1e-1)`), else
    evenly (`(0.0, 0.5)`); whole numbers if both are (`(16, 512)`). Settings are

    - `optimizer`, `schedule`, `weighting`, `encoder`, `sharing`, `head`: choices of components or their names.
    - arguments of these: `sharing/experts`, `optimizer/momentum`; in short `lr`, `weight_decay`, `hidden` and `dropout`
      of optimizer and encoder. They count where the part that was drawn has them.
    - `regularizer/l2` and the like: the strength of a regularizer, beside those that the trainer has.
    - `weight/income` and the like: the weight of a task.
    - `embed`: choices of embeddings of numeric features, as for `pt.Inputs`.
    - `batch_size`, `accumulate`, `clip_norm`.

    Without a space there is one for tables: depth, width and dropout of an MLP, learning rate and decay of AdamW, a
    batch size for so many rows, and for several tasks also MMoE. Of tasks and a frame a model is then made whose
    numbers are normal by their quantiles and come as bins too, with an indicator where some are missing, and whose
    regressions train in a scale of their own.

    Arguments:
        subject: a `pt.MultiTaskModel`, or a `pt.Trainer` of one, whose other settings all networks have, but for its
            callbacks; or a list of `pt.Task`, for which an MLP with layers of 128 and 64 is taken.
        data: as for `pt.Trainer.fit`, in memory.
        space: see above; None for the one for tables.
        trials: how many networks begin; where all are choices, at most as many as there are combinations.
        ensemble: None, or "greedy" for an ensemble instead of a ranking, see above.
        members: of a task's ensemble at most, counted as often as they are taken.
        budget: of an ensemble: seconds, or "90s", "10m", "1h", after which no round of epochs begins that would, going
            by the last one, take longer. Where time ends a run, it ends elsewhere the next time.
        validation: data, a `pt.data.Split`, or the fraction of the rows to hold out; trials are compared on it.
        epochs: of the trials that go on to the end; by default 27, and 100 at most for an ensemble.
        batch_size, weights: as for `pt.Trainer.fit`; 256 by default, or what the space says.
        monitor: what trials are compared by: a column of the history, that of the validation; "loss" is the sum of the
            tasks' losses by the weights of the model as it was given, without regularizers, whatever is searched. Of
            several columns the mean rank among the trials counts. Compared is the best epoch so far, by the first one.
        mode: as for `pt.EarlyStopping`.
        eta: see above, 3 by default; None lets all trials go on to the end.
        min_epochs: the least epochs after which a trial may stay behind.
        patience: epochs without improvement after which a trial stops for itself; none does, if not given.
        seed: of what is drawn.
        path: a folder, in which `search.json` or `ensemble.json` has the results so far; an interrupted search goes on
            where it was when it is called again, with the same bits.
        progress: whether a bar over the trials, once a rung, is shown.

    Raises:
        TypeError, ValueError: what is wrong, what was expected and what came; or every trial failed.
        KeyboardInterrupt: Ctrl-C.
        BlockingIOError: another search is in the folder.
    """
    count = whole(trials, "`trials`")
    drawn = whole(seed, "`seed`", 0)
    longest = None if epochs is None else whole(epochs, "`epochs`")
    tolerated = None if patience is None else whole(patience, "`patience`")
    if ensemble is not None:
        if ensemble != "greedy":
            raise ValueError(f'`ensemble` should be "greedy" or None; got {ensemble!r}')
        unused = {"monitor": (monitor, "loss"), "mode": (mode, "auto"), "eta": (eta, "auto"),
                  "min_epochs": (min_epochs, 1)}  # fmt: skip
        if wrong := [name for name, (given, default) in unused.items() if given != default]:
            raise ValueError(f"`{wrong[0]}` is of a search without `ensemble`, in which each task is judged by its "
                             "loss and all trials go on until they stop for themselves; got "
                             f"{unused[wrong[0]][0]!r}")  # fmt: skip
        most = whole(members, "`members`")
        time = None if budget is None else seconds(budget)
        with interrupts.held():
            study = _study(subject, data, space, validation, longest or _LONGEST, batch_size, weights)
            made = _made(study, space, count, drawn)[1]
            asked = {"ensemble": ensemble, "settings": [_plainly(each.settings) for each in made], "members": most,
                     "epochs": study.epochs, "batch_size": study.batch_size, "patience": tolerated,
                     "seed": drawn}  # fmt: skip
            with _held(path, study, asked, "ensemble.json") as folder:
                run = Greedy(study, made, most=most, patience=tolerated or _PATIENCE, folder=folder, asked=asked)
                return run.run(time, bool(progress))
    if budget is not None:
        raise ValueError('`budget` is of a search with ensemble="greedy"; `trials` and `epochs` limit this one')
    factor = 3 if eta == "auto" else None if eta is None else whole(eta, "`eta`", 2)
    least = whole(min_epochs, "`min_epochs`")
    watched = Watched(monitor, mode)
    with interrupts.held():
        study = _study(subject, data, space, validation, longest or _EPOCHS, batch_size, weights)
        found, made = _made(study, space, count, drawn)
        rungs = _rungs(len(made), study.epochs, factor, least)
        asked = {"space": found.describe(), "trials": count, "epochs": study.epochs, "batch_size": study.batch_size,
                 "monitor": watched.names, "mode": watched.modes, "eta": factor, "min_epochs": least,
                 "patience": patience, "seed": drawn}  # fmt: skip
        with _held(path, study, asked, _RESULTS) as folder:
            start = study.model._start()
            candidates = [
                _Candidate(number, each, study, _network(study, start, each), watched, tolerated or study.epochs, rungs,
                           folder)
                for number, each in enumerate(made)
            ]  # fmt: skip
            write = partial(_write, folder, asked, candidates)
            write()
            order = _halve(study, candidates, rungs, factor, bool(progress), write)
    return Search([each.trial for each in order], watched.names, rungs, found.logarithmic)


def _study(
    subject: Any, data: Any, space: Any, validation: Any, epochs: int, batch_size: int | None, weights: Any
) -> Study:
    """The data, read, and the model of which networks are made."""
    size = 256 if batch_size is None else batch_size
    if space is None and not isinstance(subject, MultiTaskModel | Trainer):
        subject = tabular.subject(subject, data, columns_beside(weights, validation))
    study = Study(subject, data, validation, epochs=epochs, batch_size=size, weights=weights)
    study.held_out()
    if batch_size is None and space is None:
        study.batch_size = tabular.batch_size(len(study.train))
    return study


def _made(study: Study, space: Mapping[str, Any] | None, trials: int, seed: int) -> tuple[Space, list[Made]]:
    """The space, and what the networks of so many trials are made with."""
    found = Space(tabular.space(study.trainer) if space is None else space, study.trainer)
    return found, [found.made(settings) for settings in found.draw(trials, seed)]


@contextmanager
def _held(path: str | PathLike[str] | None, study: Study, asked: dict[str, Any], results: str) -> Iterator[str | None]:
    """The folder of a search, if it has one, which nobody else works in meanwhile; what is asked is completed by what
    else searches that go on have in common.

    Raises:
        ValueError: there is a search of something else in it.
        BlockingIOError: another search is in it.
    """
    if path is None:
        yield None
        return
    folder = checkpoints.folder(path)
    os.makedirs(folder, exist_ok=True)
    release = checkpoints.hold(folder)
    try:
        asked |= _fingerprints(study)
        _check_asked(Path(folder, results), asked)
        yield folder
    finally:
        release()


def _rungs(trials: int, epochs: int, eta: int | None, least: int) -> list[int]:
    """The epochs after which the best trials go on, the last epoch included."""
    rungs = [epochs]
    while eta is not None and trials >= eta and rungs[0] >= eta * least:
        trials //= eta
        rungs.insert(0, rungs[0] // eta)
    return rungs


def _halve(
    study: Study,
    candidates: Sequence[_Candidate],
    rungs: Sequence[int],
    eta: int | None,
    progress: bool,
    write: Callable[[], None],
) -> list[_Candidate]:
    """Trains rung by rung; gives all, the best one first."""
    going = list(candidates)
    behind: list[_Candidate] = []
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


def _ranked(candidates: Sequence[_Candidate], rung: int) -> list[_Candidate]:
    """The best first, by the mean of their ranks in what is watched; those that failed last, in their order."""
    values = np.array([each.judged(rung) for each in candidates])
    values[np.isnan(values)] = -np.inf
    ranks = np.mean([[np.mean(column > value) + 0.5 * np.mean(column == value) for value in column]
                     for column in values.T], 0)  # fmt: skip
    order = sorted(range(len(candidates)), key=lambda at: (candidates[at].error is not None, ranks[at]))
    return [candidates[at] for at in order]


def _network(study: Study, start: Start, made: Made) -> Network:
    """A fresh network of a trial's settings, which begins with what the study's model has learned or is frozen."""
    found = study.fresh(made.tasks, **made.changes)
    start.give(found._core)
    return Network(study.tasks, 0, study.trainer._twin(found, study.trainer.seed, **made.trainer))


class _Candidate:
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
        resume = self._file if not begun and self._file is not None and os.path.exists(self._file) else None
        try:
            trainer._go(self.loop, False, resume, until)
        except ValueError as error:
            if resume is not None or trainer.steps == 0:
                raise
            self.error = str(error)
            _log.warning("trial %s %s failed: %s", self.trial.number, self.trial.settings, error)

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


def _fingerprints(study: Study) -> dict[str, Any]:
    """What else a search that goes on must have in common."""
    model = json.loads(json.dumps(study.model._plain.description, default=str))
    return {
        "model": {name: value for name, value in model.items() if name != "face"},
        "trainer": study.trainer._core.settings,
        "data": study.train.fingerprint(),
        "validation data": study.held_out().fingerprint(),
    }


def _check_asked(file: Path, asked: Mapping[str, Any]) -> None:
    """Refuses to go on with a search of other arguments."""
    if not file.exists():
        return
    try:
        theirs = json.loads(file.read_text(encoding="utf-8"))["asked"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"`path`: {file} is no result of a search ({error!r})") from None
    ours = json.loads(json.dumps(asked))
    differ = next((key for key in ours if theirs.get(key) != ours[key]), None)
    if differ is not None:
        raise ValueError(f"`path`: the search in {file.parent} has another `{differ}`: go on with the same arguments "
                         "and data, or use another folder")  # fmt: skip


def _write(folder: str | None, asked: Mapping[str, Any], candidates: Sequence[_Candidate]) -> None:
    """Writes the results so far, complete or not there, where a folder is to have them."""
    if folder is None:
        return
    trials = []
    for each in candidates:
        rows = [{name: None if value != value else value for name, value in row.items()}
                for row in each.trial.history]  # fmt: skip
        settings = _plainly(each.trial.settings)
        said = {"number": each.trial.number, "settings": settings, "state": each.state, "error": each.error}
        trials.append({**said, "history": rows})
    file = Path(folder, _RESULTS)
    partial_file = file.with_suffix(".partial")
    partial_file.write_text(json.dumps({"asked": asked, "trials": trials}, indent=1), encoding="utf-8")
    os.replace(partial_file, file)


def _plainly(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON has them."""
    return {name: _shown(value) for name, value in settings.items()}


def _shown(value: Any) -> Any:
    """A setting as JSON has it."""
    return value if value is None or isinstance(value, str | int | float) else repr(value)
