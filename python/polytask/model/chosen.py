"""What a search for an ensemble found: a predictor, and what is known of the networks that it was chosen from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import embedding
from ..components.component import Component, plain
from ..components.registry import make
from ..process import interrupts
from ..results.table import Table, pandas, text
from .ensemble import Ensemble
from .model import MultiTaskModel

#: Networks that are shown.
_SHOWN = 10


@dataclass
class Candidate:
    """One network that an ensemble could choose.

    Attributes:
        number: its place in the order in which they were drawn, counted from 0.
        settings: by the names of the space.
        epochs: how many it made.
        losses: of its best epoch on the validation rows, by task.
        weights: what its predictions count in the ensemble, by task.
        state: "complete", "stopped" where no task got better any more, "halted" where time was over, or "failed".
        error: why it failed.
    """

    number: int
    settings: dict[str, Any]
    epochs: int
    losses: dict[str, float]
    weights: dict[str, float]
    state: str
    error: str | None = None


class GreedyEnsemble(Ensemble, Table, kept_as="greedy"):
    """The predictor that `pt.search(ensemble="greedy")` gives: a `pt.Ensemble` whose members each task weighs for
    itself, shown as a table of the networks that count most. `save` keeps all of it.

    Attributes:
        members: what each model is, "network@epoch".
        trials: the networks that there were, each with `number`, `settings`, `epochs`, `losses`, `weights` and
            `state`.
        rounds: a row an epoch, with each task's `loss` of the ensemble and that of the best `single` network so far, on
            the validation rows that chose them, how many networks trained, and how many seconds that took.
    """

    def __init__(
        self,
        models: Sequence[MultiTaskModel],
        weights: Mapping[str, Sequence[float]],
        members: Sequence[str],
        trials: Sequence[Candidate],
        rounds: Sequence[dict[str, Any]],
    ) -> None:
        super().__init__(models, weights=weights)
        self.members = list(members)
        self.trials = list(trials)
        self.rounds = list(rounds)

    @property
    def best(self) -> dict[str, Any]:
        """The settings of the network that counts most, summed over tasks."""
        return self._ranked()[0].settings

    @interrupts.held()
    def to_frame(self) -> Any:
        """A pandas frame with a row a network, those that count most first.

        Raises:
            ImportError: pandas is not installed.
        """
        header, rows = self._rows(self._ranked())
        return pandas("GreedyEnsemble.to_frame").DataFrame(rows, columns=header)

    @interrupts.held()
    def plot(self) -> Any:
        """Draws for each task the loss of the ensemble over the rounds beside that of the best single network so far;
        gives the axes.

        Raises:
            ImportError: matplotlib is not installed.
        """
        from ..plots import pictures

        axes = pictures.grid(len(self.tasks), "GreedyEnsemble.plot")
        for axis, task in zip(axes, self.tasks, strict=True):
            lines = {what: [row[f"{task.name}/{what}"] for row in self.rounds] for what in ("loss", "single")}
            epochs = range(1, len(self.rounds) + 1)
            axis.plot(epochs, lines["loss"], label="the ensemble")
            axis.plot(epochs, lines["single"], label="the best network")
            axis.set(xlabel="epoch", ylabel=f"validation/{task.name}/loss")
            axis.legend()
        return axes

    def _about(self) -> dict[str, Any]:
        trials = [{**vars(each), "settings": {name: _kept(value) for name, value in each.settings.items()}}
                  for each in self.trials]  # fmt: skip
        return {"kind": "greedy", "members": self.members, "trials": trials, "rounds": self.rounds}

    @classmethod
    def _restored(
        cls, models: Sequence[MultiTaskModel], weights: Mapping[str, Sequence[float]] | None, about: Mapping[str, Any]
    ) -> GreedyEnsemble:
        trials = [Candidate(**{**each, "settings": {name: _given(value) for name, value in each["settings"].items()}})
                  for each in about["trials"]]  # fmt: skip
        found = cls(models, weights or {}, about["members"], trials, about["rounds"])
        if len(found.members) != len(models):
            raise ValueError(f"it has names of {len(found.members)} members, and there are {len(models)}")
        repr(found)  # which looks at all of it
        return found

    def __getstate__(self) -> dict[str, Any]:
        # A pickle names no class but this one.
        return {**vars(self), "trials": [vars(each) for each in self.trials]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "trials": [Candidate(**each) for each in state["trials"]]})

    def _ranked(self) -> list[Candidate]:
        return sorted(self.trials, key=lambda each: (-sum(each.weights.values()), each.number))

    def _rows(self, candidates: Sequence[Candidate], differing: bool = False) -> tuple[list[str], list[list[Any]]]:
        """A row a network, with all settings, or those that are not the same everywhere."""
        settings = list(dict.fromkeys(name for each in self.trials for name in each.settings))
        if differing:
            first = self.trials[0].settings
            settings = [name for name in settings
                        if any(each.settings.get(name) != first.get(name) for each in self.trials)]  # fmt: skip
        names = [task.name for task in self.tasks]
        header = ["network", *(f"{name}/weight" for name in names), *(f"{name}/loss" for name in names), *settings,
                  "epochs", "state"]  # fmt: skip
        return header, [
            [
                each.number,
                *(each.weights.get(name, np.nan) for name in names),
                *(each.losses.get(name, np.nan) for name in names),
                *(each.settings.get(name) for name in settings),
                each.epochs,
                each.state,
            ]
            for each in candidates
        ]

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        return self._rows(self._ranked()[:_SHOWN], differing=True)

    def __repr__(self) -> str:
        more = len(self.trials) - _SHOWN
        said = [f"... and {more} more"] if more > 0 else []
        last = self.rounds[-1] if self.rounds else {}
        each = (f"{task.name} {last.get(f'{task.name}/loss', np.nan):.4f} (best network "
                f"{last.get(f'{task.name}/single', np.nan):.4f})" for task in self.tasks)  # fmt: skip
        networks = len({member.partition("@")[0] for member in self.members})
        said.append(f"{len(self)} members, from {networks} of {len(self.trials)} networks, after {len(self.rounds)} "
                    f"epochs; validation losses: {', '.join(each)}: rows that chose nothing say how good it "
                    "is")  # fmt: skip
        return "\n".join([text(*self._table()), *said])


def _kept(value: Any) -> Any:
    """A setting as JSON has it."""
    if isinstance(value, Component):
        return {"component": value.family, **value.describe()}
    if isinstance(value, embedding.Piecewise | embedding.Periodic):
        return {"embedding": value.describe()["name"], **{name: _kept(each) for name, each in vars(value).items()}}
    if isinstance(value, tuple):
        return {"tuple": [_kept(each) for each in value]}
    return plain(value, "a setting")


def _given(kept: Any) -> Any:
    """A setting as it was."""
    if not isinstance(kept, dict):
        return kept
    said = dict(kept)
    if "component" in said:
        made = make(said.pop("component"), said)
        if made is None:
            raise ValueError(f"there is no component {said['name']!r}")
        return made
    if "embedding" in said:
        return embedding.made(said.pop("embedding"), {name: _given(each) for name, each in said.items()})
    return tuple(map(_given, said["tuple"])) if "tuple" in said else said
