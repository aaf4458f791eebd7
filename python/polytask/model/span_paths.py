"""The likeliest tags of positions that are spans."""

import numpy as np

from ..data.spans import LETTERS, Spans


def likeliest(p: np.ndarray, offsets: np.ndarray, spans: Spans) -> np.ndarray:
    """The tags `[positions]` of rows that lie end to end whose probabilities `p`, `[positions, tags]`, have the largest
    product, among those that are spans (posterior-Viterbi: Fariselli, Martelli and Casadio, A New Decoding Algorithm
    for Hidden Markov Models Improves the Prediction of the Topology of All-beta Membrane Proteins, BMC Bioinformatics
    2005). Of paths that are equally likely one is taken.

    A position of all rows at a time, the longest first. A tag either begins something, and then all tags behind which
    nothing goes on may come before it, of which the best counts; or it goes on with a span, and then B or I of its own
    kind. So a position takes time in proportion to its tags, and not to their square.
    """
    lengths = np.diff(offsets)
    order = np.argsort(-lengths, kind="stable")
    begins = offsets[:-1][order]
    #: Rows that have more positions than this.
    beyond = len(lengths) - np.searchsorted(np.sort(lengths), np.arange(lengths.max(initial=0)), side="right")
    letters, kinds, tags = len(LETTERS[spans.scheme]), len(spans.kinds), len(spans.tags)
    least = np.finfo(np.float64).tiny
    closed = np.flatnonzero(spans.ends)
    #: What comes before a position's tag, if that begins something, and else which of B and I of its kind.
    before = np.zeros(len(p), np.int32)
    inner = np.zeros((len(p), kinds), bool)
    found = np.zeros(len(p), np.int64)
    score = np.zeros((0, tags))
    for t, rows in enumerate(beyond.tolist()):
        here = begins[:rows] + t
        own = np.log(np.maximum(p[here].astype(np.float64), least))
        if t == 0:
            own[:, ~spans.starts] = -np.inf
        else:
            # A row that ends here has its last tag already.
            score = score[:rows]
            best = closed[score[:, closed].argmax(1)]
            opened = score[:, 1:].reshape(rows, kinds, letters)[:, :, :2]
            before[here], inner[here] = best, opened[:, :, 1] > opened[:, :, 0]
            came = np.repeat(score[np.arange(rows), best][:, None], tags, 1)
            came[:, spans.continues] = np.repeat(opened.max(2), letters // 2, 1)
            own += came
        score = own
        ending = beyond[t + 1] if t + 1 < len(beyond) else 0
        last = np.where(spans.ends, score[ending:], -np.inf)
        found[here[ending:]] = last.argmax(1)
    for t in range(len(beyond) - 1, 0, -1):
        here = begins[: beyond[t]] + t
        tag = found[here]
        kind = np.maximum(spans.of_kinds[tag], 0)
        within = 1 + kind * letters + inner[here, kind]
        found[here - 1] = np.where(spans.continues[tag], within, before[here])
    return found
