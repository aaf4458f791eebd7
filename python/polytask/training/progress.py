"""A progress bar over the batches of a training, in terminals and notebooks."""

import time
import warnings
from typing import Any

#: Seconds between two updates: drawing a bar takes longer than a step.
_PAUSE = 0.05


class Progress:
    """One bar for the whole of `fit`; silent if it is not to be shown."""

    def __init__(self, show: bool, epochs: int, batches: int | None) -> None:
        self._epochs = epochs
        self._batches = batches or 0
        self._bar = _bar(None if batches is None else epochs * batches) if show else None
        self._before = 0
        self._next = 0.0
        self._notes: dict[str, str] = {}

    @property
    def shown(self) -> bool:
        """Whether there is anything to update."""
        return self._bar is not None

    @property
    def due(self) -> bool:
        """Whether an update would be shown by now."""
        return self._bar is not None and time.monotonic() >= self._next

    def begin(self, epoch: int) -> None:
        """An epoch, counted from 0, begins."""
        self._before = max(self._before, epoch * self._batches)
        if self._bar is not None:
            self._bar.set_description(f"epoch {epoch + 1}/{self._epochs}", refresh=False)

    def update(self, done: int, total: int, loss: float) -> None:
        """So many batches of the epoch are done; `loss` is that of the epoch so far."""
        if self._bar is None or not self.due:
            return
        self._next = time.monotonic() + _PAUSE
        self._bar.n = self._before + done
        self._bar.set_postfix({"loss": f"{loss:.4g}", **self._notes}, refresh=False)
        self._bar.refresh()

    def end(self, batches: int, row: dict[str, Any]) -> None:
        """An epoch is complete."""
        self._before += batches
        if "validation/loss" in row:
            self._notes = {"validation": f"{row['validation/loss']:.4g}"}
        self._next = 0.0
        self.update(0, batches, row["loss"])

    def close(self, done: bool) -> None:
        """No more updates; a training that is done, however early, has a full bar."""
        if self._bar is not None:
            self._bar.total = self._bar.n if done else self._bar.total
            self._bar.close()


class Networks:
    """A bar over networks that train side by side, or what all of them do together; silent if it is not to be shown."""

    def __init__(self, show: bool, count: int, of: str = "network") -> None:
        self._bar = _bar(count, of) if show else None

    def next(self) -> None:
        """One more is done."""
        if self._bar is not None:
            self._bar.update()

    def close(self) -> None:
        """No more updates."""
        if self._bar is not None:
            self._bar.close()


def _bar(total: int | None, unit: str = "batch") -> Any:
    with warnings.catch_warnings():
        # Without ipywidgets tqdm warns and writes text, which is all we ask.
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm

        return tqdm(total=total, unit=unit, dynamic_ncols=True)
