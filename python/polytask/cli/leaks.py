"""Columns that alone predict a task nearly perfectly, as those do that are made from it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data.task import Task

#: AUC, or R2, on held-out rows, above which a column is named.
LIMIT = 0.98
_BINS = 64
_FEWEST = 20


def found(train: Any, held_out: Any, tasks: list[Task], columns: list[str]) -> list[str]:
    """Sentences on columns, or single bins of them, that alone predict a task on the rows held out."""
    sentences = []
    for task in tasks:
        for column in columns:
            score, where = _score(train, held_out, task, column)
            if score > LIMIT:
                called = "AUC" if task.classes else "R2"
                what = "column" if where is None else f"whether it is {where}, of column"
                how = f"{called} {score:.4f} on held-out rows"
                sentences.append(f"{what} `{column}` alone predicts `{task.name}` with {how}: was it known before?")
    return [sentence[0].upper() + sentence[1:] for sentence in sentences]


def _score(train: Any, held_out: Any, task: Task, column: str) -> tuple[float, str | None]:
    """The score of predicting each bin's mean label, and the single bin that does as well, if one does."""
    ours, theirs = (part[part[task.name].notna()] for part in (train, held_out))
    if len(ours) < _FEWEST or len(theirs) < _FEWEST:
        return 0.0, None
    codes, others, names = _bins(ours[column], theirs[column])
    best: tuple[float, str | None] = (0.0, None)
    labels: list[Any] = [None] if task.labels is None else list(task.labels)
    for label in labels:
        if label is None:
            y, z = (np.asarray(part[task.name], np.float64) for part in (ours, theirs))
        else:
            y, z = (np.asarray(part[task.name] == label, np.float64) for part in (ours, theirs))
        if z.std() == 0 or (label is not None and min(z.sum(), len(z) - z.sum()) < _FEWEST):
            # Of few rows any score comes out.
            continue
        sums = np.bincount(codes, y, len(names))
        counts = np.bincount(codes, minlength=len(names))
        means = np.where(counts > 0, sums / np.maximum(counts, 1), y.mean())
        score = _r2(means[others], z) if label is None else _auc(means[others], z)
        if label is None and score <= LIMIT:
            # Of a long tail the last bin has nearly all of the variance.
            score = max(score, _r2_of_ranks(codes, others, y, z))
        if score > best[0]:
            best = score, None
        if label is not None and score <= LIMIT:
            extreme = int(np.argmax(np.where(counts >= _FEWEST, np.abs(means - y.mean()), -1)))
            alone = _auc((others == extreme) * np.sign(means[extreme] - y.mean()), z)
            if alone > max(best[0], LIMIT):
                best = alone, names[extreme]
    return best


def _bins(column: Any, other: Any) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """A column's values as numbers of bins, in two parts of the rows, and what the bins are."""
    if column.dtype.kind in "iuf" and column.nunique() > _BINS:
        edges = np.unique(np.nanquantile(np.asarray(column, np.float64), np.linspace(0, 1, _BINS + 1)[1:-1]))
        names = ["missing", *(f"at most {edge:.6g}" for edge in edges), f"above {edges[-1]:.6g}"]

        def place(part: Any) -> np.ndarray:
            values = np.asarray(part, np.float64)
            return np.where(np.isnan(values), 0, 1 + np.searchsorted(edges, values))

        return place(column), place(other), names
    values = column.astype("object").where(column.notna(), "missing").map(str)
    kinds = {value: at for at, value in enumerate(values.unique().tolist(), 1)}
    rest = other.astype("object").where(other.notna(), "missing").map(str)
    first, second = (np.asarray(part.map(kinds).fillna(0), np.int64) for part in (values, rest))
    return first, second, ["never seen", *map(repr, kinds)]


def _auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the ROC curve of labels 0 and 1, ties halved."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - 0.5 * (counts - 1))[place]
    ones = float(labels.sum())
    zeros = len(labels) - ones
    if not ones or not zeros:
        return 0.0
    return float((ranks[labels == 1].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def _r2_of_ranks(codes: np.ndarray, others: np.ndarray, y: np.ndarray, z: np.ndarray) -> float:
    """R2 of predicting by each bin's mean where labels lie among those that are known, of 0 to 1."""
    known = np.sort(y)
    ours, theirs = ((np.searchsorted(known, each) + np.searchsorted(known, each, "right")) / 2 / len(known)
                    for each in (y, z))  # fmt: skip
    counts = np.bincount(codes, minlength=int(max(codes.max(), others.max())) + 1)
    means = np.where(counts > 0, np.bincount(codes, ours, len(counts)) / np.maximum(counts, 1), 0.5)
    return _r2(means[others], theirs)


def _r2(predicted: np.ndarray, labels: np.ndarray) -> float:
    return float(1 - ((labels - predicted) ** 2).sum() / ((labels - labels.mean()) ** 2).sum())
