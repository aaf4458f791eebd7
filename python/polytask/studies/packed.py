"""Ensembles of the kinds of networks that a study chose, as one predictor."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..model.chosen import GreedyEnsemble
from ..model.ensemble import Ensemble
from .greedy import Greedy
from .search import LONGEST, MEMBERS, PATIENCE, made_of
from .study import Network, Study

#: Networks out of which each ensemble is chosen: so many, and where there is little time no fewer than these.
NETWORKS, FEWEST = 64, 8
#: Epochs that there should be time for, and how much more one takes than of the network that was chosen, since networks
#: of an ensemble may be wider.
_EPOCHS, _DEARER = 4, 2.0


def packed(
    study: Study, networks: Sequence[Network], until: float, epoch: float, epochs: int | None, progress: bool
) -> tuple[Ensemble, int]:
    """An ensemble for each of several networks, which have the study's tasks among them: out of networks of its tasks,
    sharing and settings, chosen on the held-out rows; and out of how many in all.

    Arguments:
        study: whose networks these are.
        networks: fresh ones.
        until: when it ends, as `time.monotonic` counts; each trains one epoch at least.
        epoch: seconds that an epoch of one of them takes.
        epochs: at most.
        progress: whether bars are shown.
    """
    left = max(0.0, until - time.monotonic())
    several = min(NETWORKS, max(FEWEST, int(left / (len(networks) * _EPOCHS * _DEARER * epoch))))
    found: list[GreedyEnsemble] = []
    for at, network in enumerate(networks):
        network.model.metrics = [study.model.metrics[place] for place in study.places(network.tasks)]
        part = study.part(network)
        part.epochs = epochs or LONGEST
        made = made_of(part, None, several, study.trainer.seed, (part.train, part.held_out()))[1]
        run = Greedy(part, made, most=MEMBERS, patience=PATIENCE, folder=None, asked={})
        found.append(run.run(max(0.0, until - time.monotonic()) / (len(networks) - at), progress))
    count = sum(len(each.trials) for each in found)
    if len(found) == 1:
        return found[0], count
    weights = {task.name: [share for each in found for share in each.weights.get(task.name, [0.0] * len(each))]
               for task in study.model.tasks}  # fmt: skip
    whole = Ensemble([model for each in found for model in each], weights=weights)
    for each in found:
        whole._scalings |= each._scalings
    return whole, count
