"""Folders of ensembles: a file for each model, and one for what is said of all."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..arguments.messages import none_of
from ..data.scale import Scale
from . import calibrating, deciding
from .model import MultiTaskModel

_FILE, _FILES = "{:03d}.safetensors", re.compile(r"\d{3,}\.safetensors")
_SAID = "ensemble.json"


@dataclass
class Said:
    """What is said of all models.

    Attributes:
        weights: of each model in the order of the others, by task; none in folders of early versions.
        temperatures, thresholds: of the mean, by task.
        scalings: in which members were compared, by task.
        about: what else an ensemble that was chosen knows of itself, with its `kind`; none of another.
    """

    weights: Sequence[Mapping[str, float]] | None = None
    temperatures: dict[str, float] = field(default_factory=dict)
    thresholds: dict[str, float | list[float]] = field(default_factory=dict)
    scalings: dict[str, Scale | None] = field(default_factory=dict)
    about: dict[str, Any] | None = None


def write(path: Path, models: Sequence[MultiTaskModel], said: Said) -> None:
    """Writes each model, and then what is said of them; before that it says that the folder is not complete.

    Raises:
        OSError: what the operating system says.
        FileExistsError: the folder has other models.
    """
    ours = [_FILE.format(at) for at in range(len(models))]
    there = sorted(each.name for each in path.glob("*.safetensors")) if path.is_dir() else []
    if other := [name for name in there if name not in ours]:
        raise FileExistsError(f"{os.fspath(path)} has other models, such as {other[0]}: choose an empty folder")
    known = {
        "weights": said.weights,
        "temperatures": said.temperatures,
        "thresholds": said.thresholds,
        "scales": {name: scale and scale.describe() for name, scale in said.scalings.items()},
        **({} if said.about is None else {"about": said.about}),
    }
    whole = json.dumps(known)
    path.mkdir(parents=True, exist_ok=True)
    # What a run before left says nothing of these models.
    _say(path, json.dumps({"unfinished": True}))
    for name, model in zip(ours, models, strict=True):
        model.save(path / name)
    _say(path, whole)


def _say(path: Path, text: str) -> None:
    unfinished = path / f"{_SAID}.partial"
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path / _SAID)


def remove(path: Path) -> None:
    """Removes what `write` wrote, and the folder if nothing else is in it."""
    for file in [*_files(path), path / _SAID]:
        file.unlink(missing_ok=True)
    if path.is_dir() and not any(path.iterdir()):
        path.rmdir()


def read(path: Path, given: Mapping[str, Any]) -> tuple[list[MultiTaskModel], Said]:
    """The models, each with what is given for its tasks, and what is said of them.

    Raises:
        OSError: a file cannot be read, or there is none.
        ValueError: one is no model, what is said is not of the models, or something is given for a task that none has.
    """
    if path.is_file():
        raise NotADirectoryError(f"{os.fspath(path)} is a file: pt.MultiTaskModel.load opens those of models")
    files = _files(path)
    if not files:
        raise FileNotFoundError(f"{os.fspath(path)} has no model files of an ensemble, such as {_FILE.format(0)}")
    models = _models(files, given)
    return models, _said(path / _SAID, models)


def _files(path: Path) -> list[Path]:
    """The files of models, in their order."""
    there = path.iterdir() if path.is_dir() else ()
    return sorted((each for each in there if _FILES.fullmatch(each.name)), key=lambda each: int(each.stem))


def _models(files: Sequence[Path], given: Mapping[str, Any]) -> list[MultiTaskModel]:
    by_task = {argument: each for argument, each in given.items() if isinstance(each, Mapping)}
    if not any(by_task.values()):
        return [MultiTaskModel.load(file, **given) for file in files]
    names = [[task.name for task in MultiTaskModel.load(file).tasks] for file in files]
    every = list(dict.fromkeys(name for each in names for name in each))
    for argument, each in by_task.items():
        if wrong := [name for name in each if name not in every]:
            raise ValueError(f"`{argument}`: unknown task {none_of(wrong[0], every, 'the models have')}")
    models = []
    for file, ours in zip(files, names, strict=True):
        some = {argument: {name: each[name] for name in ours if name in each} for argument, each in by_task.items()}
        models.append(MultiTaskModel.load(file, **{**given, **some}))
    return models


def _said(file: Path, models: Sequence[MultiTaskModel]) -> Said:
    if not file.exists():
        return Said()
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        if "unfinished" in said:
            raise ValueError("`save` did not end")
        each = said["weights"]
        if len(each) != len(models):
            raise ValueError(f"it has weights of {len(each)} models, and there are {len(models)}")
        weights = [{name: float(weight) for name, weight in of.items()} for of in each]
        tasks = [task for model in models for task in model.tasks]
        kinds = [kind for model in models for kind in model.kinds]
        temperatures = calibrating.read(said.get("temperatures", {}), tasks, kinds)
        thresholds = deciding.read(said.get("thresholds", {}), tasks, kinds)
        scalings = {name: scale and Scale(**scale) for name, scale in said.get("scales", {}).items()}
        return Said(weights, temperatures, thresholds, scalings, said.get("about"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{os.fspath(file)} is not what `save` wrote: {error}") from None
