"""Curves in Weights & Biases."""

from typing import Any

from ..training.run import Run
from .begun import Begun


class WandB(Begun):
    """Logs the row of each epoch to a run of Weights & Biases.

    That is the run at hand, `wandb.run`, which stays open, or else one that is begun with the first epoch and finished
    when `fit` is left. A training that is resumed from a checkpoint goes on with the run that it had.

    Arguments:
        options: what `wandb.init` is given, such as `project="census"`.

    Raises:
        ImportError: before the first step, when `wandb` is not installed.
    """

    library = "wandb"

    def on_epoch_end(self, trainer: Run, row: dict[str, Any]) -> None:
        self._run().log(dict(row))

    def _run(self) -> Any:
        wandb = self.load()
        if wandb.run is None:
            again = {} if self._id is None else {"id": self._id, "resume": "allow"}
            run = wandb.init(**{**self.options, **again})
            run.define_metric("*", step_metric="epoch")
            self._id = run.id
            self._end = run.finish
        return wandb.run
