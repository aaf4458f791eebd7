"""The scales in which targets of regressions train: learned from training rows, applied to what is read."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from . import labels
from .mix import Mixed
from .rows import Rows
from .scale import Scale
from .stream import Stream

if TYPE_CHECKING:
    from .task import Task


class TargetScales:
    """Those of a model's tasks, which keep them."""

    def __init__(self, tasks: Sequence["Task"], kinds: Sequence[str]) -> None:
        self.tasks = tasks
        self.kinds = kinds

    def learn(self, data: Rows | Stream | Mixed) -> None:
        """Learns the scales of targets that are not known yet, from rows in memory or in one pass over batches; rows of
        weight 0 do not count.

        Raises:
            ValueError: batches that can be read only once, or a target that a scale has no place for.
        """
        places = [j for j, task in enumerate(self.tasks) if task.scale is not None and task.scaling is None]
        if not places:
            return
        if isinstance(data, Stream) and data.once:
            raise ValueError(f"`data` can be read only once, and the scale of task `{self.tasks[places[0]].name}` is "
                             "learned before the first epoch: pass a list, a DataLoader or an object whose `__iter__` "
                             "starts again")  # fmt: skip
        known: dict[int, list[np.ndarray]] = {j: [] for j in places}
        for rows in [data] if isinstance(data, Rows) else data:
            for j in places:
                values = labels.unified(rows.targets[j], rows.masks[j], self.kinds[j])
                if values is not None:
                    weights = rows.weights[j]
                    known[j].append(values if weights is None else values[np.broadcast_to(weights, len(values)) > 0])
        for j, parts in known.items():
            task = self.tasks[j]
            if parts and task.scale is not None:
                task.scaling = Scale.learn(task.scale, np.concatenate(parts), f"the targets of task `{task.name}`")

    def are_known(self) -> None:
        """Refuses what would train on targets in a scale that is not known.

        Raises:
            ValueError: which task has none yet.
        """
        task = next((task for task in self.tasks if task.scale is not None and task.scaling is None), None)
        if task is not None:
            raise ValueError(f"task `{task.name}` has scale={task.scale!r}, which `fit` learns from its training rows; "
                             "call it first, or scale the targets before")  # fmt: skip

    def apply_all(self, data: Rows | Stream | Mixed | None) -> None:
        """TargetScales what is in memory; batches are scaled as they come."""
        for part in data.parts if isinstance(data, Mixed) else [data]:
            if isinstance(part, Rows):
                self.apply(part)

    def apply(self, rows: Rows) -> None:
        """TargetScales the targets of tasks whose scale is known, unless they are scaled already.

        Raises:
            ValueError: a target that a scale has no place for.
        """
        if rows.scaled or all(task.scaling is None for task in self.tasks):
            return

        def scaled(j: int, task: "Task") -> np.ndarray | None:
            known = labels.unified(rows.targets[j], rows.masks[j], self.kinds[j])
            if known is None or task.scaling is None or known.shape[1] != task.outputs:
                return None
            values = task.scaling.forward(known, rows.names[2 + j]).astype(np.float32)
            return values[:, 0] if task.outputs == 1 else values

        rows.scale([scaled(j, task) for j, task in enumerate(self.tasks)])
