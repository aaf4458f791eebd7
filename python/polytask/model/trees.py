"""Relations from probabilities of pairs: each pair by itself, or the likeliest tree."""

import numpy as np

from ..data.pairs import Pairs, cycles

#: The least probability that is told from none.
_TINY = np.finfo(np.float64).tiny


def relations(p: np.ndarray, lengths: np.ndarray, pairs: Pairs) -> list[np.ndarray]:
    """Places `[relations, 3]` of what each row's pairs are in, from probabilities `p`, `[pairs, 1 + kinds]`, of rows
    that lie end to end, those of `n` positions with `n * n` pairs.
    """
    ends = np.cumsum(lengths**2)
    kinds = 1 + p[:, 1:].argmax(1)
    related = p[np.arange(len(p)), kinds] > p[:, 0]
    found = []
    for end, count in zip(ends.tolist(), lengths.tolist(), strict=True):
        rows = slice(end - count * count, end)
        if pairs.tree:
            first = np.arange(count)
            second = heads(p[rows, 1:].sum(1, dtype=np.float64).reshape(count, count))
        else:
            first, second = np.nonzero(related[rows].reshape(count, count))
        found.append(np.stack([first, second, kinds[rows].reshape(count, count)[first, second]], 1))
    return found


def heads(p: np.ndarray) -> np.ndarray:
    """The head of each position, `[n]`, by the tree whose arcs `p` `[n, n]`, from positions to their heads, have the
    largest product, the root being its own (Chu and Liu, On the Shortest Arborescence of a Directed Graph, Science
    Sinica 1965; Edmonds, Optimum Branchings, Journal of Research of the National Bureau of Standards 1967).

    So that there is one root, what an arc from it costs outweighs all else.
    """
    count = len(p)
    greedy = p.argmax(1) if count else np.zeros(0, np.int64)
    if (greedy == np.arange(count)).sum() == 1 and not cycles(greedy).any():
        return greedy
    scores = np.log(np.maximum(p, _TINY))
    whole = np.full((count + 1, count + 1), -np.inf)
    whole[1:, 1:] = scores
    cost = 1.0 + count * (scores.max(initial=0.0) - scores.min(initial=0.0))
    whole[1:, 0] = scores.diagonal() - cost
    np.fill_diagonal(whole, -np.inf)
    found = _arborescence(whole)[1:] - 1
    return np.asarray(np.where(found < 0, np.arange(count), found))


def _arborescence(scores: np.ndarray) -> np.ndarray:
    """The head of each node but the first, of the arborescence from there with the largest sum of `scores` `[n, n]`, of
    nodes and their heads.
    """
    count = len(scores)
    best: np.ndarray = scores.argmax(1)
    best[0] = 0
    ring = cycles(best)
    if not ring.any():
        return best
    # One cycle at a time: that of the first position which is on one.
    start = int(ring.argmax())
    cycle = [start]
    while best[cycle[-1]] != start:
        cycle.append(int(best[cycle[-1]]))
    on = np.array(cycle)
    others = np.setdiff1d(np.arange(count), on)
    kept = scores[on, best[on]]
    into = scores[np.ix_(on, others)] - kept[:, None]
    out_of = scores[np.ix_(others, on)]
    smaller = np.full((len(others) + 1, len(others) + 1), -np.inf)
    smaller[:-1, :-1] = scores[np.ix_(others, others)]
    smaller[-1, :-1] = into.max(0)
    smaller[:-1, -1] = out_of.max(1)
    of_smaller = _arborescence(smaller)
    found = best.copy()
    for place, node in enumerate(others.tolist()):
        head = int(of_smaller[place])
        found[node] = on[out_of[place].argmax()] if head == len(others) else others[head]
    entered = int(of_smaller[-1])
    found[on[into[:, entered].argmax()]] = others[entered]
    found[0] = 0
    return np.asarray(found)
