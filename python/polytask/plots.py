"""Pictures of a history, by matplotlib."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .component import listed
from .history import History

_NOT_DRAWN = ("epoch", "lr", "seconds")


def history(history: History, columns: Sequence[str] | None = None) -> Any:
    """One panel for the losses and one for each metric; training dashed, validation solid."""
    try:
        import matplotlib.pyplot as pyplot
    except ImportError:
        raise ImportError("History.plot needs matplotlib: pip install 'polytask[plot]'") from None
    panels = _panels(_chosen(history, columns))
    _, axes = pyplot.subplots(
        1, max(len(panels), 1), figsize=(4.5 * max(len(panels), 1), 3.2), squeeze=False, layout="constrained"
    )
    for axis, (metric, names) in zip(axes[0], panels.items(), strict=False):
        _draw(axis, history, metric, names)
    return axes[0]


def _chosen(history: History, columns: Sequence[str] | None) -> list[str]:
    have = history.columns
    unknown = [name for name in columns or () if name not in have]
    if unknown:
        raise ValueError(f"`columns`: the history has no {unknown[0]!r}; it has {listed(have)}")
    return [name for name in columns or have if name not in _NOT_DRAWN]


def _panels(columns: Sequence[str]) -> dict[str, list[str]]:
    panels: dict[str, list[str]] = {}
    for name in columns:
        panels.setdefault(name.rsplit("/", 1)[-1], []).append(name)
    return panels


def _draw(axis: Any, history: History, metric: str, names: Sequence[str]) -> None:
    epochs = history["epoch"] if "epoch" in history.columns else list(range(1, len(history) + 1))
    curves = list(dict.fromkeys(name.removeprefix("validation/") for name in names))
    for name in names:
        bare = name.removeprefix("validation/")
        validated = f"validation/{bare}" in names
        style = "-" if name != bare or not validated else "--"
        label = (bare.rsplit("/", 1)[0] if "/" in bare else "all tasks") + (" (training)" if style == "--" else "")
        values = np.array(history[name], dtype=float)
        marker = "o" if len(epochs) == 1 else None
        axis.plot(epochs, values, style, color=f"C{curves.index(bare) % 10}", label=label, marker=marker)
    axis.set_xlabel("epoch")
    axis.set_title(metric)
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small")
