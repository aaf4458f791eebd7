"""Several models of the same tasks as one predictor."""

import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .. import metrics
from ..arguments.keywords import checked
from ..arguments.messages import none_of
from ..arguments.numbers import whole
from ..arguments.paths import folder_path
from ..data import Reader, Rows, in_memory, labels
from ..data.rows import Parts
from ..data.scale import Scale
from ..data.sources import Again
from ..data.target_scales import TargetScales
from ..data.task import Task
from ..process import interrupts
from ..results.results import Results
from . import calibrating, folders, labelled, predictions
from .averaged import Averaged
from .folders import Said
from .held_out import HeldOut
from .labelled import Labelled
from .mixing import Mean, is_mixture, read_shares, read_weights
from .model import MultiTaskModel


class Ensemble(HeldOut, Sequence[MultiTaskModel]):
    """Models as one predictor: of the same tasks, such as those of `pt.Trainer.fit(seeds=)`, or of some tasks each,
    such as those of `pt.recommend`. Each task's prediction is the mean over the models that have it, and so are
    temperatures, thresholds and intervals of the mean, for which data should be one data set.

    Arguments:
        models: at least one; tasks of one name should be of one kind.
        weights: `{task: [a weight for each model]}`, of at least 0 and not all 0, for tasks whose mean is weighted;
            only their ratios count.

    Attributes:
        tasks: all tasks, in the order in which models have them.
        kinds: what the labels of each are: "classes", "binary" or "values".
    """

    #: What a folder may hold, by what it is called there.
    _kept: ClassVar[dict[str, type["Ensemble"]]] = {}

    def __init_subclass__(cls, kept_as: str | None = None) -> None:
        if kept_as is not None:
            Ensemble._kept[kept_as] = cls

    @checked
    def __init__(
        self, models: Sequence[MultiTaskModel], *, weights: Mapping[str, Sequence[float]] | None = None
    ) -> None:
        models = list(models)
        wrong = [each for each in models if not isinstance(each, MultiTaskModel)]
        if wrong or not models:
            raise TypeError(f"`models` should be a list of pt.MultiTaskModel; got {wrong[0] if wrong else models!r}")
        self._models = models
        found: dict[str, tuple[Task, object]] = {}
        for model in models:
            for task, kind in zip(model.tasks, model.kinds, strict=True):
                shape = str(getattr(task.loss, "name", "")), str(getattr(task.loss, "quantiles", ""))
                of = kind, task.classes, task.outputs, task.labels, shape if kind == "values" else None
                if found.setdefault(task.name, (task, of))[1] != of:
                    raise ValueError(f"`models`: task `{task.name}` should be the same in all; got {task!r} beside "
                                     f"{found[task.name][0]!r}")  # fmt: skip
        self.tasks = tuple(task for task, _ in found.values())
        self.kinds = _kinds(models, self.tasks)
        self._weights = read_weights(weights, models, list(found))
        self._readers = _readers(models)
        self._temperatures: dict[str, float] = {}
        self._thresholds: dict[str, float | list[float]] = {}
        #: Of tasks whose members were chosen by losses in a scale, that scale.
        self._scalings: dict[str, Scale | None] = {}

    @property
    def weights(self) -> dict[str, list[float]]:
        """What each model's prediction counts, by task; they add up to 1."""
        return {task.name: [weights.get(task.name, 0.0) for weights in self._weights] for task in self.tasks}

    @property
    def reader(self) -> Reader:
        """Reads the labels of all tasks, and features as the first model does."""
        return self._reader(0)

    def _reader(self, place: int) -> Reader:
        """Reads the labels of all tasks, and features as one of the models does."""
        one = self._models[place].reader
        reader = Reader(one.inputs, self.tasks, self.kinds)
        reader.names = one.names
        # Members may have scales of their own, and none is needed to read.
        reader.scales = TargetScales((), ())
        return reader

    @checked
    def predict(
        self, x: Any, *, spread: bool = False, quantiles: Sequence[float] | None = None, batch_size: int = 1024
    ) -> Any:
        """The mean of the models' predictions, shaped as `pt.MultiTaskModel.predict` shapes them: probabilities, or
        values in the units of the targets; of means with variances those of the mixture. Probabilities are those of
        `calibrate` where there was one.

        With `spread` also how far the models are apart, `(mean, spread)`: the standard deviation over them, of a sample
        (squares are divided by one less than there are models, where these count alike), in the same shapes. With
        `quantiles` those of the models' predictions stand behind, `(mean, quantiles)` or `(mean, spread, quantiles)`,
        each on a last axis of its own. Both say how sure the models are of the mean, and not how far from it a target
        may be.

        Of `batch_size` rows at a time, for which each model keeps room.

        Raises:
            ValueError, TypeError: features that do not fit the models' inputs; or a task of positions, of which there
                is no array.
        """
        shares = None if quantiles is None else read_shares(quantiles)
        means = self._plain(x, shares is not None, batch_size)
        parts = [{name: self._tempered(name, mean.mean) for name, mean in means.items()}]
        if spread:
            parts.append({name: mean.spread for name, mean in means.items()})
        if shares is not None:
            parts.append({name: mean.quantiles(shares) for name, mean in means.items()})
        return parts[0] if len(parts) == 1 else tuple(parts)

    def _predicted(self, each: Sequence[Rows], size: int) -> dict[str, np.ndarray]:
        """What is predicted for rows that each model has read for itself, `[rows, width]` by task."""
        means = self._means(each, False, lambda model, rows: _by_task(model, model._predicted(rows, False, size)))
        return {name: self._tempered(name, mean.mean) for name, mean in means.items()}

    def _plain(self, x: Any, keeps: bool, batch_size: int) -> dict[str, Mean]:
        """The means for features in any form, without temperatures.

        Raises:
            ValueError: a task of positions.
        """
        per = next((task for task in self.tasks if task.per is not None), None)
        if per is not None:
            raise ValueError(f"task `{per.name}`: an ensemble predicts for rows; got a task of {per.per}")
        return self._means(self._features(x), keeps, lambda model, rows: model.predict(rows, batch_size=batch_size))

    def _means(
        self, each: Sequence[Any], keeps: bool, predict: Callable[[MultiTaskModel, Any], Mapping[str, np.ndarray]]
    ) -> dict[str, Mean]:
        """What the models predict with what each is given, task by task; `keeps` where its quantiles are wanted."""
        means = {task.name: Mean(is_mixture(task), keeps) for task in self.tasks}
        for model, weights, rows in zip(self._models, self._weights, each, strict=True):
            for name, found in predict(model, rows).items() if any(weights.values()) else ():
                if weights[name]:
                    means[name].add(found, weights[name])
        return means

    def _tempered(self, name: str, mean: np.ndarray) -> np.ndarray:
        """A task's mean prediction at its temperature."""
        return calibrating.tempered(self._logits()[name], mean, self._temperatures.get(name))

    def _features(self, x: Any) -> list[Any]:
        """What each model is given; those that read alike are given what one of them read."""
        if isinstance(x, Iterator):
            # Features that can be read only once are read by the first; as a list, dicts of features would be records.
            batches = list(x)
            x = Again(lambda: batches, "x")
        read: dict[int, Parts] = {}
        for place in set(self._readers):
            read[place] = Parts(self._models[place]._each(x, lambda rows: rows))
        return [read[place] for place in self._readers]

    @checked
    def evaluate(self, data: Any, *, batch_size: int = 1024, weights: Any = None) -> Results:
        """The metrics of the mean prediction, and its loss: the log loss of classes and binary labels, and for values
        the loss of the task, in the scale in which it trains: of a search in that in which members were compared, and
        else, where models have scales of their own, in that of the first model that has a linear one (NaN where none
        has). Losses know no temperatures, as those of `pt.Trainer.evaluate`.
        `results["loss"]` is the losses' sum by the tasks' weights.

        Arguments:
            data: as for `pt.Trainer.fit`, in memory.
            batch_size: rows at a time.
            weights: of rows, as there; metrics leave rows of weight 0 out and count all others alike.

        Raises:
            ValueError, TypeError: what is wrong, what was expected and what came.
        """
        size = whole(batch_size, "`batch_size`")
        with interrupts.held():
            read = {place: _labelled(self._reader(place), data, weights, size) for place in set(self._readers)}
            names = [task.name for task in self.tasks]
            each = []
            for place, model in zip(self._readers, self._models, strict=True):
                each.append(read[place].of([names.index(task.name) for task in model.tasks]))
            known = [labels.any_known(rows, model.kinds) for rows, model in zip(each, self._models, strict=True)]
            for model, rows, there in zip(self._models, each, known, strict=True):
                # A task may lack labels as long as another has some.
                model._core.check(rows.core(), there or not any(known))
            return self._evaluated(each, size)

    def _evaluated(self, each: Sequence[Rows], size: int) -> Results:
        """Losses and metrics on rows that each model has read for itself."""
        tasks = {task.name: self._scored(task.name, each, size) for task in self.tasks}
        losses = [task.weight * tasks[task.name]["loss"] for task in self.tasks]
        known = [loss for loss in losses if loss == loss]
        return Results(tasks, sum(known) if known else float("nan"))

    def _scored(self, name: str, each: Sequence[Rows], size: int) -> dict[str, float]:
        """The loss and the metrics of one task."""
        places = [[task.name for task in model.tasks].index(name) if weights.get(name) else None
                  for model, weights in zip(self._models, self._weights, strict=True)]  # fmt: skip
        scales = {at: self._models[at].tasks[place].scaling for at, place in enumerate(places) if place is not None}
        first = next(iter(scales))
        j = places[first]
        assert j is not None
        model, rows = self._models[first], each[first]
        task, kind = copy.copy(model.tasks[j]), model.kinds[j]
        linear = [scale for scale in scales.values() if scale is None or scale.linear]
        comparable = True
        if name in self._scalings:
            task.scaling = self._scalings[name]
        elif any(scale != task.scaling for scale in scales.values()):
            comparable = bool(linear)
            task.scaling = linear[0] if linear else None
        judged = Averaged(task, kind, rows, j)
        mean, points = Mean(is_mixture(task)), Mean()
        for at, place in enumerate(places):
            if place is not None:
                one = self._models[at]
                outputs = one._core.predict(each[at].core(), False, size)[place]
                if comparable:
                    points.add(judged.points(outputs, scales[at]), self._weights[at][name])
                if name in one.temperatures:
                    predicted = one._predicted(each[at], False, size)[place]
                else:
                    predicted = predictions.linked(one.tasks[place], outputs)
                mean.add(predicted, self._weights[at][name])
                interrupts.look()
        found = {"loss": judged.loss(points.mean) if comparable else float("nan")}
        predicted = predictions.points(task, self._tempered(name, mean.mean))
        weights = rows.weights[j] if len(rows.weights) else None
        targets = labels.unified(rows.targets[j], rows.masks[j] if len(rows.masks) else None, kind, weights)
        for metric in model.metrics[j]:
            sums = metrics.Sums(metric, kind, predicted.shape[1])
            if targets is not None:
                sums.add(predicted, targets)
            found[metric.name] = sums.value()
        return found

    def classes(
        self, predicted: Mapping[str, Any], *, threshold: float | Mapping[str, Any] | None = None
    ) -> dict[str, np.ndarray]:
        """Decisions from what `predict` gave; see `pt.MultiTaskModel.classes`. What models have kept for themselves
        does not count: where no threshold is said it is the one that this ensemble's `thresholds` kept, or 0.5.
        """
        found: dict[str, np.ndarray] = {}
        rest = dict(predicted)
        for model in self._models:
            ours = {task.name: rest.pop(task.name) for task in model.tasks if task.name in rest}
            at = threshold
            if threshold is None or isinstance(threshold, Mapping):
                # What a model has kept for itself is not for the mean.
                at = {name: self._thresholds.get(name, 0.5) for name in ours} | {
                    name: said for name, said in (threshold or {}).items() if name in ours
                }
            found |= model.classes(ours, threshold=at)
        if rest:
            raise ValueError(
                f"unknown task {none_of(next(iter(rest)), [task.name for task in self.tasks], 'there are')}"
            )
        return found

    def _logits(self) -> dict[str, str]:
        # A mean of ordered classes is one of classes.
        return {task.name: kind for task, kind in zip(self.tasks, self.kinds, strict=True)}

    def _learns_logarithms(self, task: str) -> bool:
        """Whether models that count half or more learn the logarithms of a task's numbers."""
        pairs = zip(self._models, self.weights[task], strict=True)
        return sum(weight for model, weight in pairs if model._learns_logarithms(task)) >= 0.5

    def _labelled(self, data: Any, weights: Any, batch_size: int, raw: bool = False) -> dict[str, Labelled]:
        """What is predicted for one data set in any form, or the logits of the plain mean, beside its labels."""
        size = whole(batch_size, "`batch_size`")
        data, parts = labelled.read(self.reader, data, weights, size)
        kinds = self._logits()
        predicted: Any = (
            self.predict(data, batch_size=size)
            if not raw
            else {
                name: mean.mean if kinds[name] == "values" else calibrating.logits(kinds[name], mean.mean)
                for name, mean in self._plain(data, False, size).items()
            }
        )
        each = [predicted[task.name].reshape(len(predicted[task.name]), -1) for task in self.tasks]
        ends = np.cumsum([len(rows) for rows in parts])
        if any(len(outputs) != sum(map(len, parts)) for outputs in each):
            raise TypeError("`data` should be (x, {task: targets}), a frame, a Dataset or batches")
        split = zip(*(np.split(outputs, ends[:-1]) for outputs in each), strict=True)
        return labelled.gathered(zip(parts, split, strict=True), self.tasks, self.kinds)

    def save(self, folder: str | PathLike[str]) -> None:
        """Writes each model into a folder, which may be there already but has no other models in it.

        Raises:
            OSError: what the operating system says.
            FileExistsError: the folder has other models.
        """
        said = Said(self._weights, self._temperatures, self._thresholds, self._scalings, self._about())
        folders.write(Path(folder_path(folder, "`folder`")), self._models, said)

    @classmethod
    def load(cls, folder: str | PathLike[str], **given: Any) -> "Ensemble":
        """The ensemble of a folder that `save` wrote; what `pt.MultiTaskModel.load` takes beside goes to each model.

        Raises:
            OSError: a file cannot be read, or there is none.
            ValueError: one is no model, or the weights are not those of the models.
        """
        models, said = folders.read(Path(folder_path(folder, "`folder`")), given)
        names = {name for each in said.weights or () for name in each}
        weights = {name: [each.get(name, 0.0) for each in said.weights or ()] for name in sorted(names)}
        try:
            about = {} if said.about is None else said.about
            kind = Ensemble if said.about is None else Ensemble._kept[about["kind"]]
            found = kind._restored(models, weights or None, about)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{os.fspath(folder)} is not what `save` wrote: {error!r}") from None
        found._temperatures, found._thresholds, found._scalings = said.temperatures, said.thresholds, said.scalings
        return found

    def _about(self) -> dict[str, Any] | None:
        """What else a folder should say of it, as JSON, with the `kind` of ensemble that reads it."""
        return None

    @classmethod
    def _restored(
        cls, models: Sequence[MultiTaskModel], weights: Mapping[str, Sequence[float]] | None, about: Mapping[str, Any]
    ) -> "Ensemble":
        """One of models and what a folder says."""
        return cls(models, weights=weights)

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "_tasks" in state:  # of an earlier version
            state = {**state, "tasks": state["_tasks"], "_temperatures": {}, "_thresholds": {}}
            state["kinds"] = _kinds(state["_models"], state.pop("_tasks"))
        vars(self).update({"_scalings": {}, **state})

    def __getitem__(self, at: Any) -> Any:
        if not isinstance(at, slice):
            return self._models[at]
        models, weights = self._models[at], self._weights[at]
        named = {name for each in weights for name, weight in each.items() if weight}
        there = {task.name for model in models for task in model.tasks}
        if lost := there - named:
            raise ValueError(f"task `{min(lost)}` has no model among those; take them by number")
        found = Ensemble(models, weights={name: [each.get(name, 0.0) for each in weights] for name in named})
        found._scalings = {name: scale for name, scale in self._scalings.items() if name in named}
        return found

    def __len__(self) -> int:
        return len(self._models)

    def __iter__(self) -> Iterator[MultiTaskModel]:
        return iter(self._models)

    def __repr__(self) -> str:
        return f"Ensemble of {len(self)} models of {', '.join(task.name for task in self.tasks)}"


