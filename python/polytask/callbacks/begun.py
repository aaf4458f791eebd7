"""What callbacks share that log to a run of another tool's, which they begin if there is none."""

from collections.abc import Callable
from typing import Any, ClassVar

from ..training.callback import Callback
from ..training.run import Run
from . import library


class Begun(Callback):
    """A run that is begun with the first epoch and ended when `fit` is left, and goes on when a training is resumed.

    Arguments:
        options: what begins it is given.

    Raises:
        ImportError: before the first step, when the library is not installed.
    """

    of_one_run = True

    #: The library's name, which is that of the extra too.
    library: ClassVar[str]

    def __init__(self, **options: Any) -> None:
        self.options = options
        self._id: str | None = None
        #: What ends the run, while it is one that was begun here.
        self._end: Callable[[], Any] | None = None

    def load(self) -> Any:
        """The library."""
        return library.load(self.library, f"pt.callbacks.{type(self).__name__}", self.library)

    def on_fit_start(self, trainer: Run) -> None:
        self.load()

    def on_fit_exit(self, trainer: Run) -> None:
        if self._end is not None:
            end, self._end = self._end, None
            end()

    def state(self) -> dict[str, Any]:
        return {"id": self._id}

    def restore(self, state: dict[str, Any], arrays: dict[str, Any]) -> None:
        self._id = None if state["id"] is None else str(state["id"])

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_end": None}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.options.items())})"
