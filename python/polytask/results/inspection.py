"""A look inside a model: gates, the use of experts, and how tasks' features are mixed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..arguments.messages import listed, none_of
from ..process import interrupts
from .relation import Relation
from .table import text

#: An expert that weighs less than this share of an equal part, for every task, is called dead.
DEAD = 0.01


class Gates(NamedTuple):
    """The gates of one place in the model.

    Attributes:
        name: where: `gates`, `levels.0.shared_gate`, ...
        owners: whose gates these are: tasks, mostly.
        experts: `[owners][experts]` names; experts of single tasks differ from owner to owner.
        values: `[owners, rows, experts]`, each row sums to 1; positions within rows lie end to end.
    """

    name: str
    owners: list[str]
    experts: list[list[str]]
    values: np.ndarray

    def of(self, owner: str) -> np.ndarray:
        """The gates of one owner, `[rows, experts]`.

        Raises:
            KeyError: nobody is called so.
        """
        if owner not in self.owners:
            raise KeyError(f"{self.name}: no owner {none_of(owner, self.owners, 'there are')}")
        values: np.ndarray = self.values[self.owners.index(owner)]
        return values

    @property
    def use(self) -> np.ndarray:
        """The mean over rows: how much each owner uses each expert, `[owners, experts]`."""
        mean: np.ndarray = self.values.mean(axis=1)
        return mean

    @property
    def expert_names(self) -> list[str]:
        """The experts' names without their owners'."""
        return [name.split(": ")[-1] for name in self.experts[0]]

    @property
    def dead(self) -> list[str]:
        """Experts that hardly weigh anything for anyone."""
        most: dict[str, float] = {}
        for names, row in zip(self.experts, self.use, strict=True):
            for name, use in zip(names, row, strict=True):
                most[name] = max(most.get(name, 0.0), float(use))
        return [name for name, use in most.items() if use * self.values.shape[2] < DEAD]


class Places(dict[str, Gates]):
    """Gates by the name of their place; those of a task that has some in a single place, by the task's name too."""

    def __missing__(self, owner: str) -> np.ndarray:
        places = [name for name, gates in self.items() if owner in gates.owners]
        if len(places) == 1:
            return self[places[0]].of(owner)
        if places:
            raise KeyError(f"{owner!r} has gates in {listed(places)}: gates[{places[-1]!r}].of({owner!r})")
        owners = dict.fromkeys(name for gates in self.values() for name in gates.owners)
        raise KeyError(f"no gates {none_of(owner, [*self, *owners], 'there are')}")


class FeatureMix(NamedTuple):
    """A learned mix of features.

    Attributes:
        name: where: `stitches.0`, `layers`, `branching`, ...
        to, sources: what is mixed from what.
        values: `[to, sources]`: weights, or with `choice` how likely each source is chosen.
        choice: whether one source is chosen, the likeliest in evaluation.
    """

    name: str
    to: list[str]
    sources: list[str]
    values: np.ndarray
    choice: bool

    @property
    def chosen(self) -> dict[str, str]:
        """The likeliest source of each."""
        return {to: self.sources[int(row.argmax())] for to, row in zip(self.to, self.values, strict=True)}


class Inspection:
    """What `MultiTaskModel.inspect` saw.

    Attributes:
        gates: by name, each with `values`, `use` and `dead`; where a task has gates in one place alone,
            `gates["income"]` are its values, `[rows, experts]`.
        mixes: by name, each with `values`.
        relation: how the tasks are related, if a training learned it; see `MultiTaskModel.relation`.
    """

    def __init__(self, gates: Sequence[Gates], mixes: Sequence[FeatureMix], relation: Relation | None) -> None:
        self.relation = relation
        self.gates = Places({each.name: each for each in gates})
        self.mixes = {each.name: each for each in mixes}

    @classmethod
    def of(
        cls, parts: Sequence[list[tuple[str, str, list[str], list[str], int, np.ndarray]]], relation: Relation | None
    ) -> Inspection:
        """From what the core reports for each batch."""
        gates = []
        mixes = []
        for k, (name, kind, rows, columns, own, values) in enumerate(parts[0]):
            if kind != "gates":
                mixes.append(FeatureMix(name, rows, columns, values, kind == "choice"))
                continue
            names = [[f"{row}: {column}" if j < own else column for j, column in enumerate(columns)] for row in rows]
            whole = values if len(parts) == 1 else np.concatenate([part[k][5] for part in parts], axis=1)
            gates.append(Gates(name, rows, names, whole))
        return cls(gates, mixes, relation)

    @property
    def dead(self) -> list[str]:
        """Experts that no task uses, with the place of their gates where there are several."""
        several = len(self.gates) > 1
        return [f"{gates.name}: {name}" if several else name for gates in self.gates.values() for name in gates.dead]

    @interrupts.held()
    def plot(self, name: str | None = None) -> Any:
        """Draws one place by its name, or all: expert use as bars of each owner, mixes as heat maps.

        Raises:
            ValueError: a name that is not there, or nothing to draw.
        """
        from ..plots import pictures

        have = [*self.gates, *self.mixes]
        if not have:
            raise ValueError("this sharing scheme has neither gates nor mixes to draw")
        if name is not None and name not in have:
            raise ValueError(f"`name`: there is no {none_of(name, have, 'there are')}")
        chosen = have if name is None else [name]
        axes = pictures.panels(len(chosen), "Inspection.plot")
        for axis, each in zip(axes, chosen, strict=True):
            if each in self.gates:
                gates = self.gates[each]
                pictures.stacked_bars(axis, gates.use, gates.owners, gates.expert_names, each)
            else:
                mix = self.mixes[each]
                pictures.heat_map(axis, mix.values, mix.to, mix.sources, each)
        return axes

    def __repr__(self) -> str:
        parts = []
        for gates in self.gates.values():
            rows = [[owner, *map(float, use)] for owner, use in zip(gates.owners, gates.use, strict=True)]
            parts.append(f"{gates.name}: mean weight of each expert\n{text(['', *gates.expert_names], rows)}")
        for mix in self.mixes.values():
            rows = [[to, *map(float, row)] for to, row in zip(mix.to, mix.values, strict=True)]
            title = "how likely each is chosen" if mix.choice else "weights"
            parts.append(f"{mix.name}: {title}\n{text(['', *mix.sources], rows)}")
        if self.relation is not None:
            parts.append(f"relation: correlations of the tasks\n{self.relation!r}")
        if self.dead:
            parts.append(f"experts that no task uses: {listed(self.dead)}")
        return "\n\n".join(parts) or "nothing to see: this sharing scheme has neither gates nor mixes"
