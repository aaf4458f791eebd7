"""Curves in TensorBoard."""

from os import PathLike
from typing import Any

from ..arguments.keywords import checked
from ..arguments.paths import folder_path
from ..training.callback import Callback
from ..training.run import Run
from . import library


class TensorBoard(Callback):
    """Writes each column of the history as a curve over the epochs, for `tensorboard --logdir`.

    A run that is resumed adds to the curves that are there, and hides what an earlier one wrote of the same epochs and
    later ones. A run of its own should have a folder of its own.

    Arguments:
        logdir: the folder.

    Raises:
        ImportError: before the first step, when `tensorboard` is not installed.
    """

    of_one_run = True

    @checked
    def __init__(self, logdir: str | PathLike[str]) -> None:
        self.logdir = folder_path(logdir, "`logdir`")
        self._writer: Any = None

    def on_fit_start(self, trainer: Run) -> None:
        library.load("torch.utils.tensorboard", "pt.callbacks.TensorBoard", "tensorboard")

    def on_epoch_end(self, trainer: Run, row: dict[str, Any]) -> None:
        epoch = row["epoch"]
        if self._writer is None:
            tensorboard = library.load("torch.utils.tensorboard", "pt.callbacks.TensorBoard", "tensorboard")
            self._writer = tensorboard.SummaryWriter(self.logdir, purge_step=epoch)
        for name, value in row.items():
            if name != "epoch":
                self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def on_fit_exit(self, trainer: Run) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_writer": None}

    def __repr__(self) -> str:
        return f"TensorBoard({self.logdir!r})"
