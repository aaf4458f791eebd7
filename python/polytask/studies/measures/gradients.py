"""How gradients of pairs of tasks at the shared parameters point, over a training."""

import numpy as np

from ... import _core
from ...results.relatedness import Relatedness
from .. import seeded
from ..study import Network, Study
from . import probes

ABOUT = (
    "Mean cosines of the tasks' gradients at the parameters that all share, over a training of all tasks together: 1 "
    "for gradients of one direction, below 0 for a conflict. In many dimensions unrelated gradients are near a right "
    "angle, and tasks that need other features may still have gradients of one direction early on: trust the order "
    "more than the numbers, and neither after few steps."
)


def measure(study: Study, seeds: int, every: int | None, progress: bool) -> Relatedness:
    """Cosines (Yu et al., Gradient Surgery for Multi-Task Learning, NeurIPS 2020), with the magnitude similarity
    `2 a b / (a^2 + b^2)` of lengths `a` and `b` from there, and the share of looks at which a pair conflicts.
    """
    count = len(study.tasks)
    looks: dict[int, list[np.ndarray]] = {seed: [] for seed in range(seeds)}

    def look(network: Network, batch: _core.Data) -> None:
        looks[network.seed].append(network.model._plain.gradients(batch, "gramian"))

    probes.train(study, seeds, every, progress, look)
    cosines, magnitudes, conflicts = (np.full((seeds, count, count), np.nan) for _ in range(3))
    for seed, found in looks.items():
        each = [compared(gramian) for gramian in found]
        for matrix, parts in zip((cosines, magnitudes, conflicts), zip(*each, strict=True), strict=True):
            matrix[seed] = seeded.mean(np.stack(parts))
    parts = {"magnitude": seeded.mean(magnitudes), "conflict": seeded.mean(conflicts)}
    return Relatedness("gradients", ABOUT, study.tasks, seeded.mean(cosines), seeded.errors(cosines), parts=parts)


def compared(gramian: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cosines, magnitude similarities and conflicts of one look; NaN of tasks without a gradient in it."""
    lengths = np.sqrt(np.maximum(gramian.diagonal(), 0))
    lengths[lengths == 0] = np.nan
    cosines = gramian / lengths / lengths[:, None]
    squares = lengths**2
    magnitudes = 2 * lengths * lengths[:, None] / (squares + squares[:, None])
    conflicts = np.where(np.isnan(cosines), np.nan, cosines < 0)
    return np.clip(cosines, -1, 1), magnitudes, conflicts
