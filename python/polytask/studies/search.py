"""A search for settings: networks side by side, of which the best go on."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from ..arguments.keywords import checked
from ..arguments.numbers import whole
from ..arguments.paths import folder_path
from ..data import Rows
from ..data.task import Task
from ..model.chosen import GreedyEnsemble
from ..model.model import MultiTaskModel
from ..process import interrupts, memory
from ..training import checkpoints
from ..training.monitor import Mode, Watched
from ..training.trainer import Trainer
from . import tabular
from .budget import seconds
from .greedy import Greedy
from .halving import Candidate, halve, network_of, rungs_of
from .space import Made, Space
from .study import HELD_OUT, Study, columns_beside
from .trials import Search

_log = logging.getLogger("polytask")
_RESULTS = "search.json"
#: Epochs where nobody says: of a search, of one for an ensemble at most, and those in which a network gets no better.
_EPOCHS = 27
LONGEST = 100
MEMBERS = 32
PATIENCE = 8


@checked
@memory.gives_back
def search(
    subject: MultiTaskModel | Trainer | Sequence[Task] | Task,
    data: Any,
    space: Mapping[str, Any] | None = None,
    *,
    trials: int = 64,
    ensemble: str | None = None,
    members: int = MEMBERS,
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
    networks as they are and the members that tasks have; where less than 500 labels choose, first up to ten that are
    best alone, a quarter of the trials at most. Members stay as they were when they were chosen, and a network
    that has stopped takes no room. Judged is by the log loss of classes and binary labels, and by the loss of the task
    for values. Found is a predictor like a model, a `pt.GreedyEnsemble`. The idea of a pack of small networks out of
    which an ensemble is picked on the way is that of Gorishniy et al., TabPack (ICML 2026).

    `space` says what is searched, `{setting: values}`. A list has choices. A tuple of two numbers is a range, both
    included: drawn by the logarithm if both are above 0 and one is at least 10 times the other (`(1e-4, 1e-1)`), else
    evenly (`(0, 0.5)`); whole numbers if both are (`(16, 512)`) and the setting takes no others. Settings are

    - `optimizer`, `schedule`, `weighting`, `encoder`, `sharing`, `head`: choices of components or their names.
    - arguments of these: `sharing/experts`, `optimizer/momentum`; in short `lr`, `weight_decay`, `hidden` and `dropout`
      of optimizer and encoder. They count where the part that was drawn has them.
    - `regularizer/l2` and the like: the strength of a regularizer, beside those that the trainer has.
    - `weight/income` and the like: the weight of a task.
    - `scale/income` and the like: the scale in which targets train, as for `pt.Task`. In an ensemble predictions are
      compared in that of the task as it was given; else name a metric as `monitor`, since losses of several scales say
      nothing of each other.
    - `embed`: choices of embeddings of numeric features, as for `pt.Inputs`.
    - `bins`: `[True, False]`, whether the bins are read that numbers come as too, by `pt.Inputs.from_frame(bins=...)`.
    - `batch_size`, `accumulate`, `clip_norm`.

    Without a space there is one for tables: depth, width and dropout of an MLP, learning rate and decay of AdamW unless
    the trainer has an optimizer that is not the usual one, a batch size for so many rows, and for several tasks MMoE.
    Of tasks and a frame a model is then made whose numbers are normal by their quantiles and for half of the networks
    come as bins too, with an indicator where some are missing, and whose regressions train in a scale of their own. In
    an ensemble, where standardised targets begin at 0 or above and have a long tail (a skewness above 1), half of the
    networks train on their logarithms.

    Arguments:
        subject: a `pt.MultiTaskModel`, or a `pt.Trainer` of one, whose other settings all networks have, but for its
            callbacks; or a list of `pt.Task`, for which an MLP with layers of 128 and 64 is taken, and whose
            regressions train in a scale of their own.
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
            study = _study(subject, data, space, validation, longest or LONGEST, batch_size, weights)
            made = made_of(study, space, count, drawn, (study.train, study.held_out()))[1]
            asked = {"ensemble": ensemble, "settings": [_plainly(each.settings) for each in made], "members": most,
                     "epochs": study.epochs, "batch_size": study.batch_size, "patience": tolerated,
                     "seed": drawn}  # fmt: skip
            with _held(path, study, asked, "ensemble.json") as folder:
                run = Greedy(study, made, most=most, patience=tolerated or PATIENCE, folder=folder, asked=asked)
                return run.run(time, bool(progress))
    if members != MEMBERS:
        raise ValueError(f'`members` is of a search with ensemble="greedy"; got {members!r}')
    if budget is not None:
        raise ValueError('`budget` is of a search with ensemble="greedy"; `trials` and `epochs` limit this one')
    factor = 3 if eta == "auto" else None if eta is None else whole(eta, "`eta`", 2)
    least = whole(min_epochs, "`min_epochs`")
    watched = Watched(monitor, mode)
    with interrupts.held():
        study = _study(subject, data, space, validation, longest or _EPOCHS, batch_size, weights)
        found, made = made_of(study, space, count, drawn)
        found.check_monitors(watched.names)
        rungs = rungs_of(len(made), study.epochs, factor, least)
        asked = {"space": found.describe(), "trials": count, "epochs": study.epochs, "batch_size": study.batch_size,
                 "monitor": watched.names, "mode": watched.modes, "eta": factor, "min_epochs": least,
                 "patience": patience, "seed": drawn}  # fmt: skip
        with _held(path, study, asked, _RESULTS) as folder:
            start = study.model._start()
            stay = tolerated or study.epochs
            candidates = [
                Candidate(number, each, study, network_of(study, start, each), watched, stay, rungs, folder)
                for number, each in enumerate(made)
            ]
            write = partial(_write, folder, asked, candidates)
            write()
            order = halve(study, candidates, rungs, factor, bool(progress), write)
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


def made_of(
    study: Study, space: Mapping[str, Any] | None, trials: int, seed: int, rows: Sequence[Rows] = ()
) -> tuple[Space, list[Made]]:
    """The space, and what the networks of so many trials are made with; scales of targets that suit the rows may be in
    it.
    """
    said = (tabular.space(study.trainer, rows) or None) if space is None else space
    found = Space(said, study.trainer)
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
    folder = folder_path(path)
    os.makedirs(folder, exist_ok=True)
    release = checkpoints.hold(folder)
    try:
        asked |= _fingerprints(study)
        _check_asked(Path(folder, results), asked)
        yield folder
    finally:
        release()


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


def _write(folder: str | None, asked: Mapping[str, Any], candidates: Sequence[Candidate]) -> None:
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
