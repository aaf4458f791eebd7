"""Labels of spans as people have them: triples, tags of either scheme, or classes; as tags of the task's scheme."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..values import frames, lists, ragged
from ..values.known import is_missing
from ..values.lists import Lists
from ..values.ragged import Ragged
from .spans import Spans, lasts

#: Letters of BILOU as those of BIOES, and those of BIOES as BIO has them.
_OF_FIVE = {"L": "E", "U": "S"}
_OF_THREE = {"E": "I", "S": "B"}


def read(value: Any, spans: Spans, argument: str, lengths: np.ndarray) -> tuple[Ragged, bool]:
    """Rows of tags or of their places, for rows of so many positions, and whether their letters are of the scheme with
    three where the task's has five, which `lettered` then mends. Where no row has any span or tag, rows are of triples.

    Raises:
        TypeError, ValueError: as `Spans.codes` has them for triples, and `ragged.read` for the rest.
    """
    rows = listed(value)
    if rows is None or not _are_triples(rows):
        return _renamed(ragged.read(value, argument), spans)
    if len(rows) != len(lengths):
        raise ValueError(f"{argument} should have {len(lengths)} rows, as the features have; got {len(rows)}")
    absent = np.fromiter((_is_absent(row) for row in rows), bool, len(rows))
    kept = np.where(absent, 0, lengths)
    codes = spans.codes([() if gone else row for row, gone in zip(rows, absent.tolist(), strict=True)], kept, argument)
    return Ragged.of(Lists(codes, np.cumsum(kept) - kept, kept, None, absent)), False


def lettered(codes: np.ndarray, rows: Ragged, spans: Spans, three: bool, cut: np.ndarray, argument: str) -> None:
    """Gives tags, places with -1 where they are missing, in place the letters that neighbours and ends of rows ask for:
    tags of three letters, and the last ones of rows that were `cut`, `[rows]`.

    Raises:
        ValueError: then there are tags that no spans have, as `Spans.check` says.
    """
    if codes.dtype.kind != "i":
        return  # numbers that are no classes, which are refused as such
    offsets = rows.offsets - rows.offsets[0]
    codes = codes[rows.offsets[0] : rows.offsets[-1]]
    if spans.scheme == "BIOES" and len(codes):
        there = (codes > 0) & (codes < len(spans.tags))
        letters = np.where(there, spans.letters[np.where(there, codes, 0)], -1)
        open_ = (letters == 0) | (letters == 1)
        last = lasts(offsets)
        if three:
            following = np.where(last, 0, np.append(codes[1:], 0))
            # Behind one that is missing nobody knows whether the span goes on.
            unknown = open_ & (following < 0)
            ends = open_ & ~unknown & (following != codes - letters + 1)
            codes[unknown] = -1
        else:
            ends = open_ & last & np.repeat(cut, np.diff(offsets))
        codes[ends] += np.where(letters[ends] == 0, 3, 1)
    spans.check(codes, offsets, argument)


def listed(value: Any) -> list[Any] | None:
    """Rows as a list, of what may have triples in them."""
    if isinstance(value, Ragged) or lists.is_column(value):
        return None
    if frames.is_series(value):
        return list(value.to_list())
    if isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray):
        return list(value.tolist()) if value.dtype.kind == "O" else None
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else None


def _are_triples(rows: list[Any]) -> bool:
    """Whether a row has spans, or none has anything."""
    kinds = {_is_of_triples(row) for row in rows} - {None}
    return not kinds or True in kinds


def _is_of_triples(row: Any) -> bool | None:
    """Whether what a row has are spans; none of a row that has nothing."""
    if _is_absent(row):
        return None
    if isinstance(row, str) or not isinstance(row, Sequence | np.ndarray) or getattr(row, "ndim", 1) == 0:
        return False
    if not len(row):
        return None
    return isinstance(row[0], Sequence | np.ndarray) and not isinstance(row[0], str)


def _is_absent(row: Any) -> bool:
    return not isinstance(row, Sequence | np.ndarray) and is_missing(row)


def _renamed(rows: Ragged, spans: Spans) -> tuple[Ragged, bool]:
    """Tags by the letters of the task's scheme, as far as these do not depend on their neighbours."""
    if rows.values.dtype.kind not in "OUT":
        return rows, False
    flat = rows.values.reshape(-1).tolist()
    distinct = dict.fromkeys(tag for tag in flat if isinstance(tag, str))
    five = any(tag[:2] in ("E-", "S-", "L-", "U-") for tag in distinct)
    names = {tag: _tag(tag, spans) for tag in distinct}
    found = np.empty(len(flat), object)
    found[:] = [names[tag] if isinstance(tag, str) else tag for tag in flat]
    three = spans.scheme == "BIOES" and not five and bool(distinct)
    return Ragged(found.reshape(rows.values.shape), rows.offsets, rows.mask, rows.absent), three


def _tag(tag: str, spans: Spans) -> str:
    letter, dash, kind = tag.partition("-")
    letter = _OF_FIVE.get(letter, letter)
    return f"{_OF_THREE.get(letter, letter) if spans.scheme == 'BIO' else letter}{dash}{kind}"
