"""Curves in Weights & Biases."""

from typing import Any

from ..training.callback import Callback
from ..training.run import Run
from . import library


class WandB(Callback):
    """Logs the row of each epoch to a run of Weights & Biases.

    That is the run at hand, `wandb.run`, which stays open, or else one that is begun with the first epoch and finished
    when `fit` is left. A training that is resumed from a checkpoint goes on with the run that it had.

    Arguments:
        options: what `wandb.init` is given, such as `project="census"`.

    Raises:
        ImportError: before the first step, when `wandb` is not installed.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options
        self._id: str | None = None
        self._own: Any = None

    def on_fit_start(self, trainer: Run) -> None:
        library.load("wandb", "pt.callbacks.WandB", "wandb")

    def on_epoch_end(self, trainer: Run, row: dict[str, Any]) -> None:
        self._run().log(dict(row))

    def _run(self) -> Any:
        wandb = library.load("wandb", "pt.callbacks.WandB", "wandb")
        if wandb.run is None:
            again = {} if self._id is None else {"id": self._id, "resume": "allow"}
            self._own = wandb.init(**{**self.options, **again})
            self._own.define_metric("*", step_metric="epoch")
            self._id = self._own.id
        return wandb.run

    def on_fit_exit(self, trainer: Run) -> None:
        if self._own is not None:
            self._own.finish()
            self._own = None

    def state(self) -> dict[str, Any]:
        return {"id": self._id}

    def restore(self, state: dict[str, Any], arrays: dict[str, Any]) -> None:
        self._id = None if state["id"] is None else str(state["id"])

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_own": None}

    def __repr__(self) -> str:
        return f"WandB({', '.join(f'{name}={value!r}' for name, value in self.options.items())})"
