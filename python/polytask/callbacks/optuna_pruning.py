"""Trials of Optuna that end early."""

import logging
from typing import Any

from ..arguments.keywords import checked
from ..training.callback import Callback
from ..training.run import Run
from . import library

_log = logging.getLogger("polytask")


class OptunaPruning(Callback):
    """Reports a column of the history to a trial of Optuna after each epoch, and ends the run where the trial is to be
    pruned: `fit` then raises `optuna.TrialPruned`, which belongs to Optuna and should pass.

    Arguments:
        trial: the `optuna.Trial` of an objective.
        monitor: a column of the history; that of the validation is taken if there is one.

    Raises:
        ValueError: before the first step, when the history will not have the column.
        ImportError: before the first step, when `optuna` is not installed.
    """

    of_one_run = True

    @checked
    def __init__(self, trial: Any, monitor: str = "loss") -> None:
        if not callable(getattr(trial, "report", None)) or not callable(getattr(trial, "should_prune", None)):
            raise TypeError(f"`trial` should be an optuna.Trial, as objectives are given; got {type(trial).__name__}")
        if not isinstance(monitor, str):
            raise TypeError(f"`monitor` should be the name of a column of the history; got {monitor!r}")
        self.trial = trial
        self.monitor = monitor

    def on_fit_start(self, trainer: Run) -> None:
        library.load("optuna", "pt.callbacks.OptunaPruning", "optuna")
        column, _ = trainer.watch(self.monitor, "min")
        try:
            _, sign = trainer.watch(self.monitor)
        except ValueError:  # nobody says which direction is better
            return
        direction = getattr(getattr(self.trial, "study", None), "direction", None)
        if getattr(direction, "name", None) == ("MINIMIZE" if sign > 0 else "MAXIMIZE"):
            _log.warning("`%s` is better the %s, and the study is to %s what it reports", column,
                         "higher" if sign > 0 else "lower", direction.name.lower())  # type: ignore[union-attr]  # fmt: skip

    def on_epoch_end(self, trainer: Run, row: dict[str, Any]) -> None:
        column, _ = trainer.watch(self.monitor, "min")
        self.trial.report(float(row[column]), row["epoch"])
        if self.trial.should_prune():
            optuna = library.load("optuna", "pt.callbacks.OptunaPruning", "optuna")
            raise optuna.TrialPruned(f"pruned after epoch {row['epoch']}: `{column}` was {row[column]:.4g}")

    def __repr__(self) -> str:
        return f"OptunaPruning(monitor={self.monitor!r})"
