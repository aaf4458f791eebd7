"""Lines over epochs, heat maps, stacked bars and intervals, from arrays and labels alone."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

#: Labels that are written out: numbers in the cells of a heat map, names in the legend of bars.
_READABLE = 12


class Along(NamedTuple):
    """What lines go along.

    Attributes:
        called: what it is: "epoch", "step".
        values: where each number of the lines lies.
    """

    called: str
    values: Sequence[Any]


class Line(NamedTuple):
    """A line over epochs.

    Attributes:
        label: its name in the legend.
        values: a number an epoch.
        color: any that matplotlib knows.
        style: as matplotlib has it: "-", "--".
        band: its lower and its upper end around the line, if it has one.
    """

    label: str
    values: Sequence[float]
    color: Any
    style: str = "-"
    band: tuple[np.ndarray, np.ndarray] | None = None


class Panels(np.ndarray):
    """The axes of one figure, one after the other."""

    @classmethod
    def of(cls, axes: Sequence[Any]) -> "Panels":
        """Axes of matplotlib."""
        panels = np.empty(len(axes), object)
        panels[:] = axes
        return panels.view(cls)

    @property
    def figure(self) -> Any:
        """The figure that they are in."""
        return self.flat[0].figure

    def savefig(self, *args: Any, **options: Any) -> None:
        """Writes the figure, as `matplotlib.figure.Figure.savefig` does."""
        self.figure.savefig(*args, **options)


def panels(count: int, called: str) -> Panels:
    """So many empty axes side by side.

    Raises:
        ImportError: matplotlib is not installed; says that what is `called` so needs it.
    """
    try:
        import matplotlib.pyplot as pyplot
    except ImportError:
        raise ImportError(f"{called} needs matplotlib: pip install 'polytask[plot]'") from None
    _, axes = pyplot.subplots(1, count, figsize=(4.5 * count, 3.2), squeeze=False, layout="constrained")
    return Panels.of(axes[0])


def grid(count: int, called: str, wide: int = 4) -> Panels:
    """So many empty axes in rows of at most `wide`.

    Raises:
        ImportError: matplotlib is not installed; says that what is `called` so needs it.
    """
    figure = panels(1, called)[0].figure
    figure.clear()
    columns = min(count, wide)
    rows = -(-count // wide)
    figure.set_size_inches(4.5 * columns, 3.2 * rows)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes[count:]:
        axis.remove()
    return Panels.of(axes[:count])


def stacked(called: str) -> Panels:
    """Low axes above high ones, whose columns stand below each other.

    Raises:
        ImportError: matplotlib is not installed; says that what is `called` so needs it.
    """
    figure = panels(1, called)[0].figure
    figure.clear()
    figure.set_size_inches(6.0, 6.4)
    return Panels.of(figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [1, 5]}))


def colors(count: int) -> list[Any]:
    """Colours that tell up to 40 lines apart."""
    import matplotlib

    if count <= 10:
        return [f"C{i}" for i in range(count)]
    return [matplotlib.colormaps["turbo"](i / count) for i in range(count)]


def lines(axis: Any, along: Along, each: Sequence[Line], title: str) -> None:
    """Lines over epochs or steps; a single one is a dot."""
    marker = "o" if len(along.values) == 1 else None
    for line in each:
        values = np.array(line.values, dtype=float)
        axis.plot(along.values, values, line.style, color=line.color, label=line.label, marker=marker)
        if line.band is not None:
            axis.fill_between(along.values, *line.band, color=line.color, alpha=0.15, linewidth=0)
    axis.set_xlabel(along.called)
    axis.set_title(title)
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small", ncols=1 + (len(axis.lines) - 1) // 10)


def over_rates(axis: Any, rates: Sequence[float], each: Sequence[Line], mark: float | None) -> None:
    """Lines over learning rates, which rise by factors, one of which may be marked."""
    for line in each:
        axis.plot(rates, line.values, line.style, color=line.color, label=line.label)
    if mark is not None:
        axis.axvline(mark, color="C1", linestyle="--", label=f"{mark:.3g}")
    axis.set_xscale("log")
    axis.set_xlabel("learning rate")
    axis.set_ylabel("loss")
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small")


def matrix(axis: Any, values: np.ndarray, rows: Sequence[str], columns: Sequence[str], title: str) -> None:
    """Numbers of any range, `[rows, columns]`, 0 in the middle of the colours; grey where there is none."""
    most = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    _coloured(axis, values, rows, columns, title, most)


def heat_map(axis: Any, matrix: np.ndarray, rows: Sequence[str], columns: Sequence[str], title: str) -> None:
    """Numbers between -1 and 1, `[rows, columns]`."""
    _coloured(axis, matrix, rows, columns, title, 1.0)


def _coloured(
    axis: Any, matrix: np.ndarray, rows: Sequence[str], columns: Sequence[str], title: str, most: float
) -> None:
    axis.set_title(title)
    axis.set_facecolor("0.85")
    image = axis.imshow(matrix, cmap="RdBu", vmin=-most, vmax=most, aspect="auto")
    axis.figure.colorbar(image, ax=axis)
    axis.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
    axis.set_yticks(range(len(rows)), rows)
    if max(len(rows), len(columns)) <= _READABLE:
        for (i, j), value in np.ndenumerate(matrix):
            if np.isnan(value):
                continue
            color = "white" if abs(value) > 0.6 * most else "black"
            digits = 2 if most >= 0.3 else 3
            axis.text(j, i, f"{value:.{digits}f}", ha="center", va="center", color=color, fontsize="small")


def stacked_bars(axis: Any, shares: np.ndarray, rows: Sequence[str], parts: Sequence[str], title: str) -> None:
    """A bar a row, of a share a part, `[rows, parts]`."""
    import matplotlib

    axis.set_title(title)
    few = len(parts) <= 20
    palette = matplotlib.colormaps["tab20" if few else "turbo"]
    left = np.zeros(len(rows))
    for j, part in enumerate(parts):
        color = palette(j) if few else palette(j / len(parts))
        axis.barh(range(len(rows)), shares[:, j], left=left, color=color, label=part)
        left += shares[:, j]
    axis.set_yticks(range(len(rows)), rows)
    axis.invert_yaxis()
    axis.set_xlabel("mean weight")
    if len(parts) <= _READABLE:
        axis.legend(fontsize="x-small", ncols=2)


def intervals(axis: Any, names: Sequence[str], values: np.ndarray, ends: np.ndarray, title: str, label: str) -> None:
    """Points `[names]` with intervals `[names, 2]`, a line each, beside a line at 0."""
    axis.set_title(title)
    axis.axvline(0.0, color="0.5", linewidth=1)
    axis.hlines(range(len(names)), ends[:, 0], ends[:, 1], color="C0", linewidth=2)
    axis.plot(values, range(len(names)), "o", color="C0")
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set_xlabel(label)
    axis.grid(alpha=0.3, axis="x")


def bars(axis: Any, names: Sequence[str], values: np.ndarray, errors: np.ndarray, title: str, label: str) -> None:
    """Bars to the right `[names]`, or to the left of 0, with errors on both sides where they are known."""
    axis.set_title(title)
    axis.barh(range(len(names)), values, color="C0")
    axis.errorbar(values, range(len(names)), xerr=np.nan_to_num(errors), fmt="none", ecolor="0.3", elinewidth=1)
    axis.axvline(0.0, color="0.5", linewidth=1)
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set_xlabel(label)
    axis.grid(alpha=0.3, axis="x")


def over_values(
    axis: Any, along: Sequence[Any] | None, names: Sequence[str], each: Sequence[Line], behind: np.ndarray, title: str
) -> None:
    """Lines over the values of a column, numbers or dates, or dots over its categories where there is no place along,
    before thin ones of single rows, `[rows, values]`.
    """
    places = list(range(len(names))) if along is None else along
    if len(behind):
        axis.plot(places, behind.T, color="0.7", linewidth=0.5, zorder=1)
    for line in each:
        style = "o" if along is None else line.style
        axis.plot(places, line.values, style, color=line.color, label=line.label, zorder=2)
    if along is None:
        axis.set_xticks(places, names, rotation=45, ha="right")
    elif np.asarray(along).dtype.kind == "M":
        axis.tick_params("x", rotation=45)
    axis.set_title(title)
    axis.grid(alpha=0.3)
    if len(each) > 1:
        axis.legend(fontsize="small", ncols=1 + (len(each) - 1) // 10)


def reliability(axis: Any, said: Sequence[Any], each: Sequence[Line], title: str) -> None:
    """Shares of what happened over probabilities, a line each, beside the line where the two are equal."""
    axis.plot([0, 1], [0, 1], "--", color="0.5", linewidth=1)
    for places, line in zip(said, each, strict=True):
        there = ~np.isnan(places)
        axis.plot(places[there], np.asarray(line.values)[there], line.style, color=line.color, label=line.label)
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
    axis.set_xlabel("probability")
    axis.set_ylabel("share")
    axis.set_title(title)
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small")


def bundle(axis: Any, each: Sequence[Sequence[float]], title: str, marks: Sequence[int]) -> None:
    """Lines over epochs that are looked at together, the first one before the others; with marks at epochs."""
    for at, values in reversed(list(enumerate(each))):
        color, width, order = ("C0", 2.0, 3) if at == 0 else ("0.6", 0.8, 2)
        epochs = range(1, len(values) + 1)
        axis.plot(epochs, np.array(values, dtype=float), color=color, linewidth=width, zorder=order)
        if len(values) == 1:
            axis.plot(epochs, values, ".", color=color, zorder=order)
    for mark in marks:
        axis.axvline(mark, color="0.85", linestyle=":", zorder=1)
    axis.set_xlabel("epoch")
    axis.set_title(title)
    axis.grid(alpha=0.3)


def points(
    axis: Any, values: Sequence[Any], heights: Sequence[float], along: str, title: str, logarithmic: bool = False
) -> None:
    """Heights over numbers, or over whatever else, side by side; the first one before the others."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    names = list(dict.fromkeys(map(str, values)))
    places = list(values) if numbers else [names.index(str(value)) for value in values]
    axis.plot(places, heights, "o", color="0.6", markersize=4)
    axis.plot(places[:1], heights[:1], "o", color="C0", markersize=7)
    if not numbers:
        axis.set_xticks(range(len(names)), names, rotation=45, ha="right")
    elif logarithmic:
        axis.set_xscale("log")
    axis.set_xlabel(along)
    axis.set_title(title)
    axis.grid(alpha=0.3)
