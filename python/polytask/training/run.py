"""What is known of a training that goes on, and what may be asked of it; `pt.Trainer` is one."""

from os import PathLike
from typing import Protocol

from ..model.model import MultiTaskModel
from ..results.history import History


class Run(Protocol):
    """A run as callbacks and the loop see it.

    Attributes:
        model: what is trained.
        history: of the complete epochs.
        observe: what the history records beside losses and metrics.
        stopping: whether the running epoch is the last one.
    """

    model: MultiTaskModel
    history: History
    observe: list[str]
    stopping: bool

    @property
    def batches(self) -> int:
        """Batches done so far, over all epochs."""

    @property
    def resumable(self) -> bool:
        """Whether a run can go on from here with the same bits."""

    @property
    def steps(self) -> int:
        """Steps of the optimizer so far."""

    @property
    def epochs(self) -> int:
        """Complete epochs so far."""

    @property
    def lr(self) -> float:
        """The learning rate of the last step."""

    def stop(self) -> None:
        """Makes the running epoch the last one."""

    def watch(self, monitor: str, mode: str = "auto") -> tuple[str, int]:
        """The history's column for a monitor, and 1 if higher is better, else -1."""

    def hold(self, folder: str) -> None:
        """Keeps other runs out of a folder of checkpoints until this one ends."""

    def save(self, path: str | PathLike[str]) -> None:
        """Writes a checkpoint."""

    def restore(self, path: str | PathLike[str]) -> None:
        """Takes over a checkpoint."""
