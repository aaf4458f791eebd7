"""Metrics of lists: how high those positions of a row stand that are relevant."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..data import Rows, labels
from ..values.ragged import Ragged


class RankScores:
    """Sums over the lists of one task's rows that come in parts, each the positions of a row whose relevance is known.
    Lists without a relevant position, and rows of weight 0, do not count.

    `ndcg` is the discounted cumulative gain, `sum of relevance / log2(rank + 1)`, over the largest there can be
    (Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques, TOIS 2002), of the first ten ranks in
    `ndcg@10`; of equal scores each has the mean over their ranks, as in scikit-learn. `mrr` is 1 over the rank of the
    first relevant position (Voorhees, The TREC-8 Question Answering Track Report, 1999), which comes behind others of
    an equal score.
    """

    def __init__(self, names: Sequence[str], index: int) -> None:
        self._sums = dict.fromkeys(names, 0.0)
        self._index = index
        self._lists = 0

    def add(self, rows: Rows, scores: np.ndarray) -> None:
        """Takes up rows with the scores of their positions `[positions, outputs]`, end to end."""
        target = rows.targets[self._index]
        if target is None:
            return
        assert isinstance(target, Ragged)
        known = labels.unified(target, None, "values")
        assert known is not None
        row = np.repeat(np.arange(len(target.lengths)), target.lengths)
        weights = rows.weights[self._index] if rows.weights else None
        counts = np.ones(len(row), bool)
        if weights is not None:
            counts = np.broadcast_to(weights.reshape(-1) != 0, len(target.lengths))[row]
        for y, score in zip(known.T, scores.T, strict=True):
            there = counts & ~np.isnan(y)
            self._add(row[there], y[there].astype(np.float64), score[there])

    def _add(self, row: np.ndarray, y: np.ndarray, score: np.ndarray) -> None:
        if not len(row):
            return
        best = y[np.lexsort((-y, row))]
        order = np.lexsort((-score, row))
        row, y, score = row[order], y[order], score[order]
        begins = np.concatenate([[True], row[1:] != row[:-1]])
        first = np.flatnonzero(begins)[np.cumsum(begins) - 1]
        place = np.arange(len(row)) - first
        # Equal scores of a list are a group, whose positions have what the group has on average.
        new = begins | np.concatenate([[True], score[1:] != score[:-1]])
        group = np.cumsum(new) - 1
        gain = (np.bincount(group, y) / np.bincount(group))[group]
        there = np.bincount(row, y) > 0
        self._lists += int(there.sum())
        for name in self._sums.keys() - {"mrr"}:
            most = int(name.partition("@")[2] or len(row))
            discount = np.where(place < most, 1 / np.log2(place + 2), 0.0)
            shares = np.bincount(row, gain * discount)[there] / np.bincount(row, best * discount)[there]
            self._sums[name] += float(shares.sum())
        if "mrr" not in self._sums:
            return
        # Behind what is above the group, and what of the group is not relevant.
        rank = np.flatnonzero(new)[group] - first + np.bincount(group, y <= 0)[group] + 1
        highest = np.full(len(there), np.inf)
        np.minimum.at(highest, row[y > 0], rank[y > 0])
        self._sums["mrr"] += float((1 / highest[there]).sum())

    def values(self) -> dict[str, float]:
        """The metrics by name, means over lists, NaN where there is none."""
        return {name: value / self._lists if self._lists else math.nan for name, value in self._sums.items()}
