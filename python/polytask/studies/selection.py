"""Which of many predictions to average: the greedy choice of an ensemble's members."""

from collections.abc import Callable, Sequence

import numpy as np


def greedy(
    pool: Sequence[np.ndarray], loss: Callable[[np.ndarray], float], most: int, enough: int = 4, first: int = 1
) -> tuple[list[int], float]:
    """How often each of a pool of predictions is to be taken, so that the loss of the mean is low: one after the other
    the one is added that lowers it most, or raises it least, any of them as often as it pays, and of all the means on
    the way the best counts (Caruana, Niculescu-Mizil, Crew and Ksikes, Ensemble Selection from Libraries of Models,
    ICML 2004). It begins with those that are best alone; several of them keep it from choosing what is good by chance,
    where the loss is of few rows.

    Arguments:
        pool: predictions in a form that can be averaged, all of one shape, and finite.
        loss: of a mean of them.
        most: members at most, counted as often as they are taken.
        enough: it ends after so many additions that brought nothing.
        first: how many of the pool it begins with.

    Returns:
        How often each is taken, and the loss of their mean; of an empty pool nothing, and infinity.
    """
    counts = [0] * len(pool)
    found, best = list(counts), float("inf")
    if not pool:
        return found, best
    # note: a NaN is no loss.
    alone = np.nan_to_num([loss(points) for points in pool], nan=np.inf)
    total = np.zeros_like(pool[0])
    for place in np.argsort(alone, kind="stable")[: min(first, most)]:
        counts[place] += 1
        total += pool[place]
    begun = loss(total / total.dtype.type(sum(counts)))
    if begun < best:
        found, best = list(counts), begun
    room = np.empty_like(total)
    since = 0
    for size in range(sum(counts) + 1, most + 1):
        values = []
        for points in pool:
            np.add(total, points, out=room)
            room /= room.dtype.type(size)
            values.append(loss(room))
        place = int(np.argmin(np.nan_to_num(values, nan=np.inf)))
        counts[place] += 1
        total += pool[place]
        since += 1
        if values[place] < best:
            found, best, since = list(counts), values[place], 0
        if since >= enough:
            break
    return found, best
