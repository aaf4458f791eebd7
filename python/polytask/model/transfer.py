"""Parameters from one model to another: more tasks, fewer tasks, another model's encoder."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import _core
from ..arguments.messages import none_of
from ..data.task import Task
from . import custom_loss
from .own_modules import Modules


def paths(below: Sequence[Any]) -> list[str]:
    """Paths as the core takes them."""
    wrong = [path for path in below if not isinstance(path, str)]
    if wrong:
        raise TypeError(f'paths should be strings such as "encoder"; got {wrong[0]!r}')
    return list(below)


def without(tasks: Sequence[Task], name: str) -> list[Task]:
    """All tasks but one."""
    names = [task.name for task in tasks]
    if name not in names:
        raise ValueError(f"unknown task {none_of(name, names, 'the model has')}")
    if len(names) == 1:
        raise ValueError(f"a model needs at least one task; {name!r} is its last")
    return [task for task in tasks if task.name != name]


def rebuilt(
    core: _core.Model, features: Sequence[str], tasks: Sequence[Task], modules: Modules, **changes: Any
) -> _core.Model:
    """A fresh model of the same parts for these tasks, with the weights they have; class weights stay as they were
    resolved. With changes of its description: another seed, another scheme.
    """
    feature = next((c for task in tasks for c in task.columns if c in features), None)
    if feature is not None:
        raise ValueError(f"column `{feature}` is a feature of this model and cannot be a target")
    description = core.description
    known = {task["name"]: task for task in description["tasks"]}
    described = [{**(known.get(task.name) or task.describe()), "weight": task.weight} for task in tasks]
    heads = description.get("heads") or {}
    description.update(tasks=described, frozen=[], face=None, heads=None, **changes)
    kept = {task.name: heads[task.name] for task in tasks if task.name in heads}
    description["heads"] = kept | modules.take_heads(description, [task for task in tasks if task.name not in known])
    rebuilt = _core.Model(description, [custom_loss.wrap(task) for task in tasks], modules.at, core.max_parameters)
    modules.place(rebuilt, [path for path, *_ in core.own_modules()])
    return rebuilt


def copy(source: _core.Model, target: _core.Model) -> list[str]:
    """Copies what both have, and what of it is frozen; gives the paths that only the target has."""
    missing, _ = take_over(source, target, [])
    frozen = [path for path in source.frozen if path not in missing and path in _shapes(target)]
    if frozen:
        target.freeze(frozen, True)
    return missing


def start_embedding(core: _core.Model, positions: str, codes: np.ndarray, vectors: np.ndarray, freeze: bool) -> None:
    """Has embeddings of some codes, of the first column that positions have, start from vectors, `[codes, width]`, and
    the whole table stay as it is if frozen.
    """
    path = f"embedding.{positions}.0.weight"
    table = core.state(path)[path]
    table[codes] = vectors
    core.load_state({path: table}, False)
    if freeze:
        core.freeze([path], True)


class Start:
    """What of a model is not as it was when it was made, or is frozen: what others of its kind begin with.

    Arguments:
        source: the model.
        fresh: the same as it was made.
    """

    def __init__(self, source: _core.Model, fresh: _core.Model) -> None:
        began = fresh.state()
        state = source.state()
        self._changed = {name: value for name, value in state.items() if not np.array_equal(value, began[name])}
        self._frozen = source.frozen

    def give(self, target: _core.Model) -> None:
        """Has a model begin with it, as far as it fits."""
        shapes = _shapes(target)
        fitting = {name: value for name, value in self._changed.items() if shapes.get(name) == value.shape}
        target.load_state(fitting, False)
        if frozen := [name for name in self._frozen if name in shapes]:
            target.freeze(frozen, True)


def take_over(source: _core.Model, target: _core.Model, below: list[str]) -> tuple[list[str], list[str]]:
    """Copies what both have below these paths; gives the target's paths and the source's that found no match."""
    wanted = target.below(below, "start_from")
    ours = _shapes(target)
    state = source.state()
    theirs = {name: state[name] for name in source.below(below)}
    taken = {name: theirs[name] for name in wanted if name in theirs and ours[name] == theirs[name].shape}
    if not taken:
        some = ", ".join(f"`{name}` {list(ours[name])}" for name in wanted[:3])
        raise ValueError(f"the other model has nothing of the names and shapes that this one has: {some} ...")
    target.load_state(taken, False)
    return [name for name in wanted if name not in taken], [name for name in theirs if name not in taken]


def _shapes(core: _core.Model) -> dict[str, tuple[int, ...]]:
    return {name: tuple(shape) for name, shape, _ in core.names()}
