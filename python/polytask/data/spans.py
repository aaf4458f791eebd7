"""Spans of positions, such as names in a text, as tags of positions and back."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ..arguments.keywords import checked
from ..arguments.messages import listed, none_of

#: Where a span begins, where it ends (which is not part of it), and of which kind it is.
Span: TypeAlias = tuple[int, int, str]

#: What schemes are called, and the letters of theirs that come with a kind. B and I, which a span goes on behind, come
#: first.
LETTERS = {"BIO": "BI", "BIOES": "BIES"}
_NAMES = {"BIO": "BIO", "IOB2": "BIO", **dict.fromkeys(("BIOES", "BIOSE", "IOBES", "BILOU", "BILUO"), "BIOES")}


class Found(NamedTuple):
    """Spans of rows that lie end to end, in their order: places among all positions, and places of kinds."""

    starts: np.ndarray
    ends: np.ndarray
    kinds: np.ndarray


class Spans:
    """A scheme that writes spans of some kinds as one tag a position.

    In "BIO" (IOB2: Tjong Kim Sang and Veenstra, Representing Text Chunks, EACL 1999) the first position of a span is
    `B-kind`, the others are `I-kind`, and positions in no span are `O`. In "BIOES" the last one is `E-kind`, and a span
    of one position is `S-kind`; BIOSE, IOBES and BILOU, whose L and U are E and S, are names of the same.

    Spans are triples `(start, end, kind)` of positions in their row, which count from 0, without the one at `end`;
    those of a row do not overlap.

    Arguments:
        scheme: "BIO" or "BIOES".
        kinds: what spans there are, strings.

    Attributes:
        tags: all tags, `O` first, whose places are the classes of a task.
        allowed: `[tags, tags]`, whether the second may follow the first; `starts` and `ends`, `[tags]`, whether it may
            be the first one of a row, and the last one.
    """

    @checked
    def __init__(self, scheme: str, kinds: Sequence[str]) -> None:
        if not isinstance(scheme, str):
            raise TypeError(f"`scheme` should be one of {listed(LETTERS)}; got {scheme!r}")
        if scheme.upper() not in _NAMES:
            raise ValueError(f"`scheme`: unknown scheme {none_of(scheme, LETTERS, 'there are')}")
        self.scheme = _NAMES[scheme.upper()]
        self.kinds = _kinds(kinds)
        letters = LETTERS[self.scheme]
        self.tags = ["O", *(f"{letter}-{kind}" for kind in self.kinds for letter in letters)]
        #: The letter of each tag, as its place among those of the scheme, -1 for O; and its kind's place, -1 for O.
        self.letters = np.array([-1, *[*range(len(letters))] * len(self.kinds)])
        self.of_kinds = np.array([-1, *np.repeat(np.arange(len(self.kinds)), len(letters))])
        #: Whether a span goes on behind a tag, or may, and whether a tag is one in which it does.
        goes_on = (self.letters == 0) | (self.letters == 1)
        self.continues = np.isin(self.letters, [1, 2])
        closed = ~goes_on if self.scheme == "BIOES" else np.ones(len(self.tags), bool)
        same = self.of_kinds[:, None] == self.of_kinds
        self.allowed = np.where(self.continues, goes_on[:, None] & same, closed[:, None])
        self.starts = ~self.continues
        self.ends = closed

    def to_tags(self, rows: Any, lengths: Any) -> list[list[str]]:
        """The tags of each row's positions, `lengths` of them, from rows of triples.

        Raises:
            TypeError, ValueError: no triples, or ones that overlap, are empty, of an unknown kind or beyond their row;
                says which.
        """
        each = list(rows)
        counts = np.fromiter(lengths, np.int64)
        if len(counts) != len(each):
            raise ValueError(f"`lengths` should be one a row, {len(each)}; got {len(counts)}")
        codes = self.codes(each, counts, "`rows`")
        tags = np.array(self.tags, object)[codes].tolist()
        ends = np.cumsum(counts)
        return [tags[end - count : end] for end, count in zip(ends.tolist(), counts.tolist(), strict=True)]

    def from_tags(self, rows: Iterable[Sequence[str]]) -> list[list[Span]]:
        """The triples of each row, from rows of tags of this scheme.

        Raises:
            ValueError: an unknown tag, or one that may not follow what is before it; says where.
        """
        each = [list(row) for row in rows]
        places = {tag: place for place, tag in enumerate(self.tags)}
        for at, row in enumerate(each):
            wrong = next((k for k, tag in enumerate(row) if tag not in places), None)
            if wrong is not None:
                raise ValueError(f"`rows`: unknown tag {none_of(row[wrong], self.tags, 'there are')}, at row {at}, "
                                 f"position {wrong}")  # fmt: skip
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in each], dtype=np.int64)])
        codes = np.array([places[tag] for row in each for tag in row], np.int64)
        self.check(codes, offsets, "`rows`")
        return self.triples(codes, offsets)

    def codes(self, rows: Sequence[Any], lengths: np.ndarray, argument: str) -> np.ndarray:
        """Places of tags, of all rows end to end, from rows of triples; see `to_tags`."""
        known = {kind: place for place, kind in enumerate(self.kinds)}
        flat = [(at, *_triple(span, at, argument)) for at, row in enumerate(rows) for span in _row(row, at, argument)]
        codes = np.zeros(int(lengths.sum()), np.int64)
        if not flat:
            return codes
        numbers = np.array([(at, start, end, known.get(kind, -1)) for at, start, end, kind in flat], np.int64)
        row, start, end, kind = numbers.T

        def refuse(wrong: np.ndarray, why: str) -> None:
            if wrong.any():
                at = int(wrong.argmax())
                about = {"length": lengths[row[at]], "kinds": listed(self.kinds)}
                raise ValueError(f"{argument}: {flat[at][1:]} at row {flat[at][0]} {why.format(**about)}")

        refuse(kind < 0, "should have one of the kinds {kinds}")
        refuse(start >= end, "should end behind its start")
        refuse((start < 0) | (end > lengths[row]), "should be within its row, which has {length} positions")
        order = np.lexsort((start, row))
        row, start, end, kind = numbers[order].T
        overlaps = (row[1:] == row[:-1]) & (start[1:] < end[:-1])
        if overlaps.any():
            at = int(overlaps.argmax())
            first, second = (flat[place] for place in order[at : at + 2])
            raise ValueError(f"{argument}: {first[1:]} and {second[1:]} at row {first[0]} overlap")
        begin = (np.cumsum(lengths) - lengths)[row] + start
        count = end - start
        tag = 1 + kind * len(LETTERS[self.scheme])
        inside = np.repeat(begin - (np.cumsum(count) - count), count) + np.arange(count.sum())
        codes[inside] = np.repeat(tag + 1, count)
        codes[begin] = tag
        if self.scheme == "BIOES":
            codes[begin + count - 1] = np.where(count == 1, tag + 3, tag + 2)
        return codes

    def check(self, codes: np.ndarray, offsets: np.ndarray, argument: str) -> None:
        """Refuses tags that no spans have; ones that are missing, -1, may be any.

        Raises:
            ValueError: a tag that may not stand where it does; says where.
        """
        if not len(codes):
            return
        there = (codes >= 0) & (codes < len(self.tags))
        known = np.where(there, codes, 0)
        lengths = np.diff(offsets)
        first, last = offsets[:-1][lengths > 0], offsets[1:][lengths > 0] - 1
        follows = np.ones(len(codes), bool)
        follows[first] = False
        wrong = np.zeros(len(codes), bool)
        wrong[1:] = follows[1:] & there[1:] & there[:-1] & ~self.allowed[known[:-1], known[1:]]
        wrong[first] |= there[first] & ~self.starts[known[first]]
        after = wrong.copy()
        wrong[last] |= there[last] & ~self.ends[known[last]]
        if not wrong.any():
            return
        at = int(wrong.argmax())
        row = int(np.searchsorted(offsets, at, side="right")) - 1
        place = f"row {row}, position {at - int(offsets[row])}"
        tag = self.tags[known[at]]
        before = f"follow {self.tags[known[at - 1]]!r}" if follows[at] else "begin a row"
        where = before if after[at] else "end a row"
        raise ValueError(f"{argument}: in the scheme {self.scheme} {tag!r} may not {where}; got it at {place}")

    def found(self, codes: np.ndarray, offsets: np.ndarray) -> Found:
        """The spans of tags that `check` lets pass, without missing ones."""
        starts = np.flatnonzero((codes > 0) & ~self.continues[codes])
        goes_on = np.append(self.continues[codes[1:]], False)[: len(codes)] & ~lasts(offsets)
        ends = np.flatnonzero((codes > 0) & ~goes_on) + 1
        return Found(starts, ends, self.of_kinds[codes[starts]])

    def triples(self, codes: np.ndarray, offsets: np.ndarray) -> list[list[Span]]:
        """What `found` finds, as triples of each row."""
        starts, ends, kinds = self.found(codes, offsets)
        row = np.searchsorted(offsets, starts, side="right") - 1
        rows: list[list[Span]] = [[] for _ in range(len(offsets) - 1)]
        each = (row, starts - offsets[row], ends - offsets[row], kinds)
        for at, start, end, kind in zip(*(part.tolist() for part in each), strict=True):
            rows[at].append((start, end, self.kinds[kind]))
        return rows

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spans) and (self.scheme, self.kinds) == (other.scheme, other.kinds)

    def __hash__(self) -> int:
        return hash((self.scheme, tuple(self.kinds)))

    def __repr__(self) -> str:
        return f"Spans({self.scheme!r}, {self.kinds})"


def lasts(offsets: np.ndarray) -> np.ndarray:
    """Whether a position is the last one of its row, `[positions]`."""
    last = np.zeros(offsets[-1], bool)
    last[offsets[1:][np.diff(offsets) > 0] - 1] = True
    return last


def _kinds(kinds: Any) -> list[str]:
    if isinstance(kinds, str) or not isinstance(kinds, Sequence | np.ndarray) or not len(kinds):
        raise TypeError(f"`kinds` should be a list of strings; got {kinds!r}")
    found = [str(kind) if isinstance(kind, str) else kind for kind in kinds]
    wrong = next((kind for kind in found if not isinstance(kind, str)), None)
    if wrong is not None:
        raise TypeError(f"`kinds` should be strings; got {wrong!r}")
    if len(set(found)) < len(found) or "" in found:
        raise ValueError(f"`kinds` should differ, and not be empty; got {found}")
    return found


def _row(row: Any, at: int, argument: str) -> Any:
    if isinstance(row, str) or not isinstance(row, Sequence | np.ndarray):
        raise TypeError(f"{argument} should have a list of triples in each row; got {row!r} at row {at}")
    return row


def _triple(span: Any, at: int, argument: str) -> Span:
    if isinstance(span, Sequence | np.ndarray) and not isinstance(span, str) and len(span) == 3:
        start, end, kind = span
        whole = all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in (start, end))
        if whole and isinstance(kind, str):
            return int(start), int(end), str(kind)
    raise TypeError(f"{argument} should have triples (start, end, kind), two whole numbers and a string; got "
                    f"{span!r} at row {at}")  # fmt: skip
