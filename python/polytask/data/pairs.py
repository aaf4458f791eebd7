"""Relations between positions of a row, such as who acts on whom in a text: triples as labels of pairs, and back."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from ..arguments.messages import listed
from ..values import arrays, frames, lists
from ..values.known import is_missing
from ..values.ragged import Ragged

#: The first position, the second, and of which kind their relation is.
Relation: TypeAlias = tuple[int, int, str]

#: The class of pairs that are in no relation.
NONE = "none"
#: Of a row without labels.
_ABSENT = (-1, -1, -1)


class Pairs:
    """Relations of some kinds between positions of a row, as triples `(i, j, kind)`, which count from 0.

    In a tree each position `i` is attached to one position `j`, its head, and the root to itself: `(i, i, kind)`.

    Attributes:
        kinds: what relations there are.
        classes: "none", then the kinds, whose places are the classes of a task.
        tree: whether relations make a tree.
    """

    def __init__(self, kinds: Sequence[str], tree: bool = False) -> None:
        self.kinds = _kinds(kinds)
        self.classes = [NONE, *self.kinds]
        self.tree = tree

    def read(self, value: Any, lengths: np.ndarray, argument: str) -> Ragged:
        """Triples `[triples, 3]` of positions and places of classes, of rows with so many positions; of a row without
        labels `(-1, -1, -1)`. A kind of None is a pair whose label is missing.

        Raises:
            TypeError, ValueError: no triples, or ones of an unknown kind, beyond their row, twice the same pair, or not
                those of a tree; says which.
        """
        if isinstance(value, Ragged):
            return value
        rows = _listed(value, argument)
        if len(rows) != len(lengths):
            raise ValueError(f"{argument} should have {len(lengths)} rows, as the features have; got {len(rows)}")
        places = {kind: place for place, kind in enumerate(self.classes) if kind != NONE}
        flat: list[tuple[int, int, int]] = []
        at: list[int] = []
        for row, relations in enumerate(rows):
            if _is_absent(relations):
                flat.append(_ABSENT)
                at.append(row)
                continue
            if isinstance(relations, str) or not isinstance(relations, Sequence | np.ndarray):
                raise TypeError(f"{argument} should have a list of triples in each row; got {relations!r} at row {row}")
            for relation in relations:
                first, second, kind = _triple(relation, row, argument)
                place = -1 if is_missing(kind) else places.get(kind)
                if place is None:
                    raise ValueError(f"{argument}: {relation!r} at row {row} should have one of the kinds "
                                     f"{listed(self.kinds)}")  # fmt: skip
                flat.append((first, second, place))
                at.append(row)
        triples = np.array(flat, np.int64).reshape(-1, 3)
        row_of = np.array(at, np.int64)
        absent = np.fromiter(map(_is_absent, rows), bool, len(rows))
        self._check(triples, row_of, lengths, ~absent[row_of], argument)
        offsets = np.searchsorted(row_of, np.arange(len(rows) + 1)).astype(np.int64)
        return Ragged(triples, offsets)

    def _check(
        self, triples: np.ndarray, row: np.ndarray, lengths: np.ndarray, there: np.ndarray, argument: str
    ) -> None:
        first, second, _ = triples.T
        count = lengths[row] if len(row) else np.zeros(0, np.int64)

        def refuse(wrong: np.ndarray, why: str) -> None:
            if wrong.any():
                at = int(wrong.argmax())
                i, j, place = triples[at].tolist()
                shown = (i, j, None if place < 0 else self.classes[place])
                raise ValueError(f"{argument}: {shown} at row {row[at]} {why.format(length=count[at])}")

        outside = (triples[:, :2] < 0) | (triples[:, :2] >= count[:, None])
        refuse(there & outside.any(1), f"should be of positions of its row, which has {{length}}{self._root}")
        width = max(int(lengths.max(initial=0)), 1)
        key = (row * width + first) * width + second
        refuse(there & _repeated(key), "has a pair that the row has already")
        if not self.tree:
            return
        refuse(there & _repeated(row * width + first), "is attached twice: in a tree each position is to one")
        heads = np.full(int(lengths.sum()), -1)
        begin = np.cumsum(lengths) - lengths
        heads[begin[row[there]] + first[there]] = begin[row[there]] + second[there]
        cyclic = np.zeros(len(row), bool)
        cyclic[there] = cycles(heads)[begin[row[there]] + first[there]]
        refuse(cyclic, "is part of a cycle; the root of a tree is attached to itself")
        roots = there & (first == second)
        refuse(roots & _repeated(np.where(roots, row, -1 - np.arange(len(row)))), "is the second root of its row")

    @property
    def _root(self) -> str:
        return "; that of a root i is (i, i, kind)" if self.tree else ""

    def cut(self, rows: Ragged, lengths: np.ndarray) -> Ragged:
        """Triples without those of positions that rows of so many positions do not have any more."""
        row = np.repeat(np.arange(len(rows)), rows.lengths)
        triples = rows.values[rows.offsets[0] : rows.offsets[-1]]
        kept = (triples[:, :2] < lengths[row][:, None]).all(1)
        return Ragged(triples[kept], np.searchsorted(row[kept], np.arange(len(rows) + 1)).astype(np.int64))

    def triples(self, found: Sequence[np.ndarray]) -> list[list[Relation]]:
        """Rows of places `[relations, 3]` with kinds by their names."""
        return [[(i, j, self.classes[place]) for i, j, place in row.tolist()] for row in found]

    def __repr__(self) -> str:
        return f"Pairs({self.kinds}, tree={self.tree})"


def cycles(heads: np.ndarray) -> np.ndarray:
    """Whether following the heads `[positions]`, -1 of those that have none, leads back to a position; one that is its
    own head is the end of the way.
    """
    count = len(heads)
    own = heads == np.arange(count)
    # One place more, where all ways end.
    to = np.append(np.where((heads < 0) | own, count, heads), count)
    on_way = to
    for _ in range(max(count, 1).bit_length()):
        on_way = on_way[on_way]
    # On a cycle as many steps as there are positions lead from all of its positions to all of them.
    rounds = np.zeros(count + 1, bool)
    rounds[on_way] = True
    return rounds[:count]


def _repeated(keys: np.ndarray) -> np.ndarray:
    """Whether a key is the second or a later one of its kind."""
    first = np.zeros(len(keys), bool)
    first[np.unique(keys, return_index=True)[1]] = True
    return ~first


def _listed(value: Any, argument: str) -> list[Any]:
    if lists.is_column(value) and hasattr(value, "to_pylist"):
        return list(value.to_pylist())
    if frames.is_series(value):
        return list(value.to_list())
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return list(value)
    array, _ = arrays.unwrap(value, argument)
    return list(array.tolist() if array.dtype.kind == "O" and array.ndim == 1 else array)


def _is_absent(row: Any) -> bool:
    return not isinstance(row, Sequence | np.ndarray) and is_missing(row)


def _triple(relation: Any, row: int, argument: str) -> tuple[int, int, Any]:
    if isinstance(relation, Mapping):
        # A struct of a frame.
        relation = tuple(relation.values())
    if isinstance(relation, Sequence | np.ndarray) and not isinstance(relation, str) and len(relation) == 3:
        first, second, kind = relation
        whole = all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in (first, second))
        if whole and (isinstance(kind, str) or is_missing(kind)):
            return int(first), int(second), str(kind) if isinstance(kind, str) else None
    raise TypeError(f"{argument} should have triples (i, j, kind), two whole numbers and a string; got {relation!r} at "
                    f"row {row}")  # fmt: skip


def _kinds(kinds: Any) -> list[str]:
    if isinstance(kinds, str) or not isinstance(kinds, Sequence | np.ndarray) or not len(kinds):
        raise TypeError(f"`classes` should be a list of the kinds of relations, strings; got {kinds!r}")
    found = [str(kind) if isinstance(kind, str) else kind for kind in kinds]
    wrong = next((kind for kind in found if not isinstance(kind, str)), None)
    if wrong is not None:
        raise TypeError(f"`classes`, the kinds of relations, should be strings; got {wrong!r}")
    if len(set(found)) < len(found) or "" in found or NONE in found:
        raise ValueError(
            f"`classes`, the kinds of relations, should differ, and none be empty or {NONE!r}; got {found}"
        )
    return found
