"""Iterative stratification: rows or groups dealt out so that each label has its share in both parts."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ..values.known import is_missing

#: Numbers with more different values than this, some of them no whole ones, are cut at their deciles.
_MANY = 20
#: Orders of groups that are tried, and how near to what is wanted is near enough.
_ORDERS, _NEAR = 64, 0.01


def strata(values: np.ndarray, cut: bool) -> np.ndarray:
    """Which label each cell has, counted from 0, of the shape of the values; what is missing is a label of its own."""
    flat = values.reshape(-1)
    if flat.dtype.kind == "f":
        missing = np.isnan(flat)
        known = flat[~missing]
        distinct = np.unique(known)
        if cut and len(distinct) > _MANY and (known != np.round(known)).any():
            codes = np.searchsorted(np.unique(np.quantile(known, np.linspace(0, 1, 11)[1:-1])), flat, side="right")
        else:
            codes = np.searchsorted(distinct, flat)
        return np.where(missing, codes.max(initial=0) + 1, codes).reshape(values.shape)
    if flat.dtype.kind in "biuUSmM":
        return np.unique(flat, return_inverse=True)[1].reshape(values.shape)
    seen: dict[object, int] = {}
    plain = (None if is_missing(value) else value for value in flat.tolist())
    return np.fromiter((seen.setdefault(value, len(seen)) for value in plain), np.int64, len(flat)).reshape(
        values.shape
    )


def hold_out_by_label(
    columns: Sequence[np.ndarray], groups: np.ndarray | None, rows: int, fraction: float, rng: np.random.Generator
) -> np.ndarray:
    """The rows to hold out, so that each label of each column has its share; groups stay together.

    Sechidis et al.'s order: of the labels that are left the rarest first, each of its rows to the part that lacks most
    of it, or where both lack as much to the one that lacks most rows.
    """
    cells = _cells(columns, rows)
    held = _deal(_Units(cells, groups, rows), fraction, rng)
    return np.flatnonzero(held[groups] if groups is not None else held)


def hold_out_groups(groups: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """The rows to hold out: of groups in random order each by which they come nearer to the fraction, in the order of
    several that comes nearest; one at least, and not all.
    """
    sizes = np.bincount(groups)
    if len(sizes) < 2:
        return np.empty(0, np.int64)
    wanted = fraction * len(groups)
    best, least = [int(np.argmin(sizes))], float("inf")
    for _ in range(_ORDERS):
        held = _nearing(sizes, rng.permutation(len(sizes)), wanted)
        apart = abs(wanted - int(sizes[held].sum()))
        if 0 < len(held) < len(sizes) and apart < least:
            best, least = held, apart
        if least <= _NEAR * wanted:
            break
    return np.flatnonzero(np.isin(groups, best))


def _nearing(sizes: np.ndarray, order: np.ndarray, wanted: float) -> list[int]:
    """The groups, in this order, by which their rows come nearer to so many."""
    held = []
    for group in order.tolist():
        if abs(wanted - sizes[group]) < wanted:
            held.append(group)
            wanted -= sizes[group]
    return held


def _cells(columns: Sequence[np.ndarray], rows: int) -> np.ndarray:
    """A label's number in each cell, `[rows, cells]`, other numbers in each column; one for all without columns."""
    parts = []
    first = 0
    for column in columns:
        for each in column.reshape(rows, -1).T:
            parts.append(each + first)
            first += int(each.max(initial=-1)) + 1
    return np.stack(parts, axis=1) if parts else np.zeros((rows, 1), np.int64)


class _Units:
    """What is dealt out: its size, and how many cells it has of each label."""

    def __init__(self, cells: np.ndarray, groups: np.ndarray | None, rows: int) -> None:
        owner = np.arange(rows) if groups is None else groups
        self.sizes = np.bincount(owner)
        self.labels = int(cells.max(initial=-1)) + 1
        pairs, counts = np.unique(
            np.repeat(owner, cells.shape[1]) * self.labels + cells.reshape(-1), return_counts=True
        )
        self.unit = pairs // self.labels
        self.label = pairs % self.labels
        self.count = counts
        starts = np.searchsorted(self.unit, np.arange(len(self.sizes) + 1))
        names = self.label.tolist()
        amounts = counts.tolist()
        self.has = [list(zip(names[a:b], amounts[a:b], strict=True)) for a, b in pairwise(starts.tolist())]

    def of_label(self) -> list[np.ndarray]:
        """The units that have each label."""
        order = np.argsort(self.label, kind="stable")
        return np.split(self.unit[order], np.cumsum(np.bincount(self.label, minlength=self.labels))[:-1])


def _deal(units: _Units, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Whether each unit is held out."""
    rank = rng.permutation(len(units.sizes))
    totals = np.bincount(units.label, units.count, units.labels)
    lack = [((1 - fraction) * totals).tolist(), (fraction * totals).tolist()]
    rows = int(units.sizes.sum())
    room = [(1 - fraction) * rows, fraction * rows]
    part = np.full(len(units.sizes), -1)
    left = np.bincount(units.label, minlength=units.labels)
    members = units.of_label()
    sizes = units.sizes.tolist()
    while left.any():
        label = int(np.argmin(np.where(left > 0, left, np.iinfo(left.dtype).max)))
        open_ = members[label][part[members[label]] < 0]
        for unit in open_[np.argsort(rank[open_])].tolist():
            gain = lack[1][label] - lack[0][label] or room[1] - room[0]
            to = int(gain > 0)
            part[unit] = to
            room[to] -= sizes[unit]
            for each, count in units.has[unit]:
                lack[to][each] -= count
                left[each] -= 1
    return np.asarray(part == 1)
