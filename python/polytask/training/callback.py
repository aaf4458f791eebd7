"""What happens between steps and epochs, for anybody to fill in."""

from typing import Any

import numpy as np


class Callback:
    """Override what you need; nothing happens in the rest.

    `every_steps` is a number of batches after which `on_steps` is called, with `accumulate` after the step that takes
    them in; without it there is no Python between the steps of an epoch. `state` and `restore` carry what the callback
    knows through a checkpoint: JSON, and arrays. The `trainer` is the `pt.Trainer` that calls.

    `on_epoch_end(self, trainer, epoch, metrics)`, and `(self, epoch, logs)`, will do as well: parameters are given what
    they are called, `trainer`, `row`, `epoch`, and `metrics` or `logs`, which is the row without `epoch`.

    What a hook raises ends `fit` and is passed on, with the model as after its last step and the trainer ready for
    another call.
    """

    # note: `Any`, so that whoever overrides may write `trainer: pt.Trainer`, which stands above this file.

    every_steps: int | None = None
    #: Whether it is called after all others, since it keeps what they did.
    last = False
    #: Whether `on_steps` saves the run, for which metrics of a loader's batches are then kept until the epoch ends.
    saves = False
    #: Whether a copy of it may be called in a thread beside those of other runs; see `pt.Trainer.fit(seeds=)`.
    beside_others = False
    #: Whether it can serve one run alone, since it keeps what is of one.
    of_one_run = False

    def on_fit_start(self, trainer: Any) -> None:
        """Before the first step; what is raised here leaves the model untouched."""

    def on_epoch_start(self, trainer: Any) -> None:
        """Before an epoch."""

    def on_steps(self, trainer: Any) -> None:
        """After each `every_steps` batches."""

    def on_epoch_end(self, trainer: Any, row: dict[str, Any]) -> None:
        """After an epoch, whose row the history has already; `trainer.stop()` makes it the last one."""

    def on_fit_end(self, trainer: Any) -> None:
        """After the last epoch; not after an interruption."""

    def on_fit_exit(self, trainer: Any) -> None:
        """When `fit` is left, however: after the last epoch, after an interruption, with an exception."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, as JSON."""
        return {}

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays that a checkpoint keeps."""
        return {}

    def restore(self, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Goes on from what a checkpoint kept."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"
