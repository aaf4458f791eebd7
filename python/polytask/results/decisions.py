"""The history of a weighting in a loop of the caller's own: a row a decision, columns by name."""

import math

from . import observation
from .history import History


class Decisions(History):
    """One dict a decision, and `decisions["income/loss"]` for a whole column.

    Columns are `step` (decisions counted from 1), `<task>/loss` and `<task>/weight`, and of a weighting of gradients
    what `pt.Trainer(observe="gradients")` has: `<task>/gradient_norm`, `cosine/<task>/<task>` and `conflict`, the share
    of pairs of tasks whose gradients have a negative product. Tasks without names are called by their place, from 0.
    NaN is what is not known: all of a task without a label, and weights where a direction is no weighted sum.
    """

    def conflicts(self) -> dict[tuple[str, str], float]:
        """For each pair of tasks, in how many of the decisions that have both their gradients these have a negative
        product, as a share; NaN of a pair that no decision has, and nothing for a weighting of losses.
        """
        tasks = observation.compared(self.columns)
        shares = {}
        for i, one in enumerate(tasks):
            for other in tasks[i + 1 :]:
                known = [x for x in self[observation.cosine(one, other)] if not math.isnan(x)]
                shares[one, other] = sum(x < 0.0 for x in known) / len(known) if known else math.nan
        return shares
