"""What each task gains of being trained with each other one, against alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from ...results.relatedness import Relatedness
from .. import baseline, seeded
from ..study import Network, Study

#: The part of a standard error, as pairs have it on average, that a gain is to exceed: little enough not to part what
#: belongs together, and above 0, so that what gains nothing stays alone.
_SURE = 0.25
#: By how much, relative to it, the loss of a task that learned anything is lower than that of the best constant.
_LEARNED = 0.003

ABOUT = (
    "Transfer gains: by how much, relative to it, the validation loss of a row's task is lower when it trains with "
    "the column's task than when it trains alone, each at its best epoch, over seeds that begin alike. The most "
    "honest measure, since it is the thing itself, and noisy with few validation rows: look at the standard errors. "
    "It says nothing of groups of three or more."
)


def measure(study: Study, seeds: int, progress: bool) -> Relatedness:
    """Every task alone and every pair, from every seed (Standley et al., Which Tasks Should Be Learned Together in
    Multi-task Learning?, ICML 2020).
    """
    alone, pairs = losses(study, seeds, progress)
    count = len(study.tasks)
    found = np.full((seeds, count, count), np.nan)
    for (i, j), each in pairs.items():
        found[:, i, j] = gain(alone[i], each)
    parts = {"alone": np.stack([alone[i] for i in range(count)], 1)}
    mean, errors = seeded.mean(found), seeded.errors(found)
    known = errors[~np.isnan(errors)]
    floor = np.full_like(mean, _SURE * np.sqrt((known**2).mean()) if len(known) else 0.0)
    for i in _unlearnable(study, alone):
        floor[i] = mean[i]
    return Relatedness("transfer", ABOUT, study.tasks, mean, errors, directed=True, floor=floor, parts=parts)


def losses(study: Study, seeds: int, progress: bool) -> tuple[dict[int, np.ndarray], dict[tuple[int, int], np.ndarray]]:
    """The best validation losses `[seeds]` of each task alone, and of each beside each other one."""
    study.held_out()
    sets = [*((i,) for i in range(len(study.tasks))), *itertools.combinations(range(len(study.tasks)), 2)]
    alone = {i: np.full(seeds, np.nan) for i in range(len(study.tasks))}
    pairs = {pair: np.full(seeds, np.nan) for pair in itertools.permutations(range(len(study.tasks)), 2)}
    networks = [study.network([study.tasks[j] for j in members], seed) for seed in range(seeds) for members in sets]
    for _, network in study.run(networks, progress=progress):
        members = study.places(network.tasks)
        for i in members:
            found = best(network, study.tasks[i])
            if len(members) == 1:
                alone[i][network.seed] = found
            else:
                pairs[i, sum(members) - i][network.seed] = found
    return alone, pairs


def best(network: Network, task: str) -> float:
    """A task's lowest validation loss over the epochs."""
    values: Sequence[float] = network.history[f"validation/{task}/loss"]
    known = [value for value in values if not np.isnan(value)]
    return min(known, default=float("nan"))


def _unlearnable(study: Study, alone: dict[int, np.ndarray]) -> list[int]:
    """Tasks that alone become no better than a constant: what looks like a gain of theirs is one of chance."""
    found = []
    for i, losses in alone.items():
        constant = baseline.constant(study, study.held_out(), i)
        if constant is not None and np.nanmean(losses) > (1 - _LEARNED) * constant:
            found.append(i)
    return found


def gain(alone: np.ndarray, together: np.ndarray) -> np.ndarray:
    """By how much a loss is lower than alone, relative to that."""
    with np.errstate(all="ignore"):
        gains: np.ndarray = (alone - together) / np.abs(alone)
    return gains
