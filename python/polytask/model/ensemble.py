"""Several models of the same tasks as one predictor."""

import os
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments.keywords import checked
from ..data.task import Task
from .model import MultiTaskModel

_FILE = "{:03d}.safetensors"


class Ensemble(Sequence[MultiTaskModel]):
    """Models of the same tasks, such as those of `pt.Trainer.fit(seeds=)`; it predicts the mean of what they predict.

    Arguments:
        models: at least one; all of the same tasks.
    """

    @checked
    def __init__(self, models: Sequence[MultiTaskModel]) -> None:
        models = list(models)
        wrong = [each for each in models if not isinstance(each, MultiTaskModel)]
        if wrong or not models:
            raise TypeError(f"`models` should be a list of pt.MultiTaskModel; got {wrong[0] if wrong else models!r}")
        names = [[task.name for task in model.tasks] for model in models]
        other = next((each for each in names if each != names[0]), None)
        if other is not None:
            raise ValueError(f"`models` should have the same tasks; got {names[0]} and {other}")
        self._models = models

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks."""
        return self._models[0].tasks

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
        # Features that can be read only once are read by the first.
        rows = x if len(self._models) == 1 else _again(x)
        for at, model in enumerate(self._models, 1):
            for name, found in model.predict(rows, batch_size=batch_size).items():
                values = found.astype(np.float64)
                before = mean.get(name, np.zeros_like(values))
                mean[name] = before + (values - before) / at
                squares[name] = squares.get(name, np.zeros_like(values)) + (values - before) * (values - mean[name])
        means = {name: values.astype(np.float32) for name, values in mean.items()}
        if not spread:
            return means
        freedom = max(len(self._models) - 1, 1)
        return means, {name: np.sqrt(values / freedom).astype(np.float32) for name, values in squares.items()}

    def classes(
        self, predicted: Mapping[str, Any], *, threshold: float | Mapping[str, float] = 0.5
    ) -> dict[str, np.ndarray]:
        """Decisions from what `predict` gave; see `pt.MultiTaskModel.classes`."""
        return self._models[0].classes(predicted, threshold=threshold)

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
