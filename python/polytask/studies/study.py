"""What the networks of a study have in common: data that were read once, parts of a network, settings of a trainer."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..arguments.numbers import whole
from ..components.registry import make
from ..data import Mixed, Rows, Split, Stream, in_memory, labels
from ..data.inputs import Inputs
from ..data.task import Task
from ..model import scoring
from ..model.model import MultiTaskModel
from ..process import interrupts
from ..results.history import History
from ..results.results import Results
from ..training import seeds
from ..training.callback import Callback
from ..training.loop import Fit, Loop
from ..training.progress import Networks
from ..training.trainer import Trainer
from ..values import frames
from .tabular import of_each, scaled

#: The encoder of a study that is given tasks alone.
_HIDDEN = [128, 64]
#: The part of the rows that is held out where no validation data are given.
HELD_OUT = 0.25


@dataclass
class Network:
    """One network of a study.

    Attributes:
        tasks: the names of its tasks.
        seed: how many seeds after the study's it began from.
        trainer: its trainer, whose model it is.
    """

    tasks: tuple[str, ...]
    seed: int
    trainer: Trainer

    @property
    def model(self) -> MultiTaskModel:
        """The network itself."""
        return self.trainer.model

    @property
    def history(self) -> History:
        """Of its training."""
        return self.trainer.history


class Study:
    """Networks of some of the tasks, all of the same parts, on rows that were read once.

    Arguments:
        subject: a `pt.MultiTaskModel`, or the `pt.Trainer` of one whose settings all networks have, but for its
            weighting and regularizers; or tasks, for which an MLP is taken over the inputs that the data show, and
            whose regressions train in a scale of their own.
        data: as for `pt.Trainer.fit`, in memory.
        validation: data too, or a `pt.data.Split`, or the fraction of the rows to hold out.
        epochs, batch_size: of each network.
        settings: of the trainer, where the subject is none.

    Raises:
        TypeError, ValueError: what is wrong, what was expected and what came.
    """

    def __init__(
        self,
        subject: MultiTaskModel | Trainer | Sequence[Task] | Task,
        data: Any,
        validation: Any = HELD_OUT,
        *,
        epochs: int = 20,
        batch_size: int = 256,
        weights: Any = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        self.epochs = whole(epochs, "`epochs`")
        self.batch_size = whole(batch_size, "`batch_size`")
        self.trainer = _trainer(subject, data, settings or {}, columns_beside(weights, validation))
        self._parts: dict[bytes, Rows] = {}
        #: Whether a network says that a task may drown another.
        self._compared = False
        #: By embeddings of numbers.
        self._edges: dict[Any, np.ndarray | None] = {}
        model = self.trainer.model
        how = {"weights": weights, "batch_size": self.batch_size, "shuffle": True, "seed": self.trainer.seed}
        with model._attempt():
            model._follow_modules()
            train, held_out = self.trainer._read(data, validation, how)
            self.train = self._whole(train, "data")
            self.validation = None if held_out is None else self._whole(held_out, "validation")

    @property
    def model(self) -> MultiTaskModel:
        """The model of all tasks, as it was given."""
        return self.trainer.model

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of all tasks."""
        return tuple(task.name for task in self.model.tasks)

    def places(self, tasks: Iterable[str]) -> list[int]:
        """Where tasks stand among all."""
        names = list(self.tasks)
        return [names.index(name) for name in tasks]

    def fresh(self, tasks: Sequence[Task], seed: int = 0, **changes: Any) -> MultiTaskModel:
        """A model of some tasks, so many seeds after the study's; edges of bins and scales of targets are those of the
        training rows.
        """
        began = self.model._plain.description["seed"]
        model = self.model._fresh(tasks, **{"seed": began + seed, **changes})
        embed = model.inputs.embed
        if embed in self._edges:
            model._put_edges(self._edges[embed])
        model._learn_edges(self.train)
        self._edges[embed] = model._edges()
        ours = {task.name: task for task in self.model.tasks}
        others = [task for task in model.tasks if task.scale != ours[task.name].scale]
        for task in others:
            task.scaling = None
        if others:
            model.reader.scales.learn(self.train.of(self.places(task.name for task in model.tasks)))
        return model

    def network(
        self,
        tasks: Sequence[str] | None = None,
        seed: int = 0,
        *,
        metrics: bool = False,
        changes: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
        plain: bool = True,
    ) -> Network:
        """A fresh network of some tasks, or of all, that begins so many seeds after the study's model: equal seeds
        begin with equal encoders and go through the rows in the same order.

        Arguments:
            tasks: their names.
            seed: which one.
            metrics: whether metrics are computed beside losses.
            changes: of the model's description, such as another `sharing`.
            settings: of the core's trainer, such as another `weighting`.
            plain: whether weights are equal and there are no regularizers where the settings say nothing of them; else
                they are the trainer's.
        """
        model = self.model
        chosen = [task for task in model.tasks if tasks is None or task.name in tasks]
        found = self.fresh(chosen, seed, **(changes or {}))
        if not metrics:
            found.metrics = [[] for _ in chosen]
        plainly: dict[str, Any] = {"weighting": {"name": "equal"}, "regularizers": []} if plain else {}
        said = {**plainly, **(settings or {})}
        trainer = self.trainer._twin(found, self.trainer.seed + seed, **said)
        return Network(tuple(task.name for task in chosen), seed, trainer)

    def part(self, network: Network) -> Study:
        """A study of a network's tasks on the same rows, whose networks have its parts and settings."""
        found = copy.copy(self)
        found.train = self.rows_of(network, self.train)
        found.validation = None if self.validation is None else self.rows_of(network, self.validation)
        found.trainer = network.trainer
        found._parts, found._edges = {}, {}
        return found

    def run(
        self,
        networks: Sequence[Network],
        *,
        progress: bool = False,
        callbacks: Callable[[Network], Sequence[Callback]] = lambda network: [],
        rows: Callable[[Network], np.ndarray | None] = lambda network: None,
    ) -> Iterator[tuple[int, Network]]:
        """Trains networks, side by side where that is possible; gives each with its place when it is done.

        Arguments:
            networks: fresh ones.
            progress: whether a bar is shown.
            callbacks: of each.
            rows: the training rows that each learns from, by number; none for all.

        Raises:
            KeyboardInterrupt: Ctrl-C, once all have stopped.
        """
        if not networks:
            return
        loops = [self.loop(network, callbacks(network), rows(network)) for network in networks]
        calls = [partial(each.trainer._go, loop, False, None) for each, loop in zip(networks, loops, strict=True)]
        bar = Networks(progress, len(calls))
        try:
            for place in self.side_by_side(loops, calls):
                bar.next()
                yield place, networks[place]
        finally:
            bar.close()

    def side_by_side(self, loops: Sequence[Loop], calls: Sequence[Callable[[], object]]) -> Iterator[int]:
        """Calls that train loops, side by side where that is possible; gives the place of each when it is done.

        Raises:
            KeyboardInterrupt: Ctrl-C, once all have stopped.
        """
        return seeds.side_by_side(loops, calls, self.trainer.threads)

    def rows_of(self, network: Network, rows: Rows) -> Rows:
        """Rows of the study with the targets of a network's tasks, in its scales."""
        found = rows.of(self.places(network.tasks))
        ours = {task.name: task.scaling for task in self.model.tasks}
        if any(task.scaling != ours[task.name] for task in network.model.tasks):
            found.scale(())
            network.model.reader.scales.apply(found)
        return found

    def evaluate(self, network: Network, rows: Rows) -> Results:
        """A network's losses and metrics on rows of the study."""
        return scoring.evaluate(network.model, self.rows_of(network, rows), 4096, network.trainer._core)

    def held_out(self) -> Rows:
        """The rows on which networks are compared.

        Raises:
            ValueError: there are none.
        """
        if self.validation is None:
            raise ValueError("`validation` should be data, a pt.data.Split or the fraction of the rows to hold out; "
                             "got None")  # fmt: skip
        return self.validation

    def loop(
        self,
        network: Network,
        callbacks: Sequence[Callback] = (),
        some: np.ndarray | None = None,
        batch_size: int | None = None,
        validated: bool = True,
    ) -> Loop:
        """What trains a network.

        Arguments:
            network: a fresh one.
            callbacks: of its training.
            some: the training rows that it learns from, by number; none for all.
            batch_size: the study's, if none is given.
            validated: whether it is evaluated on the held-out rows after each epoch.
        """
        train = self.rows_of(network, self.train if some is None else self._some(some))
        held_out = None if self.validation is None or not validated else self.rows_of(network, self.validation)
        trainer = network.trainer
        size = self.batch_size if batch_size is None else batch_size
        compares = len(network.tasks) > 1 and trainer._core.constant_weights is not None and not self._compared
        self._compared |= compares
        own = bool(trainer._own)
        fit = Fit(train, held_out, self.epochs, size, True, False, callbacks, own, compares=compares)
        return Loop(trainer, trainer._core, fit, trainer._end_epoch)

    def _some(self, places: np.ndarray) -> Rows:
        """Some of the training rows; of equal places the same object, whose arrays are there once."""
        key = places.tobytes()
        if key not in self._parts:
            self._parts = {**self._parts, key: self.train.take(places)}
        return self._parts[key]

    def _whole(self, data: Rows | Stream | Mixed, argument: str) -> Rows:
        """What was read as rows of one data set."""
        sets = in_memory(data)
        if sets is None:
            raise ValueError(f"`{argument}` should be in memory, since several networks learn from it; got batches")
        if len(sets) == 1:
            return sets[0]
        model = self.model
        kinds = [(kind, task.outputs) for task, kind in zip(model.tasks, model.kinds, strict=True)]
        rows = labels.joined(sets, kinds)
        model.reader.scales.apply_all(rows)
        return rows


