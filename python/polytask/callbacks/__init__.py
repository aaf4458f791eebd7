"""Callbacks that hand what a run measures to other tools, which are imported when a run begins."""

from ..training.hooks import Function
from .csv import CSV
from .mlflow import MLflow
from .optuna_pruning import OptunaPruning
from .tensorboard import TensorBoard
from .wandb import WandB

for _class in (CSV, Function, MLflow, OptunaPruning, TensorBoard, WandB):
    _class.__module__ = __name__

__all__ = ["CSV", "Function", "MLflow", "OptunaPruning", "TensorBoard", "WandB"]
