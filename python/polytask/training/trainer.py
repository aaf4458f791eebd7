"""The trainer: settings, one step, evaluation, and `fit`."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from os import PathLike
from typing import Any

import numpy as np

from .. import _core
from ..arguments.keywords import checked
from ..arguments.numbers import seeded, whole
from ..arguments.paths import file_path, folder_path
from ..components import own_weighting
from ..components.component import Component
from ..components.own_weighting import Code, OwnWeighting
from ..components.registry import describe
from ..data import Mixed, Rows, Split, Stream, in_memory, labels
from ..data.split import divide, rows_of
from ..model import scoring
from ..model.ensemble import Ensemble
from ..model.model import MultiTaskModel
from ..process import devices, interrupts, randomness
from ..results import observation
from ..results.histories import Histories
from ..results.history import History
from ..results.learning_rates import LearningRates
from ..results.results import Results
from . import checkpoints, hooks, own_optimizer, range_test, settings
from . import seeds as several
from .callback import Callback
from .loop import Fit, Loop
from .monitor import find
from .own_optimizer import Maker, SchedulerMaker

_log = logging.getLogger("polytask")


class Trainer:
    """Trains one model.

    Arguments:
        model: the model.
        optimizer: one of `pt.optim`, or its name; Adam by default. Or what makes an optimizer of PyTorch's of a list of
            parameters, `functools.partial(torch.optim.SGD, lr=0.05)`, a class, or a function; one whose first argument
            is called `named_parameters` gets pairs of a path and a parameter. It steps on the model's own parameters,
            once a step, at its own price; what is frozen has no gradient.
        lr: the learning rate of an optimizer given by name, of Adam, or of a class of PyTorch's.
        schedule: one of `pt.schedule`, or its name; None is "constant". Beside an optimizer of PyTorch's also what
            makes a scheduler of it, such as `functools.partial(torch.optim.lr_scheduler.OneCycleLR, ...)`, which steps
            once a step.
        weighting: one of `pt.weighting`, or its name; or a function of your own, or an object whose `weigh` it is:
            `weigh(losses)` or `weigh(losses, gramian)`, called in each step with float32 tensors on the processor, of
            the tasks that have a label in it: losses `[tasks]`, and the products `[tasks, tasks]` of their gradients at
            the shared parameters; an argument called `tasks` gets their names. It gives one weight a task, in anything
            like an array. Checkpoints keep the `state_dict` of an object that also has `load_state_dict`.
        regularizers: of `pt.regularizer`, or names.
        clip_norm: the largest norm of the gradient.
        accumulate: batches a step.
        observe: what the history records beside losses and metrics: "weights" of the tasks, their "gradients" at the
            shared parameters (norms, cosines, share of conflicting pairs), or both; means over the steps of an epoch.
            Observing gradients takes a backward pass a task, which weightings from gradients take anyhow.
        callbacks: see `pt.Callback`; a function is called after each epoch with what its parameters are called, such as
            `row`, or `epoch` and `metrics`.
        device: where to train, "cpu" or "cuda" or a `torch.device`; the model is brought there, as by `model.to`. Where
            the model is, if none is given.
        threads: a number, with which the same seed and data give the same bits whatever the machine does; or "auto",
            which takes as many as `torch.set_num_threads` or `OMP_NUM_THREADS` says, and fewer as long as other
            processes keep the processor so busy that steps take more than twice what they took at first. It looks
            again now and then, and changes nothing on a quiet machine. `history.threads` says which steps had how many,
            a resumed run goes on with the number that held, and after each call torch has its own again.
        seed: of the order of rows and of dropout; None takes what `torch.manual_seed` was last called with, and draws
            nothing.
    """

    @checked
    def __init__(
        self,
        model: MultiTaskModel,
        optimizer: Component | str | Maker | None = None,
        *,
        lr: Any = None,
        schedule: Component | str | SchedulerMaker | None = "constant",
        weighting: Component | str | Code = "equal",
        regularizers: Sequence[Component | str] = (),
        clip_norm: float | None = None,
        accumulate: int = 1,
        observe: Iterable[str] | str = (),
        callbacks: Iterable[Callback | Callable[..., Any]] | Callback = (),
        device: Any = None,
        threads: int | str = "auto",
        seed: int | None = 0,
    ) -> None:
        if not isinstance(model, MultiTaskModel):
            own = "; an ensemble evaluates itself: ensemble.evaluate(data)" if isinstance(model, Ensemble) else ""
            raise TypeError(f"`model` should be a pt.MultiTaskModel; got {type(model).__name__}{own}")
        self.model = model
        self.callbacks = sorted(hooks.read(callbacks), key=lambda each: each.last)
        self.seed = seeded(seed)
        self.threads = settings.threads(threads)
        self.observe = observation.read(observe)
        method = own_weighting.read(weighting)
        self._own: dict[str, Any] = {"weighting": method} if isinstance(method, OwnWeighting) else {}
        schedule = "constant" if schedule is None else schedule
        theirs = own_optimizer.read(optimizer, lr, schedule)
        if theirs is not None:
            self._own["optimizer"] = theirs
        schedules = theirs is not None and theirs.schedules
        said = {
            "optimizer": settings.optimizer(optimizer, lr) if theirs is None else theirs.describe(),
            "schedule": describe("schedule", "constant" if schedules else schedule, "schedule"),
            "weighting": method.describe(),
            "regularizers": settings.regularizers(regularizers),
            "clip_norm": settings.number(clip_norm, "`clip_norm`"),
            "accumulate": whole(accumulate, "`accumulate`"),
            "observe": self.observe,
            "threads": self.threads,
            "seed": self.seed,
            "device": None if device is None else devices.name(device),
        }
        self._core = self._made(said)
        self.history = History()
        #: The models of the last `fit(seeds=)`.
        self.ensemble: Ensemble | None = None
        self.stopping = False
        self._done = 0
        self._loop: Loop | None = None

    @checked
    def fit(
        self,
        data: Any,
        *,
        validation: Any = None,
        epochs: int,
        batch_size: int = 32,
        shuffle: bool = True,
        group_by_length: bool = False,
        progress: bool = True,
        train_metrics: bool = True,
        weights: Any = None,
        resume: str | PathLike[str] | None = None,
        callbacks: Iterable[Callback | Callable[..., Any]] | Callback = (),
        seeds: int | None = None,
    ) -> History:
        """Trains for so many epochs, and again for more when it is called again.

        Everything that can be checked is checked before the first step. Ctrl-C ends the training after the step, the
        metric or the callback at hand: a warning is logged, the history of the complete epochs is returned, and the
        model is as after its last step; a second Ctrl-C within a second does not wait for what is at hand. An exception
        of a loader or a callback leaves the model the same way and is passed on.

        Arguments:
            data: `(x, y1, y2, ...)` or `(x, (y1, y2, ...))` in the order of the tasks, `(x, {task: y})`,
                `(x, {task: y}, weights)`, `{"x": x, task: y}`, a pandas or polars frame, a dict of columns or a
                list of dicts (targets may be in a frame of their own, `(x, y)`), a torch `Dataset` or `DataLoader`, a
                table with `column_names` (`datasets.Dataset`), or any iterable of such batches, or a function that
                gives one for each epoch; or several data sets, `{task: data}` (see `pt.data.Mix`).
            validation: data in any form; the fraction of the rows to hold out, at random; or a `pt.data.Split`.
            epochs: how many; with `resume`, how many the resumed call was to have in all.
            batch_size: rows a batch, where the batches are ours to make.
            shuffle: whether each epoch has its own order of rows.
            group_by_length: whether the rows of a batch have about equally many positions, so that modules that pad
                rows pad less and recurrent layers make fewer steps. Each epoch has its own order all the same: rows are
                drawn at random, for 50 batches at a time, into which they are sorted by length, and the batches come
                at random. For rows in memory, and with `shuffle` alone.
            progress: whether a bar is shown.
            train_metrics: whether the metrics of training are computed, once an epoch, on the outputs of its steps.
            weights: row weights `[rows]` for all tasks or `{task: [rows]}`, or the column of a frame, which is then no
                feature; validation data that are a frame are weighted by its column of that name.
            resume: the folder of a `pt.Checkpoint`; without a checkpoint in it, training starts.
            callbacks: more of them, for this call.
            seeds: how many networks train side by side, each as it would alone with one thread: this one, and others
                that begin from the seeds after the model's and the trainer's. What the model has learned before or is
                frozen all begin with, and rows held out are the same. Then a `pt.Histories` is given, means over the
                seeds with intervals, and `trainer.ensemble` has the models. As many train at a time as torch has
                threads; where code of your own takes part, or on a card, they train one after another. Only for a
                trainer's first call, with neither `resume` nor callbacks that keep what is of one run.

        Raises:
            ValueError, TypeError, OSError: what is wrong, what was expected and what came.
        """
        count = whole(epochs, "`epochs`")
        size = whole(batch_size, "`batch_size`")
        called = [*self.callbacks, *hooks.read(callbacks)]
        many = None if seeds is None else self._several(seeds, resume)
        how = {"weights": weights, "batch_size": size, "shuffle": bool(shuffle), "seed": self.seed}
        with interrupts.held():
            with self.model._attempt():
                self.model._follow_modules()
                train, held_out = self._read(data, validation, how)
                own, by_length = bool(self._own), bool(group_by_length)
                asked = Fit(train, held_out, count, size, bool(shuffle), bool(train_metrics), called, own, by_length)
                runs = [self] if many is None else self._twins(many)
                each = [asked] * len(runs)
                if many is not None:
                    each = [replace(asked, callbacks=several.copies(called), compares=run is runs[0]) for run in runs]
                loops = [Loop(run, run._core, fit, run._end_epoch) for run, fit in zip(runs, each, strict=True)]
                interrupts.look()
                self.model._retrained()
            if many is None:
                return self._go(loops[0], bool(progress), None if resume is None else folder_path(resume, "`resume`"))
            calls = [partial(run._go, loop, False, None) for run, loop in zip(runs, loops, strict=True)]
            several.train(loops, calls, self.threads, bool(progress))
        self.ensemble = Ensemble([run.model for run in runs])
        return Histories([run.history for run in runs], [run.seed for run in runs])

    def _go(self, loop: Loop, progress: bool, resume: str | None, until: int | None = None) -> History:
        self._loop = loop
        try:
            return loop.train(progress, resume, until)
        finally:
            self._loop = None
            self.model._modules.rest()
            self._note_threads()

    def _several(self, seeds: int, resume: Any) -> int:
        """How many networks are asked for."""
        count = whole(seeds, "`seeds`")
        if resume is not None:
            raise ValueError("`seeds`: a checkpoint is of one run, and several cannot be resumed; leave `resume` out")
        if self.steps:
            raise ValueError(f"`seeds`: networks begin together, and this trainer has made {self.steps} steps; make "
                             "another pt.Trainer")  # fmt: skip
        return count

    def _twins(self, count: int) -> list[Trainer]:
        """This trainer and others like it, of models and orders of rows from the next seeds."""
        began = self.model._plain.description["seed"]
        models = self.model._started([began + at for at in range(1, count)])
        return [self, *(self._twin(model, self.seed + at) for at, model in enumerate(models, 1))]

    def _twin(self, model: MultiTaskModel, seed: int, **changes: Any) -> Trainer:
        """A trainer of another model, with these settings but for changes of them."""
        twin = Trainer(model, threads=self.threads, seed=seed)
        twin.observe = list(self.observe)
        fresh = {
            name: part.fresh() if isinstance(part, own_optimizer.OwnOptimizer) else copy.deepcopy(part)
            for name, part in self._own.items()
        }
        twin._own = {name: part for name, part in fresh.items() if name not in changes}
        kept = {**self._core.settings, "observe": self.observe, "threads": self.threads}
        twin._core = twin._made({**kept, "seed": seed, **changes})
        return twin

    @checked
    def predict(self, x: Any, *, raw: bool = False, batch_size: int = 4096) -> dict[str, np.ndarray]:
        """What the model predicts, as `pt.MultiTaskModel.predict` says.

        Raises:
            ValueError, TypeError: features that do not fit the model's inputs; says what was expected and what came.
        """
        return self.model.predict(x, raw=raw, batch_size=batch_size)

    @checked
    def evaluate(self, data: Any, *, batch_size: int = 4096, weights: Any = None) -> Results:
        """Losses and metrics on data in any form that `fit` takes: task -> metric -> value, shown as a table. Losses
        are those of raw outputs, metrics those of predictions, which `model.calibrate` changes. Row `weights` weigh
        losses; metrics leave rows of weight 0 out and count all others alike.

        Raises:
            ValueError, TypeError: what is wrong, what was expected and what came.
        """
        return self.model._evaluated(data, batch_size, weights, self._core)

    @checked
    def find_lr(
        self,
        data: Any,
        *,
        batch_size: int = 32,
        min_lr: float = 1e-6,
        max_lr: float = 1.0,
        steps: int = 100,
        validation: Any = None,
        weights: Any = None,
    ) -> LearningRates:
        """A learning-rate range test (Smith, Cyclical Learning Rates for Training Neural Networks, WACV 2017): steps on
        a copy of the model, from where it stands, whose learning rate rises from one to the next by a constant factor,
        where the paper adds a constant; it ends early when the loss grows beyond four times its best. `lrs`, `losses`
        and a `suggestion`, which can be drawn.

        Model, trainer and random generators stay as they were. The optimizer begins anew; its other settings, the
        weighting and the regularizers are the trainer's, but for the schedule. Learning rates that differ by group, and
        Muon's `adamw_lr`, keep their ratios, and those that are tried are the highest group's `lr`.

        Arguments:
            data, batch_size, validation, weights: as for `fit`; `validation` is for weightings that look at it. What
                can be read only once is refused.
            min_lr, max_lr: the first learning rate, and the last one.
            steps: how many.

        Raises:
            ValueError, TypeError: what is wrong, what was expected and what came.
        """
        count = whole(steps, "`steps`", 5)
        size = whole(batch_size, "`batch_size`")
        lrs = range_test.rates(min_lr, max_lr, count)
        with interrupts.held():
            twin = Trainer(copy.deepcopy(self.model), threads=self.threads, seed=self.seed)
            chosen = range_test.settings(self._core.settings, lrs)
            twin._core = _core.Trainer(twin.model._core, {**chosen, "threads": self.threads})
            how = {"weights": weights, "batch_size": size, "shuffle": True, "seed": self.seed}
            train, held_out = twin._read(data, validation, how)
            if isinstance(train, Stream) and train.once:
                raise ValueError("`data` can be read only once, and would be gone after the test: pass a list, a "
                                 "DataLoader, or the function that makes it")  # fmt: skip
            with range_test.undrawn(train):
                Loop(twin, twin._core, Fit(train, held_out, 1, size, True, False, []), twin._end_epoch).prepare()
                losses = range_test.losses(twin._core, twin.model._core, train, count, size, self.seed)
        found = LearningRates(lrs[: len(losses)].tolist(), losses)
        if math.isnan(found.suggestion):
            _log.warning("find_lr has no suggestion: the loss fell with none of %d learning rates; more `steps`, "
                         "larger batches or a lower `min_lr` may show where it falls", len(losses))  # fmt: skip
        elif found.doubtful:
            _log.warning("find_lr's suggestion may be chance: in %d steps the loss fell by no more than those of "
                         "batches scatter; more `steps` or larger batches would say more", len(losses))  # fmt: skip
        return found

    def step(self, batch: Any) -> dict[str, float]:
        """One step on one batch, in the order it has: `loss`, `objective` and each `<task>/loss` as in `pt.History`.

        With `accumulate`, steps happen at every so many batches; the others give NaN.

        Raises:
            ValueError, TypeError: what is wrong, what was expected and what came; the model is then unchanged.
        """
        own_code = self.model._foreign or self._own
        with interrupts.held() if own_code else nullcontext(), self.model._attempt():
            self.model._follow_modules()
            self.model.reader.scales.are_known()
            self.model._need_edges()
            rows = self.model.reader.rows(batch, learn=True)
            self.model._retrained()
            try:
                loss, objective, losses = self._core.step(rows.core())
            finally:
                self.model._modules.rest()
        if warning := self._core.warning():
            _log.warning("%s", warning)
        total = {"loss": loss, "objective": objective} if self._core.minimizes_another else {"loss": loss}
        names = [f"{task.name}/loss" for task in self.model.tasks]
        return {**total, **dict(zip(names, losses, strict=True))}

    def stop(self) -> None:
        """Makes the running epoch the last one; for callbacks."""
        self.stopping = True

    def watch(self, monitor: str, mode: str = "auto") -> tuple[str, int]:
        """The history's column for a monitor, and 1 if higher is better, else -1; for callbacks.

        Raises:
            ValueError: there is no such column, or it is not known which direction is better.
        """
        if self._loop is None:
            raise ValueError("`watch` is for callbacks, while `fit` runs")
        return find(monitor, mode, self._loop.columns(), self.model)

    def hold(self, folder: str) -> None:
        """Keeps other runs out of a folder of checkpoints until `fit` ends; for callbacks.

        Raises:
            BlockingIOError: another run is in it; says which process.
        """
        if self._loop is not None:
            self._loop.hold(folder)

    def _end_epoch(self) -> dict[str, Any]:
        """Ends the core's epoch, complete or broken off; gives its means."""
        batches = self._core.batches
        means: dict[str, Any] = self._core.end_epoch()
        self._done += batches
        self._note_threads()
        return means

    def _note_threads(self) -> None:
        """Shows the history how many threads the steps so far had."""
        self.history.threads[:] = self._core.stretches

    @property
    def batches(self) -> int:
        """Batches done so far, over all epochs."""
        return self._done + self._core.batches

    @property
    def resumable(self) -> bool:
        """Whether a run can go on from here with the same bits; between epochs only, with batches from outside that do
        not say where they are.
        """
        return self._loop is None or self._loop.resumable

    @property
    def steps(self) -> int:
        """Steps of the optimizer so far."""
        return self._core.steps

    @property
    def epochs(self) -> int:
        """Complete epochs so far."""
        return self._core.epochs

    @property
    def lr(self) -> float:
        """The learning rate of the last step."""
        return self._core.lr

    def save(self, path: str | PathLike[str]) -> None:
        """Writes a checkpoint: model, optimizer, all state, history; complete or not there.

        Raises:
            OSError: what the operating system says.
        """
        loop = self._loop
        callbacks = self.callbacks if loop is None else loop.callbacks
        # note: first of all, since a loader that is asked where it is may draw what its first epoch would draw.
        random = randomness.capture(loop.generator) if loop is not None and loop.foreign else None
        notes, arrays = checkpoints.write(
            self.history.rows,
            callbacks,
            self._own if loop is None else {**self._own, **loop.own},
            stopping=self.stopping,
            done=self._done,
            loop=None if loop is None else loop.state(),
            learned=self.model._learned(),
            random=random,
        )
        self._core.save(file_path(path), notes, arrays)

    def restore(self, path: str | PathLike[str]) -> None:
        """Takes over a checkpoint that `save` wrote, all of it or nothing.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is no checkpoint, is damaged, or belongs to another model or other settings.
        """
        file = file_path(path)
        held = self._core.read(file)
        loop = self._loop
        notes = checkpoints.read(held, file)
        if loop is not None:
            loop.check_same(notes.loop)
        callbacks = self.callbacks if loop is None else loop.callbacks
        pairs = zip(callbacks, notes.callbacks, strict=False)
        known = [(each, kept) for each, kept in pairs if kept.name == type(each).__name__]
        generator = None if loop is None else loop.generator
        with checkpoints.undone([each for each, _ in known], self._own, generator, file):
            for each, kept in known:
                each.restore(kept.state, kept.arrays)
            for name, part in self._own.items():
                if name in notes.own:
                    part.restore(notes.own[name])
            if loop is not None:
                loop.restore(notes.loop, notes.own)
                if notes.random is not None and loop.foreign:
                    randomness.restore(notes.random, loop.generator)
            # The core has looked at all of it.
            self._core.take_over(held)
        self.model._relearn(notes.learned)
        self.history.rows[:] = notes.history
        self._note_threads()
        self.stopping = notes.stopping
        self._done = notes.done
        for callback in callbacks:
            if not any(callback is each for each, _ in known):
                _log.warning("%s has no state in the checkpoint %s", callback, path)
        for part in self._own.values():
            if part.forgets:
                _log.warning("what `%s` had learned is not in the checkpoint %s: give it `state_dict` and "
                             "`load_state_dict`", part, path)  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        """What a checkpoint would have, as bytes, and the callbacks themselves."""
        kept = {**self._core.settings, "observe": self.observe, "threads": self.threads}
        ours = {"_core": None, "_loop": None, "settings": kept, "checkpoint": self._core.to_bytes("", [])}
        return {**vars(self), **ours}

    def __setstate__(self, state: dict[str, Any]) -> None:
        kept = state.pop("settings")
        checkpoint = state.pop("checkpoint")
        vars(self).update({"threads": "auto", "_own": {}, "ensemble": None} | state)
        self._core = self._made(kept)
        self._core.take_over(self._core.read(checkpoint))

    def _made(self, said: dict[str, Any]) -> _core.Trainer:
        """The core's trainer, with what of it is the caller's own code."""
        weighting = self._own.get("weighting")
        weigh = None if weighting is None else weighting.weigh
        return _core.Trainer(self.model._core, said, weigh, self._own.get("optimizer"))

    def __copy__(self) -> Trainer:
        # A shallow copy would train the same model.
        return copy.deepcopy(self)

    def _read(
        self, data: Any, validation: Any, how: dict[str, Any]
    ) -> tuple[Rows | Stream | Mixed, Rows | Stream | Mixed | None]:
        """Training and validation data, read, with targets in the scales that the first say."""
        train, held_out = self._validation(data, validation, how)
        self.model.reader.scales.learn(train)
        self.model.reader.scales.apply_all(train)
        self.model.reader.scales.apply_all(held_out)
        self.model._learn_edges(train)
        return train, held_out

    def _validation(
        self, data: Any, validation: Any, how: dict[str, Any]
    ) -> tuple[Rows | Stream | Mixed, Rows | Stream | Mixed | None]:
        """Training and validation data, read."""
        read = self.model.reader.read
        of_other = {"batch_size": how["batch_size"], "weights": how["weights"], "inherit": True}
        train = read(data, "data", learn=True, **how)
        for rows in in_memory(train) or ():
            if doubts := scoring.doubts(self.model, rows):
                raise ValueError(doubts[0])
        if validation is None:
            return train, None
        if isinstance(validation, int | float) and not isinstance(validation, bool):
            if not 0 < validation < 1:
                raise ValueError(f"`validation` should be data, or a fraction between 0 and 1; got {validation!r}")
            validation = Split(validation)
        if not isinstance(validation, Split):
            # Batches from outside have no names yet: then those of the validation data are what both are read by.
            other = read(validation, "validation", learn=in_memory(train) is None, **of_other)
            scoring.check(self.model, other)
            return train, other
        columns = {task.name: task.columns for task in self.model.tasks}
        if not isinstance(train, Rows):
            first, second = divide(data, validation, columns, self.seed)
            return read(first, "data", learn=True, **how), read(second, "validation", **of_other)
        held = rows_of(data, len(train), validation, columns, self.seed)
        held_out = train.take(held)
        if not labels.any_known(held_out, self.model.kinds):
            _log.warning("the %d rows held out for validation have no label for any task", len(held_out))
        return train.take(np.setdiff1d(np.arange(len(train)), held)), held_out

    def __repr__(self) -> str:
        said = self._core.settings
        shown = {key: said[key] for key in ("optimizer", "schedule", "weighting")}
        names = {key: value["name"] for key, value in shown.items()} | {key: str(own) for key, own in self._own.items()}
        names["schedule"] = said["optimizer"].get("schedule") or names["schedule"]
        parts = [f"{key}={name!r}" for key, name in names.items()]
        return f"Trainer({', '.join(parts)}, steps={self.steps}, epochs={self.epochs})"
