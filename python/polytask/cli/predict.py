"""`polytask predict`: predictions beside the rows of a table."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..model.ensemble import Ensemble
from ..model.model import MultiTaskModel
from ..model.opening import load
from . import tables


def run(asked: Any) -> None:
    """Reads, predicts and writes a CSV file."""
    model = load(asked.model)
    frame = tables.read(asked.data)
    out = asked.out or asked.data.with_name(f"{asked.data.name.split('.')[0]}-predicted.csv")
    predicted = beside(model, frame)
    clash = [name for name in predicted if name in frame.columns]
    if clash:
        raise ValueError(f"{asked.data} has a column `{clash[0]}` already, where its prediction would stand")
    frame.assign(**predicted).to_csv(out, index=False)
    print(f"{out}: {len(frame)} rows, beside them {', '.join(predicted)}")


def beside(model: MultiTaskModel | Ensemble, frame: Any) -> dict[str, np.ndarray]:
    """Columns of predictions: `<task>_predicted`, and of classes of rows their probabilities,
    `<task>_probability_<label>`.
    """
    found: dict[str, np.ndarray] = {}
    each: Any = model.predict(frame)
    classes = model.classes(each)
    for task in model.tasks:
        values = each[task.name]
        found[f"{task.name}_predicted"] = classes.get(task.name, values)
        if task.classes and task.per is None:
            labels = task.labels or range(task.classes)
            for at, label in enumerate(labels):
                if len(labels) > 2 or at == 1:
                    found[f"{task.name}_probability_{label}"] = values[:, at]
    return found
