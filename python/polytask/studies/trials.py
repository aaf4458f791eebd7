"""What a search found: trials, the best one first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..arguments.numbers import whole
from ..model.ensemble import Ensemble
from ..model.model import MultiTaskModel
from ..process import interrupts
from ..results.history import History
from ..results.table import Table, pandas, text

#: Trials that are shown.
_SHOWN = 10


@dataclass
class Trial:
    """One network of a search.

    Attributes:
        number: its place in the order in which they were drawn, counted from 0.
        settings: by the names of the space.
        model: as after its best epoch.
        history: of its epochs.
        best_epoch: counted from 1; none where what is watched never was a number.
        values: what was watched, by name, at the best epoch.
        curve: what was watched, the first of several, an entry an epoch.
        state: "complete", "halted" where others went on instead, "stopped" where it got no better for `patience`
            epochs, or "failed".
        error: why it failed.
    """

    number: int
    settings: dict[str, Any]
    model: MultiTaskModel
    history: History
    best_epoch: int | None = None
    values: dict[str, float] = field(default_factory=dict)
    curve: list[float] = field(default_factory=list)
    state: str = "halted"
    error: str | None = None

    def __repr__(self) -> str:
        values = ", ".join(f"{name} {value:.4g}" for name, value in self.values.items())
        return f"Trial {self.number} {self.settings}: {values or '-'} ({self.state} after {len(self.history)} epochs)"


class Search(Table):
    """What `pt.search` found, shown as a table of the best trials.

    Attributes:
        trials: each a trial with `number`, `settings`, `model` (as after its best epoch), `history`, `best_epoch`,
            `values` of what was watched and `state`; the best one first, those that went further before the others.
        monitors: what trials were compared by.
        rungs: the epochs after which some went on.
        logarithmic: the settings that were drawn by their logarithm.
    """

    def __init__(
        self, trials: Sequence[Trial], monitors: Sequence[str], rungs: Sequence[int], logarithmic: Sequence[str] = ()
    ) -> None:
        self.trials = list(trials)
        self.monitors = list(monitors)
        self.rungs = list(rungs)
        self.logarithmic = list(logarithmic)

    @property
    def best(self) -> dict[str, Any]:
        """The settings of the best trial."""
        return self.trials[0].settings

    @property
    def model(self) -> MultiTaskModel:
        """The model of the best trial, as after its best epoch."""
        return self.trials[0].model

    def ensemble(self, n: int = 5) -> Ensemble:
        """The models of the `n` best trials as one predictor.

        Raises:
            ValueError: there are not so many that did not fail.
        """
        count = whole(n, "`n`")
        models = [trial.model for trial in self.trials if trial.state != "failed"]
        if count > len(models):
            raise ValueError(f"`n` should be at most {len(models)}, the trials that did not fail; got {count}")
        return Ensemble(models[:count])

    @interrupts.held()
    def to_frame(self) -> Any:
        """A pandas frame with a row a trial, the best one first.

        Raises:
            ImportError: pandas is not installed.
        """
        header, rows = self._rows(self.trials)
        return pandas("Search.to_frame").DataFrame(rows, columns=header)

    @interrupts.held()
    def plot(self) -> Any:
        """Draws what was watched (the first of several) over the epochs of each trial, and against each setting; gives
        the axes.

        Raises:
            ImportError: matplotlib is not installed.
        """
        from ..plots import pictures

        monitor = self.monitors[0]
        names = list(dict.fromkeys(name for trial in self.trials for name in trial.settings))
        axes = pictures.grid(1 + len(names), "Search.plot")
        pictures.bundle(axes[0], [trial.curve for trial in self.trials], monitor, self.rungs)
        for axis, name in zip(axes[1:], names, strict=True):
            there = [trial for trial in self.trials if name in trial.settings and trial.values]
            values = [trial.settings[name] for trial in there]
            heights = [trial.values[monitor] for trial in there]
            pictures.points(axis, values, heights, name, monitor, name in self.logarithmic)
        return axes

    def _rows(self, trials: Sequence[Trial]) -> tuple[list[str], list[list[Any]]]:
        names = list(dict.fromkeys(name for trial in self.trials for name in trial.settings))
        header = ["trial", *names, *self.monitors, "best_epoch", "epochs", "state"]
        return header, [
            [
                trial.number,
                *(trial.settings.get(name) for name in names),
                *(trial.values.get(name, np.nan) for name in self.monitors),
                trial.best_epoch,
                len(trial.history),
                trial.state,
            ]
            for trial in trials
        ]

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        return self._rows(self.trials[:_SHOWN])

    def __repr__(self) -> str:
        more = len(self.trials) - _SHOWN
        said = [f"... and {more} more"] if more > 0 else []
        after = ", ".join(map(str, self.rungs))
        said.append(f"chosen by {', '.join(self.monitors)} on the validation rows after {after} epochs: rows that "
                    "chose nothing say how good it is")  # fmt: skip
        return "\n".join([text(*self._table()), *said])
