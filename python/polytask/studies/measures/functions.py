"""What networks make of rows: raw outputs, and the features that heads read."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ...data import Rows
from ..study import Network, Study


def refuse_positions(study: Study, method: str) -> None:
    """Refuses tasks whose outputs are not a row each.

    Raises:
        ValueError: a task of positions; says which.
    """
    for task in study.model.tasks:
        if task.per is not None:
            raise ValueError(f"task `{task.name}`: `{method}` is for tasks of rows; got one of {task.per}")


def outputs(study: Study, network: Network, rows: Rows) -> list[np.ndarray]:
    """Each task's raw outputs `[rows, outputs]`, centred; of two classes the difference of their logits."""
    found = network.model._core.predict(rows.of([]).core(), True, 4096)
    each = []
    for task, values in zip(network.model.tasks, found, strict=True):
        raw = np.asarray(values, np.float64).reshape(len(rows), -1)
        if task.classes == 2:
            raw = raw[:, 1:] - raw[:, :1]
        elif task.classes is not None:
            raw = raw - raw.mean(1, keepdims=True)
        each.append(raw - raw.mean(0))
    return each


def features(network: Network, rows: Rows) -> np.ndarray:
    """What the head of a network of one task reads, `[rows, width]`.

    Raises:
        ValueError: a network without such a place.
    """
    from ...model import as_torch

    module = network.model.to_torch(raw=True)
    name = network.tasks[0]
    head = next((path for path in _called(module) if f"{path}.".startswith(f"heads.{name}.")), None)
    if head is None:
        raise ValueError(f"the head of task `{name}` is not a layer of its own, so that its features are not known; "
                         "another method than `representation` will do")  # fmt: skip
    seen = list[torch.Tensor]()
    with module.get_submodule(head).register_forward_pre_hook(lambda _, given: seen.append(given[0])), torch.no_grad():
        core = network.model._core
        module(**as_torch.tensors([rows.of([])], as_torch.wanted(core), network.model.device))
    return seen[0].double().cpu().numpy().reshape(len(rows), -1)


def _called(module: Any) -> list[str]:
    return [str(node.target) for node in module.graph.nodes if node.op == "call_module"]
