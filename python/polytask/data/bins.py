"""Edges of bins of numeric features, learned from training rows: by quantiles, or by trees of a feature each."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..embedding import Piecewise
from ..values.ragged import Ragged
from . import labels
from .mix import Mixed
from .rows import Rows
from .stream import Stream

if TYPE_CHECKING:
    from .task import Task

#: Where edges stand in a model's state, `[features, bins + 1]`, all 0 as long as they are not known.
PATH = "embedding.numeric.edges"


def learned(embed: Piecewise, data: Rows | Stream | Mixed, tasks: Sequence["Task"], kinds: Sequence[str]) -> np.ndarray:
    """Edges `[features, bins + 1]` from rows in memory or one pass over batches.

    Raises:
        ValueError: batches that can be read only once, or none.
        ImportError: trees without scikit-learn.
    """
    if isinstance(data, Stream) and data.once:
        raise ValueError("`data` can be read only once, and edges of bins are learned before the first epoch: pass a "
                         "list, a DataLoader or an object whose `__iter__` starts again, or edges, "
                         "pt.embedding.Piecewise(bins=[...])")  # fmt: skip
    parts = [data] if isinstance(data, Rows) else list(data)
    there = [np.asarray(rows.numeric, np.float32).reshape(len(rows), -1) for rows in parts if rows.numeric is not None]
    if not sum(map(len, there)):
        raise ValueError("`data` has no rows, of which edges of bins could be learned")
    numbers = np.concatenate(there)
    if embed.by == "quantiles":
        return padded([_quantiles(column, embed.most) for column in numbers.T], embed.most)
    targets = [_targets(parts, j, kind) for j, (_, kind) in enumerate(zip(tasks, kinds, strict=True))]
    known = [target for target in targets if target is not None]
    return padded([_splits(column, known, embed) for column in numbers.T], embed.most)


def padded(edges: Sequence[Any], bins: int) -> np.ndarray:
    """Edges of each feature with the last one repeated, `[features, bins + 1]`."""
    whole = np.empty((len(edges), bins + 1), np.float32)
    for row, of in zip(whole, edges, strict=True):
        row[: len(of)] = of
        row[len(of) :] = of[-1]
    return whole


def _quantiles(column: np.ndarray, bins: int) -> np.ndarray:
    column = column[np.isfinite(column)]
    if not len(column):
        return np.zeros(1, np.float32)
    cuts = np.quantile(column.astype(np.float64), np.linspace(0, 1, bins + 1))
    return np.unique(cuts.astype(np.float32))


def _targets(parts: Sequence[Rows], j: int, kind: str) -> tuple[bool, np.ndarray, np.ndarray] | None:
    """Of a task of rows whether it has classes, its labels, and which rows have one; none of one without any."""
    found = []
    for rows in parts:
        target = rows.scaled[j] if rows.scaled and rows.scaled[j] is not None else rows.targets[j]
        if isinstance(target, Ragged):
            return None
        values = labels.unified(target, rows.masks[j], kind, rows.weights[j])
        found.append((len(rows), values))
    some = next((values for _, values in found if values is not None), None)
    if some is None:
        return None
    nothing = -1 if kind == "classes" else np.nan
    filled = [np.full((count, *some.shape[1:]), nothing) if values is None else values for count, values in found]
    whole = np.concatenate(filled)
    if kind == "classes":
        return True, whole, whole >= 0
    there = ~np.isnan(whole).any(1)
    return kind == "binary" and whole.shape[1] == 1, whole, there


def _splits(column: np.ndarray, targets: Sequence[tuple[bool, np.ndarray, np.ndarray]], embed: Piecewise) -> np.ndarray:
    """The ends of a feature, and where trees split it."""
    try:
        from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
    except ImportError:
        raise ImportError('pt.embedding.Piecewise(by="trees") needs scikit-learn: pip install scikit-learn, or '
                          'by="quantiles"') from None  # fmt: skip
    finite = np.isfinite(column)
    if not finite.any():
        return np.zeros(1, np.float32)
    ends = [column[finite].min(), column[finite].max()]
    leaves = max(embed.most // max(len(targets), 1), 2)
    cuts: list[np.ndarray] = []
    for classes, labels_of, there in targets:
        there = there & finite
        if not there.any() or embed.most < 2:
            continue
        y = labels_of[there]
        if not classes:
            spread = y.std(0)
            y = (y - y.mean(0)) / np.where(spread > 0, spread, 1.0)
        kind = DecisionTreeClassifier if classes else DecisionTreeRegressor
        grown = kind(max_leaf_nodes=leaves, min_samples_leaf=embed.leaf, random_state=0)
        tree = grown.fit(column[there, None], y.ravel() if y.shape[1:] in ((), (1,)) else y).tree_
        cuts.append(tree.threshold[tree.children_left != tree.children_right])
    inner = np.unique(np.concatenate(cuts).astype(np.float32)) if cuts else np.zeros(0, np.float32)
    inner = inner[(inner > ends[0]) & (inner < ends[1])]
    if len(inner) > embed.most - 1:
        inner = inner[np.linspace(0, len(inner) - 1, embed.most - 1).round().astype(int)]
    return np.unique(np.asarray([ends[0], *inner, ends[1]], np.float32))