def _labelled(reader: Reader, data: Any, weights: Any, size: int) -> Rows:
    """Data in memory as rows with their targets."""
    sets = in_memory(reader.read(data, "data", weights=weights, batch_size=size))
    if sets is None:
        raise ValueError("`data` should be in memory, since several models read it; got batches")
    kinds = [(kind, task.outputs) for task, kind in zip(reader.tasks, reader.kinds, strict=True)]
    return sets[0] if len(sets) == 1 else labels.joined(sets, kinds)


def _kinds(models: Sequence[MultiTaskModel], tasks: Sequence[Task]) -> list[str]:
    """What the labels of each task are."""
    found = {task.name: kind for model in models for task, kind in zip(model.tasks, model.kinds, strict=True)}
    return [found[task.name] for task in tasks]


def _by_task(model: MultiTaskModel, outputs: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    return {task.name: each for task, each in zip(model.tasks, outputs, strict=True)}


def _readers(models: Sequence[MultiTaskModel]) -> list[int]:
    """For each model the first one that reads features as it does."""
    found: list[int] = []
    for model in models:
        alike = (place for place in dict.fromkeys(found) if _read_alike(models[place], model))
        found.append(next(alike, len(found)))
    return found


def _read_alike(one: MultiTaskModel, other: MultiTaskModel) -> bool:
    names = one.reader.names.describe() == other.reader.names.describe()
    return names and one.inputs.reads_like(other.inputs)
