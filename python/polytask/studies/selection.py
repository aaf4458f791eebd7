"""Which of many predictions to average: the greedy choice of an ensemble's members."""

from collections.abc import Callable, Sequence

import numpy as np


def greedy(
    pool: Sequence[np.ndarray], loss: Callable[[np.ndarray], float], most: int, enough: int = 4
) -> tuple[list[int], float]:
    """How often each of a pool of predictions is to be taken, so that the loss of the mean is low: one after the other
    the one is added that lowers it most, or raises it least, any of them as often as it pays, and of all the means on
    the way the best counts (Caruana, Niculescu-Mizil, Crew and Ksikes, Ensemble Selection from Libraries of Models,
    ICML 2004).

    Arguments:
        pool: predictions in a form that can be averaged, all of one shape, and finite.
        loss: of a mean of them.
        most: members at most, counted as often as they are taken.
        enough: it ends after so many additions that brought nothing.

    Returns:
        How often each is taken, and the loss of their mean; of an empty pool nothing, and infinity.
    """
    counts = [0] * len(pool)
    found, best = list(counts), float("inf")
    if not pool:
        return found, best
    total = np.zeros_like(pool[0])
    room = np.empty_like(total)
    since = 0
    for size in range(1, most + 1):
        values = []
        for points in pool:
            np.add(total, points, out=room)
            room /= room.dtype.type(size)
            values.append(loss(room))
        # note: a NaN is no loss.
        place = int(np.argmin(np.nan_to_num(values, nan=np.inf)))
        counts[place] += 1
        total += pool[place]
        since += 1
        if values[place] < best:
            found, best, since = list(counts), values[place], 0
        if since >= enough:
            break
    return found, best
