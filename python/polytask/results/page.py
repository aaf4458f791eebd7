"""The report as one HTML page, which needs nothing else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import Any

from .table import html

_STYLE = """
:root { color-scheme: light dark; --line: #8888; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1, h2 { line-height: 1.2; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; }
th, td { padding: 0.25rem 0.6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: currentColor; font: 13px system-ui, sans-serif; }
figure { margin: 1rem 0; }
figcaption { font-size: 0.9rem; }
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
    return "".join(f"<p{attribute}>{_words(sentence)}</p>" for sentence in sentences)


def _words(sentence: str) -> str:
    """A sentence, with what stands in backticks as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(sentence))


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    # note: what scrolls can be reached by keys alone.
    return f'<div class="scroll" role="region" aria-label="table" tabindex="0">{html(header, rows)}</div>'


def picture(svg: str, caption: str) -> str:
    return f"<figure><figcaption>{escape(caption)}</figcaption>{svg}</figure>"
