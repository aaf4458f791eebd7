"""Jacobians of every kind, and what the published problems have as answers on them, from first principles.

Every number is a small multiple of a power of two, so that `float32` and `float64` hold the same matrices.
"""

import numpy as np
from scipy.optimize import brentq, nnls

TASKS = (2, 3, 5, 8, 16, 40)
PARAMETERS = 96


def _grid(rng, *shape):
    """Normal numbers in steps of 1/16."""
    return np.round(rng.normal(size=shape) * 16) / 16


def random(tasks, rng):
    """Independent rows of different lengths."""
    return _grid(rng, tasks, PARAMETERS) * 2.0 ** rng.integers(-2, 3, tasks)[:, None]


def conflicting(tasks, rng):
    """Neighbours point away from each other; rows stay independent."""
    return _grid(rng, tasks, PARAMETERS) + 2 * np.outer((-1.0) ** np.arange(tasks), _grid(rng, PARAMETERS))


def low_rank(tasks, rng):
    """Half as many dimensions as tasks, conflicts in all of them but one."""
    rank = max(1, tasks // 2)
    factors = _grid(rng, tasks, rank)
    factors[:, 0] = np.abs(factors[:, 0]) + 0.25
    return factors @ (np.round(rng.normal(size=(rank, PARAMETERS)) * 4) / 4)


def nearly_dependent(tasks, rng):
    """Copies of two opposed rows, different in one part in 256."""
    pair = _grid(rng, 2, PARAMETERS)
    pair[1] -= 2 * pair[0]
    return pair[np.arange(tasks) % 2] + _grid(rng, tasks, PARAMETERS) / 256


def nearly_opposed(tasks, rng):
    """One row and its opposite, again and again, different in one part in 256."""
    return np.outer((-1.0) ** np.arange(tasks), _grid(rng, PARAMETERS)) + _grid(rng, tasks, PARAMETERS) / 256


def stationary(tasks, rng):
    """A positive combination of the rows is zero, and conflicts are strong."""
    rows = _grid(rng, tasks - 1, PARAMETERS)
    return np.vstack([rows, -(2.0 ** rng.integers(-1, 2, tasks - 1)) @ rows])


KINDS = {each.__name__: each for each in (random, conflicting, low_rank, nearly_dependent, nearly_opposed, stationary)}


def jacobian(kind, tasks, seed=0):
    """The Jacobian `[tasks, parameters]` of this kind."""
    return KINDS[kind](tasks, np.random.default_rng([seed, tasks]))


def distance(found, expected, jacobian):
    """Relative to the expected direction, and where that vanishes to a thousandth of the rows."""
    size = max(np.linalg.norm(expected), 1e-3 * np.linalg.norm(jacobian, axis=1).mean())
    return np.linalg.norm(np.asarray(found) - expected) / size


def dual_cone_projection(jacobian, weights):
    """The point nearest to `J^T weights` that conflicts with no row: `J^T (weights + a)` for the best `a >= 0`."""
    start = jacobian.T @ weights
    scale = np.linalg.norm(jacobian)
    added, _ = nnls(jacobian.T / scale, -start / scale, maxiter=10_000)
    return start + jacobian.T @ added


def upgrad(jacobian):
    """Mean of the rows, each projected on the dual cone."""
    return np.mean([dual_cone_projection(jacobian, unit) for unit in np.eye(len(jacobian))], axis=0)


def dualproj(jacobian):
    """The rows' mean, projected on the dual cone."""
    return dual_cone_projection(jacobian, np.full(len(jacobian), 1 / len(jacobian)))


def minimum_norm(jacobian):
    """The shortest convex combination of rows: least squares with the sum of weights as one more equation."""
    scale = np.linalg.norm(jacobian, axis=1).mean()
    weights, _ = nnls(np.vstack([jacobian.T / scale, np.ones(len(jacobian))]), np.eye(jacobian.shape[1] + 1)[-1])
    return jacobian.T @ (weights / weights.sum())


def cagrad(jacobian, c=0.5):
    """`g_0 + s g_w` with `s |g_w| = c |g_0|`: for a given `s`, `g_w` is the point of the hull nearest to `-g_0 / s`."""
    mean = jacobian.mean(axis=0)
    radius = c * np.linalg.norm(mean)
    if radius == 0:
        return mean

    def combined(s):
        return minimum_norm(jacobian + mean / s) - mean / s

    s = brentq(lambda log_s: np.exp(log_s) * np.linalg.norm(combined(np.exp(log_s))) - radius, -30, 30, xtol=1e-14)
    return mean + np.exp(s) * combined(np.exp(s))


def aligned_mtl(jacobian, scale=np.min):
    """All singular values the same: `scale` of those that are not zero in the precision of `float32` Gramians."""
    left, values, right = _svd(jacobian, np.sqrt(len(jacobian) * np.finfo(np.float32).eps))
    return scale(values) * right.T @ left.mean(axis=0)


def imtl_g(jacobian):
    """Equal projections on all rows, weights that sum to one: `v / sum(v)` with `v = pinv(G) |g|`."""
    left, values, _ = _svd(jacobian)
    weights = left @ (left.T @ np.linalg.norm(jacobian, axis=1) / values**2)
    return jacobian.T @ (weights / weights.sum())


def config(jacobian):
    """Equal projections on all unit rows, as long as the rows' projections sum to."""
    left, values, right = _svd(jacobian / np.linalg.norm(jacobian, axis=1, keepdims=True))
    direction = right.T @ (left.sum(axis=0) / values)
    length = np.linalg.norm(direction)
    return (jacobian @ direction).sum() / length * direction / length if length > 1e-9 else 0 * direction


def pcgrad(jacobian, orders):
    """Sum of the rows, each projected off the rows it conflicts with in this order."""
    total = np.zeros(jacobian.shape[1])
    for row, order in zip(jacobian, orders, strict=True):
        changed = row.copy()
        for other in order:
            product = changed @ jacobian[other]
            if product < 0:
                changed -= product / (jacobian[other] @ jacobian[other]) * jacobian[other]
        total += changed
    return total


def krum(jacobian, byzantine=1, selected=1):
    """Weights of the mean of the rows with the smallest sums of squared distances to their neighbours."""
    squared = ((jacobian[:, None] - jacobian[None]) ** 2).sum(axis=2)
    scores = np.sort(squared, axis=1)[:, 1 : len(jacobian) - byzantine - 1].sum(axis=1)
    weights = np.zeros(len(jacobian))
    weights[np.argsort(scores, kind="stable")[:selected]] = 1 / selected
    return weights


def _svd(matrix, precision=1e-9):
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    rank = (values > values[0] * precision).sum()
    return left[:, :rank], values[:rank], right[:rank]
