"""How alike the features are that single-task networks learn."""

from __future__ import annotations

import numpy as np

from ...results.relatedness import Relatedness
from .. import seeded
from ..study import Study
from . import functions

#: Rows that are compared pair by pair.
_ROWS = 500

ABOUT = (
    "How alike the representations of single-task networks are on held-out rows: linear CKA, or the rank correlation "
    "of their rows' dissimilarities (RSA, `parts`). Networks that begin alike stay alike where little is learned, so "
    "that all pairs look related when trainings are short; compare pairs with each other, not with 0."
)


def measure(study: Study, seeds: int, progress: bool) -> Relatedness:
    """Linear CKA (Kornblith et al., Similarity of Neural Network Representations Revisited, ICML 2019) and RSA (Dwivedi
    and Roig, Representation Similarity Analysis for Efficient Task Taxonomy and Transfer Learning, CVPR 2019).
    """
    functions.refuse_positions(study, "representation")
    rows = study.held_out()
    count = len(study.tasks)
    few = rows.take(np.linspace(0, len(rows) - 1, min(len(rows), _ROWS)).astype(np.int64))
    networks = [study.network([task], seed) for seed in range(seeds) for task in study.tasks]
    found = {}
    for place, network in study.run(networks, progress=progress):
        at = few if len(rows) > 20 * _ROWS else rows
        found[place] = functions.features(network, at), functions.features(network, few)
    cka, rsa = (np.full((seeds, count, count), np.nan) for _ in range(2))
    for seed in range(seeds):
        each = [found[seed * count + j] for j in range(count)]
        ranks = [_ranks(_dissimilarities(features)) for _, features in each]
        for i in range(count):
            for j in range(i + 1):
                cka[seed, i, j] = cka[seed, j, i] = linear_cka(each[i][0], each[j][0])
                rsa[seed, i, j] = rsa[seed, j, i] = np.corrcoef(ranks[i], ranks[j])[0, 1]
    mean = seeded.mean(cka)
    others = mean[~np.eye(count, dtype=bool)]
    floor = float(others.mean()) if len(others) else 0.0
    parts = {"rsa": seeded.mean(rsa)}
    return Relatedness("representation", ABOUT, study.tasks, mean, seeded.errors(cka), floor=floor, parts=parts)


def linear_cka(first: np.ndarray, second: np.ndarray) -> float:
    """Of features `[rows, width]`."""
    first, second = first - first.mean(0), second - second.mean(0)
    across = _squares(first.T @ second)
    scale = np.sqrt(_squares(first.T @ first) * _squares(second.T @ second))
    return across / scale if scale > 0 else float("nan")


def _dissimilarities(features: np.ndarray) -> np.ndarray:
    """1 less the correlation of each two rows."""
    centred = features - features.mean(1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    units = centred / np.where(lengths > 0, lengths, 1)
    pairs: np.ndarray = 1 - (units @ units.T)[np.triu_indices(len(units), 1)]
    return pairs


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks, equal values sharing theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: np.ndarray = (last - 0.5 * (counts - 1))[place]
    return ranks


def _squares(matrix: np.ndarray) -> float:
    return float((matrix**2).sum())
