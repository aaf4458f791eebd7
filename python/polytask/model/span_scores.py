"""Metrics of spans: how many of those that are predicted are right, and how many are found."""

from __future__ import annotations

import math

import numpy as np

from ..data import Rows, Spans, labels
from ..values.ragged import Ragged
from . import span_paths


class SpanScores:
    """Counts of one task's spans over rows that come in parts. One is right if start, end and kind are, as by the
    measure of CoNLL (Tjong Kim Sang and De Meulder, Introduction to the CoNLL-2003 Shared Task, 2003), of all spans
    together.
    """

    def __init__(self, spans: Spans, index: int) -> None:
        self._spans = spans
        self._index = index
        self._right = self._predicted = self._known = 0

    def add(self, rows: Rows, p: np.ndarray) -> None:
        """Takes up rows with the probabilities of their positions' tags `[positions, tags]`, end to end. Rows without
        labels, of which a label is missing, or of weight 0 do not count.
        """
        target = rows.targets[self._index]
        if target is None:
            return
        assert isinstance(target, Ragged)
        known = labels.unified(target, None, "classes")
        assert known is not None
        lengths = target.lengths
        row = np.repeat(np.arange(len(lengths)), lengths)
        counts = np.bincount(row[known < 0], minlength=len(lengths)) == 0
        weights = rows.weights[self._index] if rows.weights else None
        if weights is not None:
            counts &= np.broadcast_to(weights.reshape(-1), len(lengths)) != 0
        there = counts[row]
        offsets = np.concatenate([[0], np.cumsum(lengths[counts])])
        tags = span_paths.likeliest(p[there], offsets, self._spans)
        ours = self._spans.found(tags, offsets)
        theirs = self._spans.found(known[there], offsets)
        # No two of one side begin at one position.
        _, a, b = np.intersect1d(ours.starts, theirs.starts, assume_unique=True, return_indices=True)
        self._right += int(((ours.ends[a] == theirs.ends[b]) & (ours.kinds[a] == theirs.kinds[b])).sum())
        self._predicted += len(ours.starts)
        self._known += len(theirs.starts)

    def values(self) -> dict[str, float]:
        """The metrics by name, NaN where there is nothing that they are a share of."""
        return {
            "span_f1": share(2 * self._right, self._predicted + self._known),
            "span_precision": share(self._right, self._predicted),
            "span_recall": share(self._right, self._known),
        }


def share(part: int, whole: int) -> float:
    """A part of a whole, NaN of none."""
    return part / whole if whole else math.nan
