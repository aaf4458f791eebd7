"""One call of `fit`: epochs over rows in memory or batches from outside, with callbacks between them."""

from __future__ import annotations

import functools
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
import torch

from .. import _core, metrics
from ..arguments.messages import listed
from ..data import Mixed, Rows, Stream, in_memory, labels
from ..model import scoring
from ..process import interrupts
from ..results import observation
from ..results.history import History
from ..results.observation import number
from . import checkpoints, group_by_length
from .callback import Callback
from .hooks import after_epoch
from .monitor import find
from .progress import Progress
from .run import Run

_log = logging.getLogger("polytask")


@dataclass(frozen=True)
class Fit:
    """What one call of `fit` asks for, as `pt.Trainer.fit` says it; data were read."""

    train: Rows | Stream | Mixed
    validation: Rows | Stream | Mixed | None
    epochs: int
    batch_size: int
    shuffle: bool
    train_metrics: bool
    callbacks: Sequence[Callback]
    #: Whether the steps run code of the caller's own beside the model's.
    own_code: bool = False
    group_by_length: bool = False
    #: Whether it says that a task may drown another; of several networks one says it.
    compares: bool = True


class Loop:
    """Reads from top to bottom: `train`, then `_epoch`, then how it is fed.

    Arguments:
        run: what callbacks are told of, and whose history grows.
        core: what steps.
        fit: what is asked for.
        end_epoch: ends the core's epoch, complete or broken off; gives what it reports.
    """

    def __init__(self, run: Run, core: _core.Trainer, fit: Fit, end_epoch: Callable[[], dict[str, Any]]) -> None:
        self.run = run
        self.model = run.model
        self.core = core
        self.data = fit.train
        self.validation = fit.validation
        self.epochs = fit.epochs
        self.batch_size = fit.batch_size
        self.shuffle = fit.shuffle
        self.group_by_length = fit.group_by_length
        self.own_code = fit.own_code
        self.compares = fit.compares
        self.metrics = fit.train_metrics and any(self.model.metrics)
        self.callbacks = sorted(fit.callbacks, key=lambda each: each.last)
        self._after_epoch = [after_epoch(each) for each in self.callbacks]
        self._end_epoch = end_epoch
        self.first = self.core.epochs
        self.first_step = self.core.steps
        self.rows = None if isinstance(self.data, Stream) or in_memory(self.data) is None else self.data.core()
        # The core counts metrics of positions over one data set alone.
        mixed = isinstance(self.data, Mixed) and self.rows is not None and any(task.per for task in self.model.tasks)
        self._left_out = mixed and self.metrics
        self.metrics = self.metrics and not mixed
        self.held: dict[str, Callable[[], None]] = {}
        self.scores: scoring.Scores | None = None
        #: What a checkpoint had of the running epoch's metrics, until they have it.
        self._scored: Any = None
        #: Whether batches from outside were taken that no step has taken in.
        self._ahead = False
        #: Whether a checkpoint did not say where batches from outside were.
        self._lost = False
        self.interrupted = False
        #: Whether the last call of `train` ended before the fit did, so that the next one goes on.
        self.paused = False
        self._check()

    @property
    def foreign(self) -> bool:
        """Whether other people's code runs in the loop, which may draw random numbers."""
        return self.rows is None or self.model._foreign or self.own_code

    @property
    def generator(self) -> torch.Generator | None:
        """The generator of the loader, if it has one."""
        return self.data.generator if isinstance(self.data, Stream) else None

    @property
    def resumable(self) -> bool:
        """Whether a run can go on from here with the same bits."""
        if not self._streams(self.data):
            return True
        return not self._ahead and (self.core.batches == 0 or (self.data.resumable and self._keeps_scores))

    @property
    def _keeps_scores(self) -> bool:
        """Whether a checkpoint in the middle of an epoch has all that its metrics need."""
        scores = self.scores if self.metrics else None
        return scores is None or not scores.keeps or scores.remembers

    @property
    def batches(self) -> int | None:
        """Batches an epoch, if that is known."""
        return -(-len(self.data) // self.batch_size) if isinstance(self.data, Rows) else self.data.batches

    def columns(self) -> list[str]:
        """The columns this call adds to the history."""
        each = self._columns_of(self.model.metrics)
        shown = scoring.of_training_rows(self.model) if self.metrics else [()] * len(self.names)
        total = ["loss", "objective"] if self.core.minimizes_another else ["loss"]
        training = [*total, *self._columns_of(shown), *self.regularizers]
        validated = [] if self.validation is None else [f"validation/{name}" for name in ["loss", *each]]
        observed = observation.columns(self.run.observe, self.names)
        return [*training, *self.terms, *observed, *validated]

    def _columns_of(self, metrics: Iterable[Sequence[metrics.Metric]]) -> list[str]:
        pairs = zip(self.names, metrics, strict=True)
        return [f"{task}/{name}" for task, each in pairs for name in ["loss", *(metric.name for metric in each)]]

    @property
    def terms(self) -> list[str]:
        """The columns of what the network adds to the objective."""
        return [f"term/{name}" for name in self.model._core.terms]

    @property
    def regularizers(self) -> list[str]:
        """The columns of the regularizers."""
        return observation.regularizers(self.core.regularizers)

    @property
    def names(self) -> list[str]:
        """The tasks' names."""
        return [task.name for task in self.model.tasks]

    def _check_labels(self, tasks: Sequence[int], sets: Sequence[Rows]) -> None:
        """Says of which tasks there are targets and no label.

        Raises:
            ValueError: none has one.
        """
        kinds = self.model.kinds
        lacking = [
            self.names[j]
            for j in tasks
            if not any(
                labels.are_known(rows.targets[j], rows.masks[j], kinds[j], rows.weights[j] if rows.weights else None)
                for rows in sets
            )
        ]
        if len(lacking) == len(tasks) > 0:
            raise ValueError("`data` has no row with a label and a weight above 0, for any task")
        if lacking:
            _log.warning("`data` has no row with a label and a weight above 0 for %s, whose heads stay as they are",
                         listed(lacking))  # fmt: skip

    def _check(self) -> None:
        """Everything that can be known to be wrong before the first step."""
        if self.group_by_length:
            group_by_length.check(self.data, self.model.inputs, self.shuffle)
        sets = in_memory(self.data)
        if sets is not None:
            for rows in sets:
                self.model._core.check(rows.core(), True)
            there = [any(rows.targets[j] is not None for rows in sets) for j in range(len(self.model.tasks))]
            lacking = [name for name, has in zip(self.names, there, strict=True) if not has]
            if lacking:
                _log.warning("`data` has no targets of %s, whose heads stay as they are", listed(lacking))
            self._check_labels([j for j, has in enumerate(there) if has], sets)
        self._watched()
        if isinstance(self.data, Mixed):
            if self._left_out:
                _log.info(
                    "metrics of training rows are left out: those of positions are not counted over several data sets"
                )
            self._check_mix(self.data)
        if self.core.needs_validation and in_memory(self.validation) is None:
            came = "none" if self.validation is None else "batches from outside"
            raise ValueError(
                "`validation` should be rows in memory, or a fraction of `data`, because the weighting "
                f"{self.core.weighting!r} looks at them in each step; got {came}"
            )
        for name, data in (("data", self.data), ("validation", self.validation)):
            if isinstance(data, Stream) and data.once and self.epochs > 1:
                raise ValueError(f"`{name}` can be read only once, but there are {self.epochs} epochs: pass a list, "
                                 "a DataLoader, the function that makes it (`batches` in place of `batches()`) or an "
                                 "object whose `__iter__` starts again")  # fmt: skip

    def _check_mix(self, mixed: Mixed) -> None:
        weighting = self.core.weighting
        if self.core.compares and self.core.accumulate == 1 and len(mixed.parts) > 1:
            _log.warning(
                "each batch has rows of one data set alone, and the weighting %r compares the tasks of a step: "
                "pt.Trainer(accumulate=%s) makes one step of so many batches",
                weighting,
                len(mixed.parts),
            )

    @property
    def _labels(self) -> list[tuple[str, int]]:
        """Each task's kind of labels, and how many a row has."""
        return [(kind, task.outputs) for task, kind in zip(self.model.tasks, self.model.kinds, strict=True)]

    def _watched(self) -> tuple[str, int] | None:
        """The column that the schedule watches, and 1 if higher is better, else -1."""
        watches = self.core.watches
        return None if watches is None else find(*watches, self.columns(), self.model, "`schedule`: argument `monitor`")

    def train(self, progress: bool, resume: str | None, until: int | None = None) -> History:
        """Trains; gives the run's history.

        With `until` it is `paused` after so many epochs, unless it ends by then: the next call goes on with the bits of
        a run without a pause, and ends it there if the run was told to stop meanwhile.
        """
        run = self.run
        bar = None
        done = False
        goes_on, self.paused = self.paused, False
        try:
            if self._scores().others or (
                self.validation is not None and scoring.Scores(self.model, held_out=True).others
            ):
                metrics.load()
            interrupts.look()
            if not goes_on:
                self._start(resume)
            self.prepare()
            bar = Progress(progress, self.epochs, self.batches)
            within = self.core.batches > 0
            if within:
                self._look_at_rest()
            self._compare_losses_beforehand()
            interrupts.look()
            last = self.first + (self.epochs if until is None else min(until, self.epochs))
            while self.core.epochs < last and not run.stopping:
                self._epoch(bar, within)
                interrupts.look()  # epochs may be shorter than the time between two looks of the core
                within = False
            self.paused = last < self.first + self.epochs and not run.stopping
            for callback in [] if self.paused else self.callbacks:
                self._call(callback.on_fit_end)
            done = True
        except KeyboardInterrupt:
            self.interrupted = True
            _log.warning("interrupted: the model is as after step %s", self.core.steps)
        except Exception as error:
            # Ctrl-C reaches the processes of a loader too, which may fail of it before it is our turn to look.
            if not interrupts.waits():
                raise
            interrupts.forget()
            self.interrupted = True
            _log.warning("interrupted: the model is as after step %s (and %r)", self.core.steps, error)
        finally:
            if self.scores is not None:
                self.core.measure([])
            for release in [] if self.paused else self.held.values():
                release()
            self._log_warning()
            if bar is not None:
                bar.close(done)
            for callback in [] if self.paused else self.callbacks:
                callback.on_fit_exit(self.run)
        return run.history

    def _start(self, resume: str | None) -> None:
        """What comes once, before the first epoch of the fit, or the first one after a checkpoint."""
        self.run.stopping = False
        for callback in self.callbacks:
            self._call(callback.on_fit_start)
        if resume is None or not self._resume(resume):
            self._begin()

    def _call(self, hook: Callable[..., None]) -> None:
        hook(self.run)
        self.model._follow_modules()
        interrupts.look()

    def hold(self, folder: str) -> None:
        """Keeps other runs out of a folder of checkpoints as long as this one goes on."""
        path = os.path.realpath(folder)
        if path not in self.held:
            self.held[path] = checkpoints.hold(folder)

    def _look_at_rest(self) -> None:
        """Says what the rest of an epoch lacks that began before a checkpoint."""
        if not self._streams(self.data):
            return
        if self._lost:
            _log.warning("the checkpoint is of the middle of an epoch, after %s batches, and does not say where `data` "
                         "was (`state_dict`), whose batches begin anew", self.core.batches)  # fmt: skip
        if self._scored is None and self.scores is not None:
            self.scores.lose()
        if self.metrics and self.scores is not None and self.scores.lost:
            _log.warning("metrics that look at the outputs of a whole epoch are NaN in this one, since the checkpoint, "
                         "of the middle of it, does not have them all")  # fmt: skip
        self._scored = None

    def _begin(self) -> None:
        """What an earlier call left unfinished is over."""
        if self.core.batches > 0:
            self._close()
        self.first = self.core.epochs
        self.first_step = self.core.steps

    def prepare(self) -> None:
        """Tells the core what it has to know of the data before the first step."""
        self.scores = self._scores()
        if self._scored is not None:
            self.scores.restore(self._scored)
        self.core.measure(self.scores.wanted if self.metrics else [])
        batches = self.batches
        accumulate = self.core.accumulate
        total = None if batches is None else self.first_step + self.epochs * -(-batches // accumulate)
        self.core.plan(None if total is None else min(total, 2**63 - 1))
        if self.core.needs_validation:
            sets = in_memory(self.validation) or []
            self.core.validate_on((sets[0] if len(sets) == 1 else labels.joined(sets, self._labels)).core())
        if isinstance(self.data, Rows):
            self.core.balance(self.data.core())
        # note: once weights are known, in a run that goes on, a pass over a loader would draw from its generators.
        elif any("balanced" in task["loss"].values() for task in self.model._core.description["tasks"]):
            self.core.balance(labels.without_features(self.data, self._labels, self.model.inputs).core())

    def _compare_losses_beforehand(self) -> None:
        """Says before the first step, of some rows, whether one task will drown another."""
        sets = in_memory(self.data)
        if not self.compares or self.core.steps > 0 or len(self.names) < 2:
            return
        if self.core.constant_weights is None or sets is None:
            return
        if self.model._foreign:  # people's own code sees training and evaluation alone
            return
        sums = np.zeros((2, len(self.names)))
        for rows in sets:
            some = rows.take(np.linspace(0, len(rows) - 1, min(len(rows), 256)).astype(np.int64))
            sums += self.model._core.evaluate(some.core(), len(some), threads=self.core.threads)[:2]
        self._compare_losses([loss / count if count > 0 else np.nan for loss, count in sums.T])

    def _compare_losses(self, losses: Sequence[float]) -> None:
        """Warns if the tasks' parts of the objective differ by more than 100 times, and stay so."""
        lambdas = self.core.constant_weights or [0.0] * len(losses)
        parts = {name: w * loss for name, w, loss in zip(self.names, lambdas, losses, strict=True) if w * loss > 0}
        if not parts:
            return
        high = max(parts, key=parts.__getitem__)
        low = min(parts, key=parts.__getitem__)
        if parts[high] > 100 * parts[low]:
            _log.warning("the first loss of task `%s` (%.3g) is %.0f times that of `%s` (%.3g), and nothing evens them "
                         'out: one may drown the other; see Task(scale="standardize") for targets in units of their '
                         "own, Task(weight=...), and weightings such as pt.weighting.Uncertainty",
                         high, parts[high], parts[high] / parts[low], low, parts[low])  # fmt: skip

    def _epoch(self, bar: Progress, within: bool) -> None:
        """One epoch, or the rest of one that began before a checkpoint."""
        began = time.perf_counter()
        bar.begin(self.core.epochs - self.first)
        for callback in [] if within else self.callbacks:
            self._call(callback.on_epoch_start)
        scores = self._feed_stream(self.data, bar) if self._streams(self.data) else self._feed_rows(bar)
        batches = self.core.batches
        row = self._row(self._close(), scores)
        self._observe(row)
        row["seconds"] = time.perf_counter() - began
        self.run.history.append(row)
        bar.end(batches, row)
        _log.info("epoch %s: %s", row["epoch"], {name: round(value, 5) for name, value in row.items()})
        for hook in self._after_epoch:
            hook(self.run, row)
            self.model._follow_modules()
            interrupts.look()

    def _observe(self, row: dict[str, Any]) -> None:
        """Shows the schedule what it watches; a number that is not known says nothing of an improvement."""
        if (watched := self._watched()) is None:
            return
        column, sign = watched
        if math.isnan(row[column]):
            _log.warning("epoch %s: `%s`, which the schedule watches, is NaN and does not count", row["epoch"], column)
        else:
            self.core.observe(row[column], sign > 0)

    def _log_warning(self) -> None:
        """What the core has to say of the steps."""
        if warning := self.core.warning():
            _log.warning("%s", warning)

    def _close(self) -> dict[str, Any]:
        """Ends the core's epoch, complete or broken off."""
        self._log_warning()
        return self._end_epoch()

    def _row(self, closed: dict[str, Any], scores: scoring.Scores | None) -> dict[str, Any]:
        values = {} if scores is None else scores.metrics(closed["metrics"])
        row: dict[str, Any] = {"epoch": len(self.run.history) + 1, "loss": number(closed["loss"])}
        if self.core.minimizes_another:
            row["objective"] = number(closed["objective"])
        for task, loss in zip(self.model.tasks, closed["tasks"], strict=True):
            row[f"{task.name}/loss"] = number(loss)
            for name, value in values.get(task.name, {}).items():
                row[f"{task.name}/{name}"] = value
        row |= dict(zip(self.terms, closed["terms"], strict=True))
        row |= dict(zip(self.regularizers, closed["regularizers"], strict=True))
        row |= observation.row(self.run.observe, self.names, closed.get("observed", {}))
        if self.validation is not None:
            row |= scoring.evaluate(self.model, self.validation, 4096, self.core).columns("validation/")
        row["lr"] = closed["lr"]
        return row

    def _feed_rows(self, bar: Progress) -> scoring.Scores | None:
        """Rows in memory: the core runs by itself, up to where a callback wants to be called."""
        poll = bar.update if bar.shown else None
        how: dict[str, Any] = {
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "keep_outputs": self.metrics,
            "group_by_length": self.group_by_length,
        }
        through = False
        while not through:
            before = self.run.batches
            due = self._due()
            through = self.core.run(self.rows, **how, stop_after=due, poll=poll)  # type: ignore[arg-type]
            self._call_due(before)
        if not self.metrics or self.scores is None:
            return None
        if self.scores.keeps:
            self._score_rows(self.scores)
        return self.scores

    def _score_rows(self, scores: scoring.Scores) -> None:
        """Scores the outputs that were kept; rows that came several times count once, as they were the last time."""
        sets = in_memory(self.data) or []
        first = 0
        visited = [None] if isinstance(self.data, Rows) else self.core.visited()
        for rows, index in zip(sets, visited, strict=True):
            for start in range(0, len(rows), scoring.CHUNK):
                part = rows.part(start, start + scoring.CHUNK)
                raw = self.core.outputs(first + start, first + start + len(part))
                if index is not None:
                    low, high = np.searchsorted(index, [start, start + len(part)])
                    some = index[low:high] - np.uint32(start)
                    part = part.labels(some)
                    raw = [each[some] if len(each) else each for each in raw]
                scores.add(part, raw)
            first += len(rows)

    def _scores(self) -> scoring.Scores:
        """What gives the metrics of an epoch.

        Several data sets in memory may visit a row several times, and the core would count each visit.
        """
        counts = self.rows is None or isinstance(self.data, Rows)
        saved = any(each.saves for each in self.callbacks)
        return scoring.Scores(self.model, counts, saved and self._streams(self.data) and self.data.resumable)

    def _streams(self, train: Rows | Stream | Mixed) -> TypeGuard[Stream | Mixed]:
        """Whether Python hands over each batch."""
        return self.rows is None

    def _feed_stream(self, stream: Stream | Mixed, bar: Progress) -> scoring.Scores | None:
        """Batches from outside: one step each."""
        scores = self.scores if self.metrics else None
        waiting = list[Rows]()
        keeping = scores if scores is not None and scores.keeps else None
        total = self.batches or 0
        done = resumed = self.core.batches
        keeps = keeping is not None
        for rows in stream.epoch(self.core.epochs, done):
            self._ahead = True
            before = self.run.batches
            first = self.core.steps == 0 and done == 0
            _, _, losses = self.core.step(rows.core(), keeps)
            self._ahead = self.run.batches == before
            if first:
                self._compare_losses(losses)
            done += 1
            if bar.due:
                bar.update(done, total, self.core.running)
            if keeping is not None:
                waiting = _collect(keeping, [*waiting, rows], self.core.outputs())
            self._call_due(before)
            interrupts.look()
        if done == 0:
            raise ValueError("`data` has no batch (any more)")
        if resumed and not self._lost and total and done != total:
            _log.warning("the resumed epoch has %s batches in place of %s: after `load_state_dict`, `data` should give "
                         "those that come behind the last one before `state_dict`", done, total)  # fmt: skip
        before = self.run.batches
        self.core.flush(keeps)
        self._ahead = False
        if keeping is not None and waiting:
            _collect(keeping, waiting, self.core.outputs())
        self._call_due(before)
        return scores

    def _due(self) -> int | None:
        """Batches until the next callback wants to be called."""
        wanted = [each.every_steps for each in self.callbacks if each.every_steps]
        return min((every - self.run.batches % every for every in wanted), default=None)

    def _call_due(self, before: int) -> None:
        """Calls whose number of batches was reached, or passed by a step that accumulates several."""
        for callback in self.callbacks:
            every = callback.every_steps
            if every and self.run.batches // every > before // every:
                self._call(callback.on_steps)

    def state(self) -> dict[str, Any]:
        """What a resumed run must have in common, and where it began."""
        state: dict[str, Any] = {"first": self.first, "first_step": self.first_step, "same": self._same()}
        # A batch that no step has taken in would be passed over.
        if isinstance(self.data, Mixed):
            state["mix"] = None if self._ahead else self.data.state()
        elif isinstance(self.data, Stream):
            state["stream"] = None if self._ahead else self.data.state()
        return state

    @property
    def own(self) -> dict[str, checkpoints.Own]:
        """What a checkpoint in the middle of an epoch keeps beside it."""
        scores = self.scores
        return {"scores": scores} if scores is not None and scores.remembers and self.core.batches > 0 else {}

    def _same(self) -> dict[str, Any]:
        rows: Any = len(self.data) if isinstance(self.data, Rows) else None
        if isinstance(self.data, Mixed):
            rows = self.data.describe()
        same = {
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "rows": rows,
            "train_metrics": self.metrics,
            "group_by_length": self.group_by_length,
        }
        return same | self._fingerprints

    @functools.cached_property
    def _fingerprints(self) -> dict[str, Any]:
        parts = {"data": in_memory(self.data), "validation": in_memory(self.validation)}
        return {name: " ".join(each.fingerprint() for each in rows) for name, rows in parts.items() if rows is not None}

    def check_same(self, state: dict[str, Any] | None) -> None:
        """Refuses a checkpoint of a `fit` with other arguments, before anything is restored."""
        # Earlier versions did not group.
        theirs = {"group_by_length": False, **state["same"]} if state is not None else {}
        ours = self._same()
        differ = next((key for key in theirs if ours.get(key) != theirs[key]), None)
        if differ is not None:
            given = ours.get(differ)
            raise ValueError(f"`resume`: the checkpoint was made with {differ} {theirs[differ]}; got {given}")

    def restore(self, state: dict[str, Any] | None, own: dict[str, Any]) -> None:
        """Goes on where the checkpoint's call of `fit` was."""
        self._scored = own.get("scores")
        if self._scored is not None:
            self._scores().restore(self._scored)  # which refuses what does not fit
        self._lost = state is None
        if state is not None:
            self.first = state["first"]
            self.first_step = state["first_step"]
            if isinstance(self.data, Mixed):
                self._lost = state["mix"] is None
                self.data.restore(state["mix"])
            elif isinstance(self.data, Stream):
                self.data.restore(state.get("stream"))
                self._lost = not self.data.goes_on

    def _resume(self, path: str) -> bool:
        """Restores the last complete checkpoint; gives whether there was one."""
        files = checkpoints.found(path)
        for file in files:
            try:
                self.run.restore(file)
            except ValueError as error:
                if file == files[-1]:
                    raise
                _log.warning("skipped a checkpoint: %s", error)
                continue
            _log.info("resumed from %s, after step %s", file, self.core.steps)
            return True
        return False


def _collect(scores: scoring.Scores, waiting: list[Rows], raw: list[np.ndarray]) -> list[Rows]:
    """Scores the rows that wait once their outputs are there: with accumulation, after the last of them."""
    if sum(map(len, waiting)) != max(map(len, raw)):
        return waiting
    start = 0
    for rows in waiting:
        scores.add(rows, [each[start : start + len(rows)] for each in raw])
        start += len(rows)
    return []
