"""Multi-task learning over libtorch: shared and task-specific layers, trained by a static core."""

import sys as _sys
from importlib import import_module as _import_module
from typing import Any as _Any

from ._torch import core as _load

_load()

from . import _core  # noqa: E402
from .components import registry  # noqa: E402

for _family, _module in registry.modules().items():
    _sys.modules[f"{__name__}.{_family}"] = _module
    globals()[_family] = _module

from . import callbacks, data, embedding, encoder, head, loss, optim, regularizer, schedule, sharing, weighting  # noqa: E402
from .components.component import Component  # noqa: E402
from .data.bag import Bag  # noqa: E402
from .data.inputs import Inputs  # noqa: E402
from .data.task import Task  # noqa: E402
from .data.text import Text  # noqa: E402
from .model.chosen import GreedyEnsemble  # noqa: E402
from .model.ensemble import Ensemble  # noqa: E402
from .model.intervals import PredictionIntervals  # noqa: E402
from .model.model import MultiTaskModel  # noqa: E402
from .model.opening import load  # noqa: E402
from .results.calibration import Calibration  # noqa: E402
from .results.comparison import Comparison  # noqa: E402
from .results.dependence import Dependence  # noqa: E402
from .results.histories import Histories, Interval  # noqa: E402
from .results.history import History  # noqa: E402
from .results.importance import Importance  # noqa: E402
from .results.recommendation import Recommendation  # noqa: E402
from .results.relatedness import Groups, Relatedness  # noqa: E402
from .results.relation import Relation  # noqa: E402
from .results.results import Results  # noqa: E402
from .results.thresholds import Thresholds  # noqa: E402
from .studies.compare import compare  # noqa: E402
from .studies.dependence import dependence  # noqa: E402
from .studies.importance import importance  # noqa: E402
from .studies.recommend import recommend  # noqa: E402
from .studies.relatedness import relatedness  # noqa: E402
from .studies.search import search  # noqa: E402
from .studies.transfer_guard import TransferGuard  # noqa: E402
from .studies.trials import Search, Trial  # noqa: E402
from .training.callback import Callback  # noqa: E402
from .training.checkpoint import Checkpoint  # noqa: E402
from .training.early_stopping import EarlyStopping  # noqa: E402
from .training.ema import EMA  # noqa: E402
from .training.trainer import Trainer  # noqa: E402

__version__ = _core.__version__

# Classes are called as people import them, whatever file they stand in: pickles find them by that name.
for _class in (Bag, Calibration, Callback, Checkpoint, Comparison, Component, Dependence, EarlyStopping, EMA, Ensemble,
               GreedyEnsemble, Groups, Histories, History, Importance, Inputs, Interval, MultiTaskModel,
               PredictionIntervals, Recommendation, Relatedness, Relation, Results, Search, Task, Text, Thresholds,
               Trainer, TransferGuard, Trial):  # fmt: skip
    _class.__module__ = __name__


def __getattr__(name: str) -> _Any:
    # Loaded on first use, since scikit-learn may not be there; `torch` itself goes by another name here.
    if name in ("sklearn", "torch"):
        return _import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), "sklearn", "torch"})


__all__ = [
    "EMA",
    "Bag",
    "Calibration",
    "Callback",
    "Checkpoint",
    "Comparison",
    "Component",
    "Dependence",
    "EarlyStopping",
    "Ensemble",
    "GreedyEnsemble",
    "Groups",
    "Histories",
    "History",
    "Importance",
    "Inputs",
    "Interval",
    "MultiTaskModel",
    "PredictionIntervals",
    "Recommendation",
    "Relatedness",
    "Relation",
    "Results",
    "Search",
    "Task",
    "Text",
    "Thresholds",
    "Trainer",
    "TransferGuard",
    "Trial",
    "__version__",
    "callbacks",
    "compare",
    "data",
    "dependence",
    "embedding",
    "encoder",
    "head",
    "importance",
    "load",
    "loss",
    "optim",
    "recommend",
    "regularizer",
    "relatedness",
    "schedule",
    "search",
    "sharing",
    "weighting",
]
