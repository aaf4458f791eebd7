"""What a step for one task alone does to the losses of the others (TAG), over a training."""

import numpy as np

from ... import _core
from ...results.relatedness import Relatedness
from .. import seeded
from ..study import Network, Study
from . import probes

ABOUT = (
    "Inter-task affinity: by how much, relative to it, the loss of a row's task falls when the shared parameters make "
    "a step for the column's task alone, averaged over a training of all tasks together. It sees one step ahead: a "
    "step for any task that shares early features helps at first, so that most pairs are above 0, and what many steps "
    "do to each other is not in it. Trust the order of the columns of a row."
)


def measure(study: Study, seeds: int, every: int | None, progress: bool) -> Relatedness:
    """`1 - L_j(theta_s - lr grad L_i, theta_j) / L_j(theta_s, theta_j)` for the row's task `j` and the column's `i`, on
    a batch, every so many steps (Fifty et al., Efficiently Identifying Task Groupings for Multi-Task Learning, NeurIPS
    2021).
    """
    count = len(study.tasks)
    looks: dict[int, list[np.ndarray]] = {seed: [] for seed in range(seeds)}

    def look(network: Network, batch: _core.Data) -> None:
        looks[network.seed].append(affinity(network.model._plain, batch, network.trainer.lr))

    probes.train(study, seeds, every, progress, look)
    found = np.full((seeds, count, count), np.nan)
    for seed, each in looks.items():
        if each:
            found[seed] = seeded.mean(np.stack(each))
    return Relatedness("affinity", ABOUT, study.tasks, seeded.mean(found), seeded.errors(found), directed=True)


def affinity(core: _core.Model, batch: _core.Data, lr: float) -> np.ndarray:
    """`[tasks, tasks]` of one batch, row `j` and column `i` as above; the model is as before."""
    names, jacobian = core.gradients(batch, "jacobian")
    parameters = core.parameters()
    shared = [parameters[name] for name in names]
    before = [values.copy() for values in shared]
    now = _losses(core, batch)
    found = np.full((len(now), len(now)), np.nan)
    try:
        for i, row in enumerate(jacobian):
            if not row.any():
                continue
            start = 0
            for values, old in zip(shared, before, strict=True):
                part = row[start : start + old.size].reshape(old.shape)
                values[...] = old - np.float32(lr) * part
                start += old.size
            with np.errstate(all="ignore"):
                found[:, i] = np.where(now != 0, 1 - _losses(core, batch) / now, np.nan)
    finally:
        for values, old in zip(shared, before, strict=True):
            values[...] = old
    return found


def _losses(core: _core.Model, batch: _core.Data) -> np.ndarray:
    sums, weights, _ = core.evaluate(batch, len(batch), threads=1)
    with np.errstate(all="ignore"):
        means: np.ndarray = np.asarray(sums) / np.asarray(weights)
    return means
