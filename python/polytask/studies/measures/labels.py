"""How labels of pairs of tasks go together, on rows that have both."""

import math

import numpy as np

from ...data import labels
from ...results.relatedness import Relatedness
from ..study import Study

#: Standard errors from 0 below which a correlation is taken as none.
_CRITICAL = 2.0

ABOUT = (
    "Correlations of labels on rows that have both: phi of binary labels and Pearson's of values, which have a sign, "
    "Cramér's V of classes, the correlation ratio of classes and values, the root of the RV coefficient where a task "
    "has several labels. They know nothing of features: tasks with independent labels may share all features, and "
    "noise that two labels share is no reason to train them together."
)


def measure(study: Study) -> Relatedness:
    """Correlations of the labels of the training rows."""
    columns = [_columns(study, j) for j in range(len(study.tasks))]
    count = len(columns)
    matrix = np.full((count, count), np.nan)
    errors = np.full((count, count), np.nan)
    common = np.zeros((count, count), np.int64)
    for i in range(count):
        for j in range(i + 1):
            both = _known(columns[i]) & _known(columns[j])
            common[i, j] = common[j, i] = both.sum()
            value = 1.0 if i == j else _together(columns[i][both], columns[j][both])
            matrix[i, j] = matrix[j, i] = value
            if i != j and common[i, j] > 3:
                errors[i, j] = errors[j, i] = (1 - value * value) / math.sqrt(common[i, j] - 1)
    floor = np.where(common > 3, _CRITICAL / np.sqrt(np.maximum(common - 1, 1)), 0.0)
    apart = [f"{study.tasks[i]} and {study.tasks[j]}" for i in range(count) for j in range(i) if common[i, j] == 0]
    about = ABOUT if not apart else f"{ABOUT} No row has labels of both {', of both '.join(apart)}."
    return Relatedness("labels", about, study.tasks, matrix, errors, floor=floor, parts={"rows": common})


def _columns(study: Study, j: int) -> np.ndarray:
    """A task's labels as columns `[rows, columns]`: values, 0 and 1, or one of 0 and 1 a class; NaN where missing."""
    rows = study.train
    task = study.model.tasks[j]
    found = labels.unified(rows.targets[j], rows.masks[j] if rows.masks else None, study.model.kinds[j])
    if found is None:
        return np.full((len(rows), 1), np.nan)
    if task.per is not None:
        raise ValueError(f"task `{task.name}`: `labels` is for labels of rows; got labels of {task.per}")
    if task.classes is None:
        values: np.ndarray = np.asarray(found, np.float64).reshape(len(rows), -1)
        return values
    codes = np.asarray(found, np.int64).reshape(-1)
    first = 1 if task.classes == 2 else 0
    ones = np.where(codes[:, None] == np.arange(first, task.classes), 1.0, 0.0)
    ones[codes < 0] = np.nan
    return ones


def _known(columns: np.ndarray) -> np.ndarray:
    known: np.ndarray = ~np.isnan(columns).any(axis=1)
    return known


def _together(first: np.ndarray, second: np.ndarray) -> float:
    """The correlation of two tasks' columns `[rows, columns]`."""
    if len(first) < 2:
        return math.nan
    first = first - first.mean(0)
    second = second - second.mean(0)
    if first.shape[1] == second.shape[1] == 1:
        scale = math.sqrt(float((first**2).sum()) * float((second**2).sum()))
        return float((first * second).sum()) / scale if scale > 0 else math.nan
    if _classes(first) or _classes(second):
        return _of_classes(first, second)
    # RV coefficient (Robert and Escoufier, Applied Statistics 1976) of covariances.
    across, ours, theirs = first.T @ second, first.T @ first, second.T @ second
    scale = math.sqrt(float((ours**2).sum()) * float((theirs**2).sum()))
    return math.sqrt(float((across**2).sum()) / scale) if scale > 0 else math.nan


def _classes(columns: np.ndarray) -> bool:
    """Whether centred columns are those of classes, one of which each row is: they sum to 0."""
    return columns.shape[1] > 1 and bool(np.abs(columns.sum(1)).max() < 1e-9)


def _of_classes(first: np.ndarray, second: np.ndarray) -> float:
    """Cramér's V (Mathematical Methods of Statistics, 1946) of two tasks of classes, and with values the correlation
    ratio (Pearson 1905): both are the trace of the shares of variance that either explains of the other, over the
    smaller number of dimensions.
    """
    across = first.T @ second
    explained = np.linalg.pinv(first.T @ first) @ across @ np.linalg.pinv(second.T @ second) @ across.T
    dimensions = min(np.linalg.matrix_rank(first), np.linalg.matrix_rank(second))
    return math.sqrt(min(1.0, max(0.0, float(np.trace(explained)) / dimensions))) if dimensions else math.nan
