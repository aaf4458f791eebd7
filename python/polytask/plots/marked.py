"""Rows of tokens as text of SVG: coloured spans, tags below, and arcs above, from strings and places alone."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

Triple = tuple[int, int, str]

#: Units that a letter takes, a line of words, one of labels, and how high an arc is above those within it.
_LETTER, _LINE, _SMALL, _ARC = 8.6, 26.0, 15.0, 20.0
#: Hues of kinds, far apart one after the other.
_HUES = (210, 30, 130, 280, 0, 180, 55, 320, 95, 245)


@dataclass
class Marked:
    """What one row has.

    Attributes:
        tokens: its tokens.
        tags: of each task a label a token.
        spans: of each task triples `(start, end, kind)`, without the token at `end`.
        arcs: of each task triples `(from, to, kind)`; one from a token to itself is the root's.
        whole: of each task what is said of the row as a whole.
    """

    tokens: Sequence[str]
    tags: dict[str, Sequence[str]] = field(default_factory=dict)
    spans: dict[str, Sequence[Triple]] = field(default_factory=dict)
    arcs: dict[str, Sequence[Triple]] = field(default_factory=dict)
    whole: dict[str, str] = field(default_factory=dict)

    @property
    def from_right(self) -> bool:
        """Whether it is read from right to left: as most of its letters that have a direction are."""
        sides = [unicodedata.bidirectional(letter) for token in self.tokens for letter in token]
        return sum(side in ("R", "AL") for side in sides) > sum(side == "L" for side in sides)

    def lines(self) -> list[str]:
        """All of it in words."""
        found = [" ".join(self.tokens)]
        found += [f"{task}: {' '.join(labels)}" for task, labels in self.tags.items()]
        for task, spans in self.spans.items():
            each = [f"{kind}: {' '.join(self.tokens[start:end])}" for start, end, kind in spans]
            found.append(f"{task}: {'; '.join(each) or '-'}")
        for task, arcs in self.arcs.items():
            each = [f"{self.tokens[a]} -{kind}-> {self.tokens[b]}" if a != b else f"{kind}: {self.tokens[a]}"
                    for a, b, kind in arcs]  # fmt: skip
            found.append(f"{task}: {'; '.join(each) or '-'}")
        return [*found, *(f"{task}: {said}" for task, said in self.whole.items())]


def picture(row: Marked, kinds: Sequence[str]) -> str:
    """One row as SVG; `kinds` are those that have a colour, in an order that is the same in all pictures of a page."""
    widths = _widths(row)
    heights = _levels([arc for arcs in row.arcs.values() for arc in arcs])
    top = 8 + (_ARC * max(heights.values()) + 14 if heights else 0)
    wide = sum(widths) + 8
    middle, x = [], 4.0
    for width in widths:
        middle.append(wide - x - width / 2 if row.from_right else x + width / 2)
        x += width
    parts = [_arcs(arcs, heights, middle, top) for arcs in row.arcs.values()]
    parts += [
        _span(span, widths, middle, top, kinds, task, line)
        for line, (task, spans) in enumerate(row.spans.items())
        for span in spans
    ]
    parts += [_text(at, top + 18, token, 15) for at, token in zip(middle, row.tokens, strict=True)]
    y = top + _LINE + _SMALL * len(row.spans)
    for labels in row.tags.values():
        parts += [_text(at, y + 11, label, 11, 0.75) for at, label in zip(middle, labels, strict=True)]
        y += _SMALL
    size = f"{wide:.0f}", f"{y + 4:.0f}"
    return (f'<svg viewBox="0 0 {size[0]} {size[1]}" style="width: {size[0]}px; height: {size[1]}px" role="img" '
            f'aria-label="{escape("; ".join(row.lines()))}">{"".join(parts)}</svg>')  # fmt: skip


def _widths(row: Marked) -> list[float]:
    """How wide each token is, with what stands below it."""
    below = zip(row.tokens, *row.tags.values(), strict=True)
    widths = [12 + _LETTER * max(_letters(token), *(0.75 * _letters(label) for label in labels), 2.0)
              for token, *labels in below]  # fmt: skip
    for spans in row.spans.values():
        for start, end, kind in spans:
            lacking = max(12 + _LETTER * 0.75 * _letters(kind) - sum(widths[start:end]), 0.0)
            widths[start:end] = [width + lacking / (end - start) for width in widths[start:end]]
    return widths


def _letters(text: str) -> float:
    """About how many letters wide a text is."""
    wide = {"W": 2.0, "F": 2.0}
    return sum(wide.get(unicodedata.east_asian_width(letter), 1.0) for letter in text
               if not unicodedata.combining(letter))  # fmt: skip


def _levels(arcs: Sequence[Triple]) -> dict[tuple[int, int], int]:
    """How high each arc is: above all those that lie within it."""
    heights: dict[tuple[int, int], int] = {}
    for a, b in sorted({(min(a, b), max(a, b)) for a, b, _ in arcs}, key=lambda arc: arc[1] - arc[0]):
        within = [height for (c, d), height in heights.items() if a <= c and d <= b and c != d]
        heights[a, b] = 1 + max(within, default=0)
    return heights


def _arcs(arcs: Sequence[Triple], heights: Mapping[tuple[int, int], int], middle: Sequence[float], top: float) -> str:
    found = []
    for a, b, kind in arcs:
        x, z = middle[a], middle[b]
        if a == b:
            path = f"M{z:.1f} {top - 24:.1f}V{top:.1f}"
            label = _text(z, top - 28, kind, 11)
        else:
            # Ends a little beside the middle, so that arcs of one token are told apart.
            side = 4.0 if z > x else -4.0
            x, z = x + side, z - side
            height = top - _ARC * heights[min(a, b), max(a, b)]
            path = f"M{x:.1f} {top:.1f}C{x:.1f} {height:.1f} {z:.1f} {height:.1f} {z:.1f} {top:.1f}"
            label = _text((x + z) / 2, top - 0.75 * (top - height) - 3, kind, 11)
        found.append(f'<path d="{path}" fill="none" stroke="currentColor" stroke-opacity="0.6"/>'
                     f'<path d="M{z - 3:.1f} {top - 6:.1f}L{z:.1f} {top:.1f}L{z + 3:.1f} {top - 6:.1f}z" '
                     f'fill="currentColor"/>{label}')  # fmt: skip
    return "".join(found)


def _span(
    span: Triple,
    widths: Sequence[float],
    middle: Sequence[float],
    y: float,
    kinds: Sequence[str],
    task: str,
    line: int,
) -> str:
    start, end, kind = span
    edges = [middle[k] + side * (widths[k] / 2 - 2) for k in (start, end - 1) for side in (-1, 1)]
    left, right = min(edges), max(edges)
    hue = _HUES[list(kinds).index(kind) % len(_HUES)]
    # Those of a second task are framed a little lower.
    place = f'x="{left:.1f}" y="{y + 2 + 2 * line:.1f}" width="{right - left:.1f}" height="{_LINE - 3:.0f}"'
    colour = f'fill="hsl({hue} 70% 50% / 0.3)" stroke="hsl({hue} 70% 45%)"'
    label = _text((left + right) / 2, y + _LINE + 10 + _SMALL * line, kind, 11)
    return f'<rect {place} rx="4" {colour}><title>{escape(f"{task}: {kind}")}</title></rect>{label}'


def _text(x: float, y: float, text: str, size: int, opacity: float = 1.0) -> str:
    faint = "" if opacity == 1.0 else f' fill-opacity="{opacity}"'
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" fill="currentColor" '
            f'style="font-size: {size}px"{faint}>{escape(text)}</text>')  # fmt: skip
