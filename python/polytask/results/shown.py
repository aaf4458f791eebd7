"""Rows of text with what is predicted for them, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from os import PathLike
from pathlib import Path

from ..arguments.paths import page_path
from ..plots import marked
from ..plots.marked import Marked
from .page import page


class Shown:
    """Rows of tokens with what is predicted for them: spans in colours, tags below, relations as arcs.

    In a notebook it is a picture; `save` writes it as a page that needs nothing else, and `print` says it in words.
    """

    def __init__(self, rows: Sequence[Marked]) -> None:
        self._rows = list(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def save(self, path: str | PathLike[str]) -> None:
        """Writes a page of HTML."""
        Path(page_path(path)).write_text(page("What is predicted", [self._repr_html_()]), encoding="utf-8")

    def _repr_html_(self) -> str:
        kinds = sorted({kind for row in self._rows for spans in row.spans.values() for _, _, kind in spans})
        return "".join(self._row(row, kinds) for row in self._rows)

    @staticmethod
    def _row(row: Marked, kinds: Sequence[str]) -> str:
        said = ", ".join(f"<b>{escape(task)}</b> {escape(each)}" for task, each in row.whole.items())
        picture = marked.picture(row, kinds) if row.tokens else ""
        # Pictures keep the size of their letters: a long row is scrolled, by keys too.
        return (f'<figure style="margin: 1rem 0"><div dir="{"rtl" if row.from_right else "ltr"}" role="region" '
                f'aria-label="row" tabindex="0" style="overflow-x: auto">{picture}</div>'
                f"<figcaption>{said}</figcaption></figure>")  # fmt: skip

    def __repr__(self) -> str:
        return "\n\n".join("\n".join(row.lines()) for row in self._rows)
