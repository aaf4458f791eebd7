"""Pictures as text of SVG, which need no other library: intervals and heat maps, from arrays and labels alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

#: Units across a picture of intervals: about as many as a phone has, so that its text is not made smaller there.
_WIDTH = 360.0
_COLOR = "#37c"
_AGAINST = "#c33"


def intervals(title: str, names: Sequence[str], values: np.ndarray, ends: np.ndarray, unit: str = "") -> str:
    """Points `[names]` with intervals `[names, 2]` on an axis with a line at 0, each below its name; what is NaN is not
    drawn. All numbers are said in the picture's description too.
    """
    known = np.concatenate([values, np.ravel(ends), [0.0]])
    known = known[np.isfinite(known)]
    ticks, digits = _ticks(float(known.min()), float(known.max()))
    low, high = min(ticks[0], float(known.min())), max(ticks[-1], float(known.max()))
    margin, row = 30.0, 40.0
    bottom = row * len(names) + 4

    def x(value: float) -> float:
        return margin + (value - low) / (high - low) * (_WIDTH - 2 * margin)

    parts = []
    for tick in ticks:
        dashes = "" if tick == 0 else ' stroke-dasharray="2 4" stroke-opacity="0.5"'
        parts.append(f'<line x1="{x(tick):.1f}" y1="0" x2="{x(tick):.1f}" y2="{bottom:.0f}" stroke="currentColor"'
                     f"{dashes}/>")  # fmt: skip
        parts.append(_text(x(tick), bottom + 15, _signed(tick, digits), "middle"))
    told = []
    for at, (name, value, (first, last)) in enumerate(zip(names, values, ends, strict=True)):
        y = row * at
        parts.append(_text(4, y + 14, _short(name, 50), "start"))
        said = f"{name}: {_signed(value)}{unit and ' '}{unit}"
        if np.isfinite(first) and np.isfinite(last):
            said += f", {_signed(first)} to {_signed(last)}"
            parts.append(f'<line x1="{x(first):.1f}" y1="{y + 27:.0f}" x2="{x(last):.1f}" y2="{y + 27:.0f}" '
                         f'stroke="{_COLOR}" stroke-width="3"/>')  # fmt: skip
        if np.isfinite(value):
            parts.append(f'<circle cx="{x(value):.1f}" cy="{y + 27:.0f}" r="5" fill="{_COLOR}"/>')
        told.append(said)
    if unit:
        parts.append(_text(_WIDTH - 4, bottom + 31, unit, "end"))
    return _svg(_WIDTH, bottom + (36 if unit else 20), title, "; ".join(told), parts)


def heat_map(title: str, told: str, names: Sequence[str], matrix: np.ndarray) -> str:
    """A matrix `[names, names]`, its diagonal left out; colours are relative to its largest number."""
    count = len(names)
    cell, left = 44.0, 150.0
    most = float(np.nanmax(np.abs(np.where(np.eye(count) > 0, np.nan, matrix)), initial=0.0)) or 1.0
    parts = []
    for i, name in enumerate(names):
        middle, below = cell * (i + 0.5), cell * count + 10
        parts.append(_text(left - 8, middle + 4, _short(name, 18), "end"))
        turned = f' transform="rotate(-45 {left + middle:.1f} {below:.1f})"'
        parts.append(_text(left + middle, below, _short(name, 18), "end", turned))
        for j in range(count):
            value = float(matrix[i, j])
            if i == j or np.isnan(value):
                continue
            color = _COLOR if value > 0 else _AGAINST
            place = f'x="{left + cell * j:.1f}" y="{cell * i:.1f}" width="{cell - 2:.0f}" height="{cell - 2:.0f}"'
            parts.append(f'<rect {place} fill="{color}" fill-opacity="{min(1.0, abs(value) / most):.2f}"/>')
            if count <= 14:
                parts.append(_text(left + cell * (j + 0.5) - 1, middle + 4, f"{value:.2f}", "middle"))
    return _svg(left + cell * count + 20, cell * count + 130, title, told, parts)


def _ticks(low: float, high: float) -> tuple[list[float], int]:
    """Round numbers, 0 among them, over a range that has 0, and how many digits behind the point tell them apart."""
    if high == low:
        return [-1.0, 0.0, 1.0], 0
    rough = (high - low) / 5
    power = math.floor(math.log10(rough))
    step = next(each for each in (1, 2, 5, 10) if each * 10.0**power >= rough) * 10.0**power
    found = [at * step for at in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    # note: a step of 10 of a power is one digit shorter.
    return found, max(0, -math.floor(math.log10(step) + 1e-9))


def _signed(value: float, digits: int | None = None) -> str:
    if value == 0:
        return "0"
    return f"{value:+.3g}" if digits is None else f"{value:+.{digits}f}"


def _text(x: float, y: float, words: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(words)}</text>'


def _svg(width: float, height: float, title: str, told: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" style="max-width: {width / 14:.0f}rem" '
        'xmlns="http://www.w3.org/2000/svg">'
        f"<title>{escape(title)}</title><desc>{escape(told)}</desc>{''.join(parts)}</svg>"
    )


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
