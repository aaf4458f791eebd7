"""Metrics of relations between positions: how many of those that are predicted are right, and how many are found."""

from __future__ import annotations

import numpy as np

from ..data import Rows
from ..data.pairs import Pairs
from ..values.ragged import Ragged
from . import predictions, trees
from .span_scores import share


class PairScores:
    """Counts of one task's relations over rows that come in parts, of all relations together: with kinds (labelled F1,
    in a tree the labelled attachment score) and without (unlabelled: Buchholz and Marsi, CoNLL-X Shared Task on
    Multilingual Dependency Parsing, 2006).
    """

    def __init__(self, pairs: Pairs, index: int, per: str) -> None:
        self._pairs = pairs
        self._index = index
        self._per = per
        self._right = self._attached = self._predicted = self._known = 0

    def add(self, rows: Rows, p: np.ndarray) -> None:
        """Takes up rows with the probabilities of their pairs `[pairs, 1 + kinds]`, end to end. Rows without labels or
        of weight 0 do not count; of a tree positions without a label do not, else pairs whose label is missing.
        """
        target = rows.targets[self._index]
        if target is None:
            return
        assert isinstance(target, Ragged)
        (positions,) = predictions.of(self._per, rows.fields)
        lengths = positions.lengths
        known = target.values[target.offsets[0] : target.offsets[-1]]
        row = np.repeat(np.arange(len(lengths)), target.lengths)
        absent = np.zeros(len(lengths), bool)
        absent[row[(known == -1).all(1)]] = True
        weights = rows.weights[self._index] if rows.weights else None
        if weights is not None:
            absent |= np.broadcast_to(weights.reshape(-1), len(lengths)) == 0
        found = trees.relations(p, lengths, self._pairs)
        ours = np.concatenate([*found, np.zeros((0, 3), np.int64)])
        our_row = np.repeat(np.arange(len(lengths)), [len(each) for each in found])
        width = max(int(lengths.max(initial=0)), 1)

        def key(triples: np.ndarray, row: np.ndarray) -> np.ndarray:
            return np.asarray((row * width + triples[:, 0]) * width + triples[:, 1])

        judged = ~absent[our_row]
        hidden = known[:, 2] < 0
        if self._pairs.tree:
            labelled = (row * width + known[:, 0])[~hidden]
            judged &= np.isin(our_row * width + ours[:, 0], labelled)
        else:
            judged &= ~np.isin(key(ours, our_row), key(known, row)[hidden])
        ours, our_row = ours[judged], our_row[judged]
        there = ~absent[row] & (known[:, 2] > 0)
        theirs, their_row = known[there], row[there]
        _, a, b = np.intersect1d(key(ours, our_row), key(theirs, their_row), assume_unique=True, return_indices=True)
        self._attached += len(a)
        self._right += int((ours[a, 2] == theirs[b, 2]).sum())
        self._predicted += len(ours)
        self._known += len(theirs)

    def values(self) -> dict[str, float]:
        """The metrics by name, NaN where there is nothing that they are a share of."""
        both = self._predicted + self._known
        return {
            "relation_f1": share(2 * self._right, both),
            "relation_precision": share(self._right, self._predicted),
            "relation_recall": share(self._right, self._known),
            "attachment": share(2 * self._attached, both),
        }
