"""What is reached without learning anything from features."""

import numpy as np

from ..data import Rows, labels
from .study import Study


def constant(study: Study, rows: Rows, place: int) -> float | None:
    """The loss of the best constant for a task on these rows, for losses of which it is known: the entropy of classes
    and of binary labels, the variance of values; none for another loss, or where labels have weights.
    """
    task = study.model.tasks[place]
    described = task.describe()["loss"]
    weights = rows.weights[place] if rows.weights else None
    if task.per is not None or weights is not None or len(described) > 1:
        return None
    target = rows.scaled[place] if rows.scaled and rows.scaled[place] is not None else rows.targets[place]
    found = labels.unified(target, rows.masks[place] if rows.masks else None, study.model.kinds[place])
    if found is None:
        return None
    if described["name"] == "cross_entropy":
        codes = np.asarray(found, np.int64).reshape(-1)
        shares = np.bincount(codes[codes >= 0], minlength=1) / max(int((codes >= 0).sum()), 1)
        return _entropy(shares)
    values = np.asarray(found, np.float64).reshape(len(rows), -1)
    known = ~np.isnan(values)
    if not known.any():
        return None
    counts = known.sum(0)
    means = np.where(known, values, 0.0).sum(0) / np.maximum(counts, 1)
    if described["name"] == "mean_squared":
        each = (np.where(known, values - means, 0.0) ** 2).sum(0)
    elif described["name"] == "binary_cross_entropy":
        each = np.array([_entropy(np.array([share, 1 - share])) for share in means]) * counts
    else:
        return None
    return float(each.sum() / counts.sum())


def _entropy(shares: np.ndarray) -> float:
    known = shares[shares > 0]
    return float(-(known * np.log(known)).sum())
