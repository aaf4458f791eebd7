"""Texts among inputs: by name, with codes that were learned, or that a frame's columns teach them."""

import copy
from collections.abc import Mapping
from typing import Any

from ..values import frames
from .text import Text


def read(text: Any) -> dict[str, Text]:
    """Texts by name, as they are now.

    Raises:
        TypeError: no text.
        ValueError: one whose codes nobody has learned.
    """
    if text is None:
        return {}
    named = {"text": text} if isinstance(text, Text) else text
    if not isinstance(named, Mapping) or not named or not all(isinstance(each, Text) for each in named.values()):
        raise TypeError(f'`text` should be a pt.Text, or a dict such as {{"question": pt.Text()}}; got {text!r}')
    for each in named.values():
        each.need("`text`")
    return {name: each.kept() for name, each in named.items()}


def fitted(text: Any, frame: Any) -> dict[str, Text]:
    """Texts of columns of a frame, which have learned their codes there.

    Raises:
        TypeError, ValueError: no text, no such column, or one that holds no texts.
    """
    if text is None:
        return {}
    if isinstance(text, str) or (isinstance(text, list | tuple) and all(isinstance(name, str) for name in text)):
        text = dict.fromkeys([text] if isinstance(text, str) else text, Text())
    named = {"text": text} if isinstance(text, Text) else text
    if not isinstance(named, Mapping) or not all(isinstance(each, Text) for each in named.values()):
        raise TypeError(f'`text` should be a column, or a dict such as {{"question": pt.Text()}}; got {text!r}')
    columns = {name: frames.stored(frame, name, "`frame`") for name in named}
    return {name: copy.copy(each).learn(columns[name], f"`frame`: column `{name}`") for name, each in named.items()}
