"""Pictures of a history, by matplotlib."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..components.component import listed, meant
from ..results import observation
from ..results.history import History
from ..results.inspection import Gates, Mix
from ..results.relation import Relation

_NOT_DRAWN = ("epoch", "lr", "seconds")
#: Tasks whose cosines are written into the heat map.
_READABLE = 12


def history(history: History, columns: Sequence[str] | None = None) -> Any:
    """One panel for the losses and one for each metric; training dashed, validation solid."""
    panels = _panels(_chosen(history, columns))
    axes = _axes(max(len(panels), 1))
    for axis, (metric, names) in zip(axes, panels.items(), strict=False):
        _draw(axis, history, metric, names)
    return axes


def weights(history: History) -> Any:
    """Each task's weight over the epochs."""
    tasks = observation.weighted(history.columns)
    if not tasks:
        raise ValueError('the history has no weights: pass observe="weights" to pt.Trainer')
    (axis,) = axes = _axes(1)
    _lines(axis, history, {task: observation.weight(task) for task in tasks}, "weight")
    return axes


def conflict(history: History) -> Any:
    """The share of conflicting pairs over the epochs, and the cosines of the last epoch."""
    tasks = observation.compared(history.columns)
    if not tasks:
        raise ValueError('the history has no gradients: pass observe="gradients" to pt.Trainer')
    share, cosines = axes = _axes(2)
    _lines(share, history, {"all pairs": observation.CONFLICT}, "share of conflicting pairs")
    share.set_ylim(-0.02, 1.02)
    share.get_legend().remove()
    _heat(cosines, _cosines(history, tasks), tasks)
    cosines.set_title(f"cosines of gradients, epoch {_epochs(history)[-1]}")
    return axes


def relation(relation: Relation) -> Any:
    """The correlations between tasks."""
    (axis,) = axes = _axes(1, "Relation")
    _heat(axis, relation.correlation, relation.tasks)
    axis.set_title("learned correlation of tasks")
    return axes


#: What `History.plot` draws by another name than that of a column.
PICTURES: dict[str, Callable[[History], Any]] = {"weights": weights, "conflict": conflict}


def inspection(parts: Sequence[Gates | Mix]) -> Any:
    """One panel each: the use of experts as stacked bars, mixes as heat maps."""
    axes = _axes(len(parts))
    for axis, part in zip(axes, parts, strict=True):
        axis.set_title(part.name)
        if isinstance(part, Gates):
            _bars(axis, part)
        else:
            _heat(axis, part.values, part.to, part.sources)
    return axes


def _bars(axis: Any, gates: Gates) -> None:
    import matplotlib

    use, names = gates.use, [name.split(": ")[-1] for name in gates.experts[0]]
    left = np.zeros(len(gates.owners))
    colors = matplotlib.colormaps["tab20" if len(names) <= 20 else "turbo"]
    for j, name in enumerate(names):
        color = colors(j) if len(names) <= 20 else colors(j / len(names))
        axis.barh(range(len(gates.owners)), use[:, j], left=left, color=color, label=name)
        left += use[:, j]
    axis.set_yticks(range(len(gates.owners)), gates.owners)
    axis.invert_yaxis()
    axis.set_xlabel("mean weight")
    if len(names) <= _READABLE:
        axis.legend(fontsize="x-small", ncols=2)


def _axes(count: int, whose: str = "History") -> Any:
    try:
        import matplotlib.pyplot as pyplot
    except ImportError:
        raise ImportError(f"{whose}.plot needs matplotlib: pip install 'polytask[plot]'") from None
    return pyplot.subplots(1, count, figsize=(4.5 * count, 3.2), squeeze=False, layout="constrained")[1][0]


def _chosen(history: History, columns: Sequence[str] | None) -> list[str]:
    have = history.columns
    unknown = [name for name in columns or () if name not in have]
    if unknown:
        raise ValueError(
            f"`columns`: the history has no {unknown[0]!r}; {meant(unknown[0], have)}it has {listed(have)}"
        )
    if columns:
        return [name for name in columns if name not in _NOT_DRAWN]
    return [name for name in have if name not in _NOT_DRAWN and not observation.is_observed(name)]


def _panels(columns: Sequence[str]) -> dict[str, list[str]]:
    panels: dict[str, list[str]] = {}
    for name in columns:
        panels.setdefault(observation.split(name)[0], []).append(name)
    return panels


def _draw(axis: Any, history: History, metric: str, names: Sequence[str]) -> None:
    epochs = _epochs(history)
    curves = list(dict.fromkeys(name.removeprefix("validation/") for name in names))
    for name in names:
        bare = name.removeprefix("validation/")
        validated = f"validation/{bare}" in names
        style = "-" if name != bare or not validated else "--"
        label = observation.split(bare)[1] + (" (training)" if style == "--" else "")
        values = np.array(history[name], dtype=float)
        marker = "o" if len(epochs) == 1 else None
        axis.plot(epochs, values, style, color=f"C{curves.index(bare) % 10}", label=label, marker=marker)
    _finish(axis, metric)


def _lines(axis: Any, history: History, columns: dict[str, str], title: str) -> None:
    """A line for each column, whose colours tell up to 40 tasks apart."""
    import matplotlib

    epochs = _epochs(history)
    few = len(columns) <= 10
    colors = [f"C{i}" if few else matplotlib.colormaps["turbo"](i / len(columns)) for i in range(len(columns))]
    for (label, column), color in zip(columns.items(), colors, strict=True):
        marker = "o" if len(epochs) == 1 else None
        axis.plot(epochs, np.array(history[column], dtype=float), color=color, label=label, marker=marker)
    _finish(axis, title)


def _finish(axis: Any, title: str) -> None:
    axis.set_xlabel("epoch")
    axis.set_title(title)
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small", ncols=1 + (len(axis.lines) - 1) // 10)


def _epochs(history: History) -> list[Any]:
    return history["epoch"] if "epoch" in history.columns else list(range(1, len(history) + 1))


def _cosines(history: History, tasks: Sequence[str]) -> np.ndarray:
    matrix = np.eye(len(tasks))
    for i, one in enumerate(tasks):
        for j, other in enumerate(tasks[i + 1 :], i + 1):
            matrix[i, j] = matrix[j, i] = history[observation.cosine(one, other)][-1]
    return matrix


def _heat(axis: Any, matrix: np.ndarray, tasks: Sequence[str], sources: Sequence[str] | None = None) -> None:
    sources = tasks if sources is None else sources
    image = axis.imshow(matrix, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
    axis.figure.colorbar(image, ax=axis)
    axis.set_xticks(range(len(sources)), sources, rotation=45, ha="right")
    axis.set_yticks(range(len(tasks)), tasks)
    if max(len(tasks), len(sources)) <= _READABLE:
        for (i, j), value in np.ndenumerate(matrix):
            color = "white" if abs(value) > 0.6 else "black"
            axis.text(j, i, f"{value:.2f}", ha="center", va="center", color=color, fontsize="small")
