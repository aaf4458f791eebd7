"""Several models of the same tasks as one predictor."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments.keywords import checked
from ..arguments.messages import none_of
from ..arguments.numbers import whole
from ..data import Reader
from ..data.task import Task
from ..results.thresholds import Thresholds
from . import deciding, labelled
from .intervals import PredictionIntervals
from .labelled import Labelled
from .model import MultiTaskModel
from .thresholds import Own

_FILE = "{:03d}.safetensors"


class Ensemble(Sequence[MultiTaskModel]):
    """Models as one predictor: of the same tasks, such as those of `pt.Trainer.fit(seeds=)`, or of some tasks each,
    such as those of `pt.recommend`. Each task's prediction is the mean over the models that have it.

    Arguments:
        models: at least one; tasks of one name should be of one kind.
    """

    @checked
    def __init__(self, models: Sequence[MultiTaskModel]) -> None:
        models = list(models)
        wrong = [each for each in models if not isinstance(each, MultiTaskModel)]
        if wrong or not models:
            raise TypeError(f"`models` should be a list of pt.MultiTaskModel; got {wrong[0] if wrong else models!r}")
        self._models = models
        found: dict[str, tuple[Task, object]] = {}
        for model in models:
            for task, kind in zip(model.tasks, model.kinds, strict=True):
                of = kind, task.classes, task.outputs, task.labels
                if found.setdefault(task.name, (task, of))[1] != of:
                    raise ValueError(f"`models`: task `{task.name}` should be the same in all; got {task!r} beside "
                                     f"{found[task.name][0]!r}")  # fmt: skip
        self._tasks = tuple(task for task, _ in found.values())

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks, in the order in which models have them."""
        return self._tasks

    @property
    def kinds(self) -> list[str]:
        """What the labels of each task are: "classes", "binary" or "values"."""
        pairs = (pair for model in self._models for pair in zip(model.tasks, model.kinds, strict=True))
        found = {task.name: kind for task, kind in pairs}
        return [found[task.name] for task in self.tasks]

    @property
    def reader(self) -> Reader:
        """Reads the labels of all tasks, and features as the first model does."""
        first = self._models[0].reader
        reader = Reader(first.inputs, self.tasks, self.kinds)
        reader.names = first.names
        return reader

    @checked
    def predict(
        self, x: Any, *, spread: bool = False, batch_size: int = 4096
    ) -> "dict[str, Any] | tuple[dict[str, Any], dict[str, Any]]":
        """The mean of the models' predictions, shaped as `pt.MultiTaskModel.predict` shapes them: probabilities, or
        values in the units of the targets. With `spread` also how far the models are apart, `(mean, spread)`: the
        standard deviation over them, in the same shapes.

        Raises:
            ValueError, TypeError: features that do not fit the models' inputs; or a task of positions, of which there
                is no array.
        """
        per = next((task for task in self.tasks if task.per is not None), None)
        if per is not None:
            raise ValueError(f"task `{per.name}`: an ensemble predicts for rows; got a task of {per.per}")
        mean: dict[str, np.ndarray] = {}
        squares: dict[str, np.ndarray] = {}
        seen = Counter[str]()
        # Features that can be read only once are read by the first.
        rows = x if len(self._models) == 1 else _again(x)
        for model in self._models:
            for name, found in model.predict(rows, batch_size=batch_size).items():
                values = found.astype(np.float64)
                before = mean.get(name, np.zeros_like(values))
                seen[name] += 1
                mean[name] = before + (values - before) / seen[name]
                squares[name] = squares.get(name, np.zeros_like(values)) + (values - before) * (values - mean[name])
        means = {name: values.astype(np.float32) for name, values in mean.items()}
        if not spread:
            return means
        spreads = {name: np.sqrt(values / max(seen[name] - 1, 1)) for name, values in squares.items()}
        return means, {name: values.astype(np.float32) for name, values in spreads.items()}

    def classes(
        self, predicted: Mapping[str, Any], *, threshold: float | Mapping[str, Any] = 0.5
    ) -> dict[str, np.ndarray]:
        """Decisions from what `predict` gave; see `pt.MultiTaskModel.classes`. What models have kept for themselves
        does not count.
        """
        found: dict[str, np.ndarray] = {}
        rest = dict(predicted)
        for model in self._models:
            ours = {task.name: rest.pop(task.name) for task in model.tasks if task.name in rest}
            at = threshold
            if isinstance(threshold, Mapping):
                # What a model has kept for itself is not for the mean.
                at = {name: threshold.get(name, 0.5) for name in ours}
            found |= model.classes(ours, threshold=at)
        if rest:
            raise ValueError(
                f"unknown task {none_of(next(iter(rest)), [task.name for task in self.tasks], 'there are')}"
            )
        return found

    @checked
    def thresholds(
        self,
        data: Any,
        metric: str | Own = "f1",
        *,
        tasks: Sequence[str] | str | None = None,
        weights: Any = None,
        batch_size: int = 4096,
    ) -> Thresholds:
        """The best thresholds of the mean predictions, for `classes`; see `pt.MultiTaskModel.thresholds`. Data should
        be one data set.
        """
        return deciding.thresholds(self, data, metric, tasks, weights, batch_size)

    @checked
    def intervals(
        self, data: Any, *, tasks: Sequence[str] | str | None = None, weights: Any = None, batch_size: int = 4096
    ) -> PredictionIntervals:
        """Intervals around the mean predictions; see `pt.MultiTaskModel.intervals`. Data should be one data set."""
        return deciding.intervals(self, data, tasks, weights, batch_size)

    def _labelled(self, data: Any, weights: Any, batch_size: int) -> dict[str, Labelled]:
        """What is predicted for one data set in any form, beside its labels."""
        size = whole(batch_size, "`batch_size`")
        data, parts = labelled.read(self.reader, data, weights, size)
        predicted: Any = self.predict(data, batch_size=size)
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
        path = Path(fspath(folder))
        ours = [_FILE.format(at) for at in range(len(self._models))]
        there = sorted(each.name for each in path.glob("*.safetensors")) if path.is_dir() else []
        if other := [name for name in there if name not in ours]:
            raise FileExistsError(f"{os.fspath(path)} has other models, such as {other[0]}: choose an empty folder")
        path.mkdir(parents=True, exist_ok=True)
        for name, model in zip(ours, self._models, strict=True):
            model.save(path / name)

    @classmethod
    def load(cls, folder: str | PathLike[str], **given: Any) -> "Ensemble":
        """The ensemble of a folder that `save` wrote; what `pt.MultiTaskModel.load` takes beside goes to each model.

        Raises:
            OSError: a file cannot be read, or there is none.
            ValueError: one is no model.
        """
        files = sorted(Path(fspath(folder)).glob("*.safetensors"))
        if not files:
            raise FileNotFoundError(f"{os.fspath(folder)} has no model file")
        return cls([MultiTaskModel.load(file, **given) for file in files])

    def __getitem__(self, at: Any) -> Any:
        return Ensemble(self._models[at]) if isinstance(at, slice) else self._models[at]

    def __len__(self) -> int:
        return len(self._models)

    def __iter__(self) -> Iterator[MultiTaskModel]:
        return iter(self._models)

    def __repr__(self) -> str:
        return f"Ensemble of {len(self)} models of {', '.join(task.name for task in self.tasks)}"


def _again(x: Any) -> Any:
    """The same, to be read several times."""
    return list(x) if isinstance(x, Iterator) else x
