"""Metrics in MLflow."""

import re
from typing import Any

from ..training.run import Run
from .begun import Begun

#: What names of metrics may not have.
_FOREIGN = re.compile(r"[^\w\-./ ]")


class MLflow(Begun):
    """Logs the row of each epoch as metrics of a run of MLflow, whose step is the epoch.

    That is the run at hand, `mlflow.active_run()`, which stays open, or else one that is begun with the first epoch and
    ended when `fit` is left. A training that is resumed from a checkpoint goes on with the run that it had. What MLflow
    does not allow in names of metrics becomes `_`.

    Arguments:
        options: what `mlflow.start_run` is given, such as `run_name="first"`.

    Raises:
        ImportError: before the first step, when `mlflow` is not installed.
    """

    library = "mlflow"

    def on_epoch_end(self, trainer: Run, row: dict[str, Any]) -> None:
        mlflow = self.load()
        if mlflow.active_run() is None:
            again = {} if self._id is None else {"run_id": self._id}
            self._id = mlflow.start_run(**{**self.options, **again}).info.run_id
            self._end = mlflow.end_run
        named = {_FOREIGN.sub("_", name): float(value) for name, value in row.items() if name != "epoch"}
        mlflow.log_metrics(named, step=row["epoch"])
