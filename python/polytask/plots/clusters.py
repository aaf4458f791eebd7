"""Hierarchical clustering of few things by how alike they are, and its drawing."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Merge(NamedTuple):
    """Two clusters that become one; numbers below the count of things are the things, the others earlier merges."""

    first: int
    second: int
    distance: float


def merges(distances: np.ndarray) -> list[Merge]:
    """The merges of average linkage (Sokal and Michener, University of Kansas Science Bulletin, 1958) over symmetric
    `[things, things]` distances, nearest first; what is not known counts as the farthest.
    """
    count = len(distances)
    between = np.array(distances, np.float64)
    known = between[~np.isnan(between) & ~np.eye(count, dtype=bool)]
    between[np.isnan(between)] = known.max() if len(known) else 0.0
    np.fill_diagonal(between, np.inf)
    names = list(range(count))
    sizes = [1] * count
    found = list[Merge]()
    while len(names) > 1:
        first, second = sorted(np.unravel_index(np.argmin(between), between.shape))
        found.append(Merge(names[first], names[second], float(between[first, second])))
        joined = (sizes[first] * between[first] + sizes[second] * between[second]) / (sizes[first] + sizes[second])
        between[first] = between[:, first] = joined
        between[first, first] = np.inf
        between = np.delete(np.delete(between, second, 0), second, 1)
        sizes[first] += sizes.pop(second)
        names[first] = count + len(found) - 1
        names.pop(second)
    return found


def order(each: Sequence[Merge], count: int) -> list[int]:
    """The things in an order in which no lines of the tree cross."""
    members = {at: [at] for at in range(count)}
    for at, merge in enumerate(each, count):
        members[at] = members[merge.first] + members[merge.second]
    return members[count + len(each) - 1] if count else []


def tree(axis: Any, each: Sequence[Merge], count: int) -> None:
    """Draws the merges above a picture whose columns are the things in their order."""
    places: dict[int, tuple[float, float]] = {}
    for column, thing in enumerate(order(each, count)):
        places[thing] = float(column), 0.0
    lowest = min((merge.distance for merge in each), default=0.0)
    for at, merge in enumerate(each, count):
        (left, below), (right, beside) = places[merge.first], places[merge.second]
        # Distances may be below 0, as those of gains are.
        height = merge.distance - min(lowest, 0.0)
        axis.plot([left, left, right, right], [below, height, height, beside], color="0.4", linewidth=1)
        places[at] = 0.5 * (left + right), height
    axis.set_xlim(-0.5, count - 0.5)
    axis.set_axis_off()
