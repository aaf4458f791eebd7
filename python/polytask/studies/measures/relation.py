"""The relation of the functions that tasks learn, from networks that saw other rows."""

from __future__ import annotations

import numpy as np

from ...results.relatedness import Relatedness
from ...training.early_stopping import EarlyStopping
from .. import seeded
from ..study import Network, Study
from . import functions

#: Relations below which tasks are taken as unrelated, beside two standard errors.
_FLOOR = 0.1

ABOUT = (
    "Correlations of what single-task networks predict for held-out rows, those of a pair having learned from other "
    "halves of the rows and begun from other seeds, so that neither noise of labels nor a common start makes tasks "
    "look related; the diagonal says how well halves agree on a task, and is near 0 for noise. It finds tasks with "
    "related answers; tasks that need the same features for unrelated answers it does not: `transfer` does."
)


def measure(study: Study, seeds: int, progress: bool) -> Relatedness:
    """The relation of tasks of Zhang and Yeung (A Convex Formulation for Learning Task Relationships in Multi-Task
    Learning, UAI 2010), of functions in the place of parameters: for linear tasks over white features they are the
    same, and behind hidden layers, where parameters of networks cannot be compared, functions still can.
    """
    functions.refuse_positions(study, "relation")
    rows = study.held_out()
    count = len(study.tasks)
    halves = _halves(study, seeds)
    networks = [
        study.network([task], 2 * seed + half) for seed in range(seeds) for half in (0, 1) for task in study.tasks
    ]
    found: dict[int, np.ndarray] = {}
    trained = study.run(networks, progress=progress, callbacks=_stopping, rows=lambda each: halves[each.seed])
    for place, network in trained:
        found[place] = functions.outputs(study, network, rows)[0]
    relation = np.full((seeds, count, count), np.nan)
    for seed in range(seeds):
        first, second = ([found[(2 * seed + half) * count + j] for j in range(count)] for half in (0, 1))
        for i in range(count):
            for j in range(count):
                relation[seed, i, j] = 0.5 * (_together(first[i], second[j]) + _together(second[i], first[j]))
    errors = seeded.errors(relation)
    floor = np.maximum(_FLOOR, np.where(np.isnan(errors), 0.0, 2 * errors))
    return Relatedness("relation", ABOUT, study.tasks, seeded.mean(relation), errors, floor=floor)


def _stopping(network: Network) -> list[EarlyStopping]:
    return [EarlyStopping(f"{network.tasks[0]}/loss", patience=10)]


def _halves(study: Study, seeds: int) -> dict[int, np.ndarray]:
    """For each network's seed the rows that it learns from: two of them share all rows between them."""
    found = {}
    for seed in range(seeds):
        order = np.random.default_rng([study.trainer.seed, seed]).permutation(len(study.train))
        for half in (0, 1):
            found[2 * seed + half] = np.sort(order[half::2])
    return found


def _together(first: np.ndarray, second: np.ndarray) -> float:
    """The correlation of outputs `[rows, outputs]`, centred; of several outputs the root of the RV coefficient."""
    if first.shape[1] == second.shape[1] == 1:
        scale = np.sqrt(float((first**2).sum()) * float((second**2).sum()))
        return float((first * second).sum()) / scale if scale > 0 else 0.0
    across, ours, theirs = first.T @ second, first.T @ first, second.T @ second
    scale = np.sqrt(float((ours**2).sum()) * float((theirs**2).sum()))
    return float(np.sqrt((across**2).sum() / scale)) if scale > 0 else 0.0
