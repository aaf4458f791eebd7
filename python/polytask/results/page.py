"""The report as one HTML page, which needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from .relatedness import Relatedness
from .table import html

_STYLE = """
:root { color-scheme: light dark; --line: #8888; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1, h2 { line-height: 1.2; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; }
th, td { padding: 0.25rem 0.6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left; }
svg { width: 100%; height: auto; max-width: 44rem; }
svg text { fill: currentColor; font: 12px system-ui, sans-serif; }
.warning { border-left: 0.3rem solid #d80; padding-left: 0.8rem; }
"""


def page(title: str, parts: Sequence[str]) -> str:
    """Parts of a page, put together."""
    head = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
    )
    return f"{head}<body><main><h1>{escape(title)}</h1>{''.join(parts)}</main></body></html>\n"


def section(title: str, *parts: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def paragraphs(sentences: Sequence[str], kind: str = "") -> str:
    attribute = f' class="{kind}"' if kind else ""
    return "".join(f"<p{attribute}>{escape(sentence)}</p>" for sentence in sentences)


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    return f'<div class="scroll">{html(header, rows)}</div>'


def bars(title: str, names: Sequence[str], values: np.ndarray, ends: np.ndarray, unit: str) -> str:
    """Points with intervals `[names, 2]` around 0, a line each."""
    known = np.concatenate([values, ends.ravel(), [0.0]])
    known = known[~np.isnan(known)]
    low, high = float(known.min()), float(known.max())
    margin = 0.05 * (high - low) or 1.0
    low, high = low - margin, high + margin
    left, width, row = 190.0, 400.0, 26.0

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * width

    height = row * (len(names) + 1)
    parts = [f'<line x1="{x(0):.1f}" y1="0" x2="{x(0):.1f}" y2="{height - row:.1f}" stroke="currentColor" '
             'stroke-dasharray="3 3"/>']  # fmt: skip
    for at, (name, value, (first, last)) in enumerate(zip(names, values, ends, strict=True)):
        y = row * (at + 0.5)
        parts.append(f'<text x="{left - 10:.1f}" y="{y + 4:.1f}" text-anchor="end">{escape(_short(name))}</text>')
        if not np.isnan(first):
            parts.append(f'<line x1="{x(first):.1f}" y1="{y:.1f}" x2="{x(last):.1f}" y2="{y:.1f}" stroke="#37c" '
                         'stroke-width="3"/>')  # fmt: skip
        if not np.isnan(value):
            parts.append(f'<circle cx="{x(value):.1f}" cy="{y:.1f}" r="5" fill="#37c"/>')
    for value in (low + margin, 0.0, high - margin):
        parts.append(f'<text x="{x(value):.1f}" y="{height - 8:.1f}" text-anchor="middle">{value:+.2f} {unit}</text>')
    told = "; ".join(f"{name}: {value:+.2f} {unit}" for name, value in zip(names, values, strict=True))
    return _svg(left + width + 40, height, title, told, parts)


def heat_map(related: Relatedness) -> str:
    """A relatedness as a picture."""
    count = len(related.tasks)
    cell, left = 44.0, 150.0
    most = float(np.nanmax(np.abs(np.where(np.eye(count) > 0, np.nan, related.matrix)), initial=0.0)) or 1.0
    parts = []
    for i, name in enumerate(related.tasks):
        y = cell * (i + 0.5)
        parts.append(f'<text x="{left - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{escape(_short(name, 18))}</text>')
        parts.append(f'<text x="{left + cell * (i + 0.5):.1f}" y="{cell * count + 10:.1f}" text-anchor="end" '
                     f'transform="rotate(-45 {left + cell * (i + 0.5):.1f} {cell * count + 10:.1f})">'
                     f"{escape(_short(name, 18))}</text>")  # fmt: skip
        for j in range(count):
            value = float(related.matrix[i, j])
            if i == j or np.isnan(value):
                continue
            strength = min(1.0, abs(value) / most)
            color = "#37c" if value > 0 else "#c33"
            place = f'x="{left + cell * j:.1f}" y="{cell * i:.1f}" width="{cell - 2:.0f}" height="{cell - 2:.0f}"'
            parts.append(f'<rect {place} fill="{color}" fill-opacity="{strength:.2f}"/>')
            if count <= 14:
                parts.append(f'<text x="{left + cell * (j + 0.5) - 1:.1f}" y="{y + 4:.1f}" text-anchor="middle">'
                             f"{value:.2f}</text>")  # fmt: skip
    told = f"A matrix of {count} tasks; the same numbers stand in the table below."
    return _svg(
        left + cell * count + 20, cell * count + 130, f"How tasks are related, by {related.method}", told, parts
    )


def _svg(width: float, height: float, title: str, told: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" xmlns="http://www.w3.org/2000/svg">'
        f"<title>{escape(title)}</title><desc>{escape(told)}</desc>{''.join(parts)}</svg>"
    )


def _short(name: str, most: int = 24) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
