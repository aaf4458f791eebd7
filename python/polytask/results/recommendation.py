"""What to train for several tasks, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments.paths import page_path
from ..process import interrupts
from ..values import student
from . import page
from .relatedness import Groups, Relatedness
from .table import Table, html, pandas, text

#: The candidate that others are compared with.
ALONE = "one each"
#: A gain of this p or more may be chance.
_CHANCE = 0.05


@dataclass
class Candidate:
    """One way to train the tasks.

    Attributes:
        name: what it is called.
        what: what it is, in words.
        groups: which tasks it trains together.
        losses: validation loss of each task, `[seeds]`.
        seconds: how long its networks trained, over all seeds.
    """

    name: str
    what: str
    groups: list[list[str]]
    losses: dict[str, np.ndarray] = field(default_factory=dict)
    seconds: float = 0.0


class Recommendation(Table):
    """What to train, shown as a table and in sentences.

    Attributes:
        choice: the name of the candidate to train.
        groups: the tasks that it trains together, a list of names each.
        candidates: all that were compared, by name.
        relatedness: the `pt.Relatedness` that made the groups; None if there was no time for it.
        model: the choice, trained, of the seed with the lowest validation losses: a `pt.MultiTaskModel`, or a
            `pt.Ensemble` of several where groups have tables of categories of their own; with `quality="best"` an
            ensemble of networks like the choice.
        skipped: what there was no time for.
        refused: what the model's parts are not made for, and why.
        trees: of each task for which there were boosted trees, its first `metric` on the held-out rows by the choice
            (`network`) and by `trees`, of which `library`, and whether they are `better`: a dict a task. Beside them
            what a `constant` has, the mean label or the share of each class, and whether the network is `useful`,
            better than that; not of callables.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        candidates: Mapping[str, Candidate],
        relatedness: Relatedness | None,
        groups: Groups | None,
        rows: tuple[int, int],
        skipped: Sequence[str] = (),
    ) -> None:
        self.tasks = tuple(tasks)
        self.candidates = dict(candidates)
        self.relatedness = relatedness
        self.found = groups
        self.skipped = list(skipped)
        self.refused: list[str] = []
        self.model: Any = None
        self.trees: dict[str, dict[str, Any]] = {}
        #: What an ensemble of the choice is, in words, if there is one.
        self.packed = ""
        self._rows = rows
        means = {name: float(np.nanmean(self.gains(name))) for name in self.candidates}
        self.choice = max(means, key=lambda name: means[name])
        self.groups = self.candidates[self.choice].groups

    def gains(self, name: str) -> np.ndarray:
        """By how much, relative to it, a candidate's validation loss is lower than that of one network each: the mean
        over tasks, `[seeds]`.
        """
        each = [self.gains_of(name, task) for task in self.tasks]
        return np.asarray(np.mean(each, axis=0))

    def gains_of(self, name: str, task: str) -> np.ndarray:
        """The same for one task, `[seeds]`."""
        alone = self.candidates[ALONE].losses[task]
        with np.errstate(all="ignore"):
            return np.asarray((alone - self.candidates[name].losses[task]) / np.abs(alone))

    @property
    def sentences(self) -> list[str]:
        """What to train and how sure that is, which tasks lose by it, and what was not tried."""
        seeds = len(self.gains(ALONE))
        train, held_out = self._rows
        chosen = self.candidates[self.choice]
        found = [f"Train {chosen.what}."] if len(self.tasks) > 1 else []
        others = [name for name in self.candidates if name != ALONE]
        if self.choice == ALONE:
            best = max(others, key=lambda name: float(np.nanmean(self.gains(name))), default=None)
            if best is not None:
                mean, _ = student.mean_and_error(self.gains(best))
                worse = f"{_percent(-mean)} more validation loss a task on average{self._sure(best)}"
                found.append(f"Nothing that shares helps: the best of it, {self.candidates[best].what}, has {worse}.")
        else:
            mean, _ = student.mean_and_error(self.gains(self.choice))
            found.append(f"Its validation loss is {_percent(mean)} lower a task on average than that of one network "
                         f"each{self._sure(self.choice)}.")  # fmt: skip
            if not self._p(self.choice) < _CHANCE:
                found.append(
                    "That may be chance: as far as these seeds and rows can tell, one network each is as good."
                )
            close = [name for name in self.candidates if name != self.choice and self._near(name)]
            if close:
                names = " and ".join(self.candidates[name].what for name in close)
                found.append(f"Within one standard error of it are: {names}.")
            for task in self.tasks:
                mean, error = student.mean_and_error(self.gains_of(self.choice, task))
                if mean < 0 and (np.isnan(error) or -mean > error):
                    found.append(f"`{task}` loses by it: its loss is {_percent(-mean)} higher than alone.")
        this = "There is one task and nothing to share. This" if len(self.tasks) < 2 else "This"
        found.append(f"{this} is by {seeds} seeds on {held_out} held-out rows, beside {train} to learn from.")
        found += [self.packed] if self.packed else []
        found += of_trees(self.trees)
        found += [f"Not tried: {each}." for each in self.refused]
        if self.skipped:
            found.append(f"There was no time for: {'; '.join(self.skipped)}. A larger `budget` would try that.")
        return found

    def _sure(self, name: str) -> str:
        gains = self.gains(name)
        p = self._p(name)
        if np.isnan(p):
            return ", by one seed, which says nothing of how sure that is"
        low, high = (100 * end for end in student.interval(gains))
        return f" (95 % interval of the gain {low:+.2f} to {high:+.2f} %, p = {p:.2g})"

    def _p(self, name: str) -> float:
        """Of a gain so far from 0 if there were none; NaN of one seed."""
        gains = self.gains(name)
        return student.paired(gains, np.zeros_like(gains)).p

    def _near(self, name: str) -> bool:
        paired = student.paired(self.gains(self.choice), self.gains(name))
        return not np.isnan(paired.error) and paired.mean <= paired.error

    @interrupts.held()
    def to_frame(self) -> Any:
        """The table as a pandas frame, with the choice marked by True.

        Raises:
            ImportError: pandas is not installed.
        """
        header, rows = self._table()
        marked = [[mark == "*", *row] for mark, *row in rows]
        return pandas("Recommendation.to_frame").DataFrame(marked, columns=["choice", *header[1:]])

    def save(self, path: str | PathLike[str]) -> None:
        """Writes what was found as one HTML page that needs nothing else; `model.save` keeps the model.

        Raises:
            OSError: what the operating system says.
            ValueError: a path that ends as files of another kind do.
        """
        parts = [
            page.section("What was found", page.paragraphs(self.sentences)),
            page.section("All numbers", page.table(*self._table())),
        ]
        whole = page.page(f"What to train for {', '.join(self.tasks)}", parts)
        Path(page_path(path)).write_text(whole, encoding="utf-8")

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        header = ["", "candidate", "gain %", "error", *(f"{task} loss" for task in self.tasks), "seconds"]
        rows = []
        for name, each in self.candidates.items():
            mean, error = student.mean_and_error(self.gains(name))
            losses = [float(np.nanmean(each.losses[task])) for task in self.tasks]
            rows.append(["*" if name == self.choice else "", name, 100 * mean, 100 * error, *losses, each.seconds])
        return header, rows

    def __getstate__(self) -> dict[str, Any]:
        # A pickle names no class but this one.
        return {**vars(self), "candidates": {name: vars(each) for name, each in self.candidates.items()}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        candidates = {name: Candidate(**each) for name, each in state["candidates"].items()}
        # Those of earlier versions have none of it.
        vars(self).update({"trees": {}, "packed": "", "refused": [], **state, "candidates": candidates})

    def __repr__(self) -> str:
        return "\n".join([*self.sentences, "", text(*self._table())])

    def _repr_html_(self) -> str:
        return "".join(f"<p>{escape(sentence)}</p>" for sentence in self.sentences) + html(*self._table())


def of_trees(trees: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Of each task, in words, whether boosted trees are better than the network, and who is better than a constant."""
    found = []
    for task, each in trees.items():
        who = "Boosted trees are better at" if each["better"] else "Boosted trees are not better at"
        tree, network = f"{each['trees']:.4f} ({each['library']})", f"{each['network']:.4f}"
        said = f"{who} `{task}`: {each['metric']} {tree}, the network's is {network}."
        if not each.get("useful", True):
            gained = (each["trees"] - each["constant"]) * (each["trees"] - each["network"])
            none = "The network's is not" if each["better"] and gained > 0 else "Neither is"
            said += f" {none} better than that of the same prediction for every row, {each['constant']:.4f}."
        found.append(said)
    return found


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
