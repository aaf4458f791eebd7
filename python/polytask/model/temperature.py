"""Temperatures of classification tasks: how far logits are divided for probabilities to be what they say."""

from collections.abc import Callable

import numpy as np

#: Temperatures that are looked at; a likelihood without a maximum between them has none that means anything.
LIMITS = (0.01, 100.0)
_STEPS = 100


def fitted(kind: str, raw: np.ndarray, known: np.ndarray, weights: np.ndarray) -> float | None:
    """The temperature `T` with the lowest weighted negative log-likelihood of `raw / T` (Guo, Pleiss, Sun and
    Weinberger, On Calibration of Modern Neural Networks, ICML 2017), in double precision.

    The likelihood is looked at as a function of `1 / T`, in which it is convex, so that its slope has one zero: Newton
    steps find it, and the middle of what is left of the range wherever one would leave it.

    Arguments:
        kind: of the labels, "classes", "ordinal" or "binary".
        raw: logits `[rows, classes]`, those of `pt.loss.Ordinal`, `[rows, classes - 1]`, or `[rows, labels]` of binary
            labels; each has one temperature for all of them.
        known: classes `[rows]` with -1 where missing, or labels `[rows, labels]` with NaN.
        weights: `[rows]`, those of the rows.

    Returns:
        None where nothing is known, and where the likelihood has no maximum between the limits: the rows are all
        predicted right, or what is predicted says nothing of them.
    """
    logits, labels, share = _labelled(kind, raw, known, weights)
    if not len(labels):
        return None
    slopes: Callable[[float], tuple[float, float]] = lambda beta: _slopes(kind, logits, labels, share, beta)  # noqa: E731
    low, high = 1 / LIMITS[1], 1 / LIMITS[0]
    if slopes(low)[0] >= 0 or slopes(high)[0] <= 0:
        return None
    beta = 1.0
    for _ in range(_STEPS):
        first, second = slopes(beta)
        low, high = (beta, high) if first < 0 else (low, beta)
        new = beta - first / second if second > 0 else low
        new = new if low < new < high else 0.5 * (low + high)
        if first == 0 or abs(new - beta) <= 1e-12 * beta:
            break
        beta = new
    return 1 / beta


def likelihood(kind: str, raw: np.ndarray, known: np.ndarray, weights: np.ndarray, temperature: float = 1.0) -> float:
    """The weighted mean of the negative log-likelihood of the labelled rows (or cells) at a temperature, in nats."""
    logits, labels, share = _labelled(kind, raw, known, weights)
    z = logits / temperature
    if kind == "binary":
        each = np.logaddexp(0.0, z) - labels * z
    elif kind == "ordinal":
        past, asked = _steps(z, labels)
        each = (asked * (np.logaddexp(0.0, z) - past * z)).sum(axis=1)
    else:
        top = z.max(axis=1)
        each = np.log(np.exp(z - top[:, None]).sum(axis=1)) + top - z[np.arange(len(z)), labels]
    return float(share @ each)


def probabilities(kind: str, raw: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """What logits mean at a temperature, in double precision."""
    z = raw.astype(np.float64) / temperature
    if kind == "binary":
        return np.asarray(np.exp(-np.logaddexp(0.0, -z)))
    if kind == "ordinal":
        ones = np.ones((len(z), 1))
        beyond = np.cumprod(np.exp(-np.logaddexp(0.0, -z)), axis=1)
        return np.asarray(np.hstack([ones, beyond]) * np.hstack([np.exp(-np.logaddexp(0.0, z)), ones]))
    odds = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def judged(
    kind: str, p: np.ndarray, known: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is said, whether it is so, and how much that counts (weights that sum to 1), of each labelled row or cell:
    the probability of the likeliest class, and of binary labels that of a 1.
    """
    said, labels, share = _labelled(kind, p, known, weights)
    if kind == "binary":
        return said, labels, share
    return said.max(axis=1), (said.argmax(axis=1) == labels).astype(np.float64), share


def _labelled(
    kind: str, outputs: np.ndarray, known: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outputs, labels and weights, which sum to 1, of what has a label: rows, or cells of binary labels."""
    if kind == "binary":
        there = ~np.isnan(known) & (weights[:, None] > 0)
        share = np.broadcast_to(weights[:, None], known.shape)[there]
        labels = known[there]
    else:
        there = (known >= 0) & (weights > 0)
        share = weights[there]
        labels = known[there]
    return outputs[there].astype(np.float64), labels, share / share.sum() if len(share) else share


def _steps(z: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of ordered classes, whether a label is more than each class but the last, and whether it is at least that."""
    steps = np.arange(z.shape[1])
    return steps < labels[:, None], steps <= labels[:, None]


def _slopes(kind: str, logits: np.ndarray, labels: np.ndarray, share: np.ndarray, beta: float) -> tuple[float, float]:
    """The first and the second derivative of the mean negative log-likelihood, at `1 / T`."""
    if kind == "ordinal":
        past, asked = _steps(logits, labels)
        p = probabilities("binary", logits, 1 / beta)
        first = (asked * logits * (p - past)).sum(axis=1)
        return float(share @ first), float(share @ (asked * logits * logits * p * (1 - p)).sum(axis=1))
    p = probabilities(kind, logits, 1 / beta)
    if kind == "binary":
        return float(share @ (logits * (p - labels))), float(share @ (logits * logits * p * (1 - p)))
    mean = (p * logits).sum(axis=1)
    right = logits[np.arange(len(logits)), labels]
    return float(share @ (mean - right)), float(share @ ((p * logits * logits).sum(axis=1) - mean * mean))
