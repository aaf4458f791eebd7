"""What a picture of a history shows: which columns stand in which panel, as which lines."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..plots import pictures
from ..plots.pictures import Along, Line
from . import observation
from .columns import none_of

#: A history's columns by name, a value an epoch.
Columns = Mapping[str, list[Any]]
#: The ends of columns that are means, a value an epoch.
Bands = Mapping[str, tuple[np.ndarray, np.ndarray]]

_CALLED = "History.plot"
_NOT_DRAWN = ("epoch", "step", "lr", "seconds")
_VALIDATION = "validation/"


def losses_and_metrics(history: Columns, columns: Sequence[str] | None = None, bands: Bands | None = None) -> Any:
    """One panel for the losses and one for each metric; training dashed, validation solid; bands around means."""
    panels: dict[str, list[str]] = {}
    for name in _chosen(list(history), columns):
        panels.setdefault(observation.split(name)[0], []).append(name)
    axes = pictures.panels(max(len(panels), 1), _CALLED)
    for axis, (metric, names) in zip(axes, panels.items(), strict=False):
        pictures.lines(axis, _along(history), _pairs(history, names, bands or {}), metric)
    return axes


def weights(history: Columns) -> Any:
    """Each task's weight over the epochs."""
    tasks = observation.weighted(history)
    if not tasks:
        raise ValueError('the history has no weights: pass observe="weights" to pt.Trainer')
    axes = pictures.panels(1, _CALLED)
    colors = pictures.colors(len(tasks))
    each = [Line(task, history[observation.weight(task)], color) for task, color in zip(tasks, colors, strict=True)]
    pictures.lines(axes[0], _along(history), each, "weight")
    return axes


def conflict(history: Columns) -> Any:
    """The share of conflicting pairs over the epochs, and the cosines of the last one."""
    tasks = observation.compared(history)
    if not tasks:
        raise ValueError('the history has no gradients: pass observe="gradients" to pt.Trainer')
    share, cosines = axes = pictures.panels(2, _CALLED)
    along = _along(history)
    line = Line("all pairs", history[observation.CONFLICT], "C0")
    pictures.lines(share, along, [line], "share of conflicting pairs")
    share.set_ylim(-0.02, 1.02)
    share.get_legend().remove()
    title = f"cosines of gradients, {along.called} {along.values[-1]}"
    pictures.heat_map(cosines, _cosines(history, tasks), tasks, tasks, title)
    return axes


#: What `History.plot` draws by another name than that of a column.
PICTURES: dict[str, Callable[[Columns], Any]] = {"weights": weights, "conflict": conflict}


def _chosen(have: list[str], columns: Sequence[str] | None) -> list[str]:
    unknown = [name for name in columns or () if name not in have]
    if unknown:
        raise ValueError(f"`columns`: the history has no {none_of(unknown[0], have, 'it has')}")
    if columns:
        return [name for name in columns if name not in _NOT_DRAWN]
    return [name for name in have if name not in _NOT_DRAWN and not observation.is_observed(name)]


def _pairs(history: Columns, names: Sequence[str], bands: Bands) -> list[Line]:
    """Training and validation of a quantity in one colour."""
    quantities = list(dict.fromkeys(name.removeprefix(_VALIDATION) for name in names))
    each = []
    for name in names:
        quantity = name.removeprefix(_VALIDATION)
        beside_validation = name == quantity and _VALIDATION + quantity in names
        label = observation.split(quantity)[1] + (" (training)" if beside_validation else "")
        color = f"C{quantities.index(quantity) % 10}"
        each.append(Line(label, history[name], color, "--" if beside_validation else "-", bands.get(name)))
    return each


def _along(history: Columns) -> Along:
    """Epochs, or decisions in a loop of the caller's own."""
    for name in ("epoch", "step"):
        if name in history:
            return Along(name, history[name])
    return Along("epoch", list(range(1, max(map(len, history.values()), default=0) + 1)))


def _cosines(history: Columns, tasks: Sequence[str]) -> np.ndarray:
    matrix = np.eye(len(tasks))
    for i, one in enumerate(tasks):
        for j, other in enumerate(tasks[i + 1 :], i + 1):
            matrix[i, j] = matrix[j, i] = history[observation.cosine(one, other)][-1]
    return matrix