@interrupts.held()
def _trainer(subject: Any, data: Any, settings: dict[str, Any], beside: Sequence[str]) -> Trainer:
    """A trainer of a model of all tasks, of which networks are made."""
    if isinstance(subject, Trainer):
        given = [name for name, value in settings.items() if value is not None]
        if given:
            raise TypeError(f"`{given[0]}` is the trainer's: give it to pt.Trainer")
        return subject
    if not isinstance(subject, MultiTaskModel):
        subject = model_of(subject, data, beside, make("encoder", {"name": "mlp", "hidden": _HIDDEN}))
    return Trainer(subject, **{name: value for name, value in settings.items() if value is not None})


def model_of(subject: Any, data: Any, beside: Sequence[str], encoder: Any) -> MultiTaskModel:
    """A model of tasks over the inputs that data show, whose regressions train in a scale of their own.

    Raises:
        TypeError: what is no list of tasks, or data that show no inputs.
    """
    given = [subject] if isinstance(subject, Task) else subject
    listed = isinstance(given, Iterable) and not isinstance(given, str)
    found: list[Any] = list(given) if listed else [given]
    if wrong := [each for each in found if not isinstance(each, Task)]:
        shown = f"{wrong[0]!r} in it" if listed else repr(subject)
        raise TypeError(f"a pt.MultiTaskModel, a pt.Trainer or a list of pt.Task was expected; got {shown}")
    tasks = [scaled(task) for task in found]
    return MultiTaskModel(_inputs(data, tasks, beside), tasks=tasks, encoder=encoder)


def columns_beside(weights: Any, validation: Any) -> list[str]:
    """Columns of a frame that are named as row weights, or as what rows are held out by, and so are no features."""
    named = list(weights.values()) if isinstance(weights, Mapping) else [weights]
    if isinstance(validation, Split):
        named += [validation.groups, validation.time]
    return [name for name in named if isinstance(name, str)]


def _inputs(data: Any, tasks: list[Task], beside: Sequence[str]) -> Inputs | int:
    """The inputs that data show: the columns of a frame that are no targets, or so many numbers a row."""
    features = data[0] if isinstance(data, tuple) and data else data
    frame = None if of_each(data, tasks) else frames.framed(features)
    if frame is not None and frames.is_frame(frame):
        columns = [*beside, *(column for task in tasks for column in task.columns)]
        return Inputs.from_frame(frame, exclude=[name for name in columns if name in list(frame.columns)])
    shape = getattr(features, "shape", None)
    if shape is None or len(shape) != 2:
        raise TypeError("give a pt.MultiTaskModel instead of tasks: only of a frame, or of (x, ...) with numbers x "
                        "[rows, features], are the inputs known")  # fmt: skip
    return int(np.shape(features)[1])
