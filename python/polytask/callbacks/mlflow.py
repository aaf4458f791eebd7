"""Metrics in MLflow."""

import re
from typing import Any

from ..training.callback import Callback
from ..training.run import Run
from . import library

#: What names of metrics may not have.
_FOREIGN = re.compile(r"[^\w\-./ ]")


class MLflow(Callback):
    """Logs the row of each epoch as metrics of a run of MLflow, whose step is the epoch.

    That is the run at hand, `mlflow.active_run()`, which stays open, or else one that is begun with the first epoch and
    ended when `fit` is left. A training that is resumed from a checkpoint goes on with the run that it had. What MLflow
    does not allow in names of metrics becomes `_`.

    Arguments:
        options: what `mlflow.start_run` is given, such as `run_name="first"`.

    Raises:
        ImportError: before the first step, when `mlflow` is not installed.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options
        self._id: str | None = None
        self._own = False

    def on_fit_start(self, trainer: Run) -> None:
        library.load("mlflow", "pt.callbacks.MLflow", "mlflow")

    def on_epoch_end(self, trainer: Run, row: dict[str, Any]) -> None:
        mlflow = library.load("mlflow", "pt.callbacks.MLflow", "mlflow")
        if mlflow.active_run() is None:
            again = {} if self._id is None else {"run_id": self._id}
            self._id = mlflow.start_run(**{**self.options, **again}).info.run_id
            self._own = True
        named = {_FOREIGN.sub("_", name): float(value) for name, value in row.items() if name != "epoch"}
        mlflow.log_metrics(named, step=row["epoch"])

    def on_fit_exit(self, trainer: Run) -> None:
        if self._own:
            library.load("mlflow", "pt.callbacks.MLflow", "mlflow").end_run()
            self._own = False

    def state(self) -> dict[str, Any]:
        return {"id": self._id}

    def restore(self, state: dict[str, Any], arrays: dict[str, Any]) -> None:
        self._id = None if state["id"] is None else str(state["id"])

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_own": False}

    def __repr__(self) -> str:
        return f"MLflow({', '.join(f'{name}={value!r}' for name, value in self.options.items())})"
