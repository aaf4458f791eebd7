"""Ways to train several tasks, compared with single-task networks that were trained for real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ..process import interrupts
from ..values import student
from . import page
from .table import Table, html, pandas, text

#: The candidate that others are compared with.
SINGLE = "single-task"
#: The improvement over single-task training, by the three definitions in use.
DELTAS = {
    "delta-m %": "mean over metrics of the relative change, in percent, lower is better (as in papers after Nash-MTL, "
    "Navon et al., ICML 2022)",
    "improvement %": "mean over tasks of the mean over their metrics of the relative improvement, in percent, higher "
    "is better (LibMTL, Lin and Zhang, JMLR 2023, but against single-task networks instead of its first epoch)",
    "delta-MTL %": "mean over tasks of the relative improvement of the first metric, in percent, higher is better "
    "(Maninis et al., CVPR 2019; Vandenhende et al., TPAMI 2021)",
}


@dataclass
class Way:
    """One candidate, over all seeds.

    Attributes:
        name: what it is called.
        scores: on test rows, `{task: {metric: [seeds]}}`.
        losses: on validation rows, `{task: [seeds]}`.
        parameters: numbers that its networks have in all.
        seconds: how long its networks trained, a seed on average, without trials.
        trials: learning rates that were tried, of which the one with the lowest validation losses was taken.
        factor: of the learning rate that was taken.
    """

    name: str
    scores: dict[str, dict[str, np.ndarray]]
    losses: dict[str, np.ndarray]
    parameters: int
    seconds: float
    trials: int
    factor: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """A candidate's first metric of a task less that of its single-task network, on test rows.

    Attributes:
        candidate, task, metric: of which.
        mean: of the paired differences over seeds; above 0 is better, whatever the metric.
        error: its standard error.
        p: by the paired t test, corrected for all comparisons in the table (Holm 1979).
    """

    candidate: str
    task: str
    metric: str
    mean: float
    error: float
    p: float


class Comparison(Table):
    """Ways to train the tasks, with single-task networks among them; shown as a table and in sentences.

    Attributes:
        ways: by name; the single-task networks are `"single-task"`.
        higher: `{task: {metric: whether higher is better}}`.
        conflicts: `[tasks, tasks]`, the share of looks in which two tasks' gradients had a negative product while all
            trained together; None where that was not seen.
        best: the name of the way with the lowest validation losses relative to single-task ones, on average over tasks.
    """

    def __init__(
        self,
        ways: Mapping[str, Way],
        higher: Mapping[str, Mapping[str, bool]],
        rows: tuple[int, int, int],
        conflicts: np.ndarray | None = None,
    ) -> None:
        self.ways = dict(ways)
        self.higher = {task: dict(each) for task, each in higher.items()}
        self.conflicts = conflicts
        self._rows = rows
        gains = {name: float(np.nanmean(self._gains(name))) for name in self.ways}
        self.best = max(gains, key=lambda name: gains[name])

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks' names."""
        return tuple(self.higher)

    @property
    def seeds(self) -> int:
        """How many networks of each there are."""
        return len(next(iter(self.ways[SINGLE].losses.values())))

    def improvement(self, name: str, definition: str = "delta-MTL %") -> np.ndarray:
        """A way's improvement over single-task networks on test rows, `[seeds]`, against their means over seeds; the
        definitions are the keys of `Comparison.definitions`.

        Raises:
            KeyError: no way, or no definition, of that name.
        """
        each = {task: [self._relative(name, task, metric) for metric in self.higher[task]] for task in self.tasks}
        if definition == "delta-m %":
            return np.asarray(-100 * np.mean([change for changes in each.values() for change in changes], axis=0))
        if definition == "improvement %":
            return np.asarray(100 * np.mean([np.mean(changes, axis=0) for changes in each.values()], axis=0))
        if definition == "delta-MTL %":
            return np.asarray(100 * np.mean([changes[0] for changes in each.values()], axis=0))
        raise KeyError(f"no definition {definition!r}; there are {', '.join(DELTAS)}")

    #: What each definition of the improvement is.
    definitions = DELTAS

    @property
    def differences(self) -> list[Difference]:
        """Of each way and task, in order."""
        found = []
        for name in self.ways:
            if name == SINGLE:
                continue
            for task in self.tasks:
                metric = next(iter(self.higher[task]))
                sign = 1 if self.higher[task][metric] else -1
                scores = [sign * self.ways[each].scores[task][metric] for each in (name, SINGLE)]
                found.append((name, task, metric, student.paired(*scores)))
        ps = student.corrected([paired.p for *_, paired in found])
        return [
            Difference(name, task, metric, paired.mean, paired.error, p)
            for (name, task, metric, paired), p in zip(found, ps, strict=True)
        ]

    @property
    def sentences(self) -> list[str]:
        """What is best, how sure that is, and who loses."""
        train, held_out, test = self._rows
        found = []
        differences = self.differences
        if self.best == SINGLE:
            found.append("By validation losses nothing is better than single-task networks.")
        else:
            gains = self.improvement(self.best)
            mean, _ = student.mean_and_error(gains)
            low, high = student.interval(gains)
            found.append(f"`{self.best}` has the lowest validation losses. On test rows its delta-MTL is {mean:+.2f} % "
                         f"(95 % interval {low:+.2f} to {high:+.2f}) over single-task networks.")  # fmt: skip
        for each in differences:
            if each.mean < 0 and each.p < 0.05:
                found.append(self._lost(each))
        sure = [each for each in differences if each.mean > 0 and each.p < 0.05]
        for each in sure:
            found.append(f"`{each.task}` gains {each.mean:.4f} {each.metric} by {each.candidate} (p = {each.p:.2g}).")
        if not sure and len(differences):
            found.append("No task is better than alone with p below 0.05.")
        trials = sorted({way.trials for way in self.ways.values()})
        tuned = " or ".join(map(str, trials))
        rows = f"{train} rows to learn from, {held_out} to choose by, {test} to test"
        tried = f"{tuned} learning rates tried for each network, single-task ones as well"
        by = f"p by a paired t test over seeds, corrected for {len(differences)} comparisons"
        found.append(f"{self.seeds} seeds; {rows}; {tried}; {by}.")
        return found

    def _lost(self, each: Difference) -> str:
        said = f"`{each.task}` loses {-each.mean:.4f} {each.metric} by {each.candidate} (p = {each.p:.2g})"
        if self.conflicts is None:
            return f"{said}."
        at = self.tasks.index(each.task)
        others = np.delete(np.arange(len(self.tasks)), at)
        worst = int(others[np.nanargmax(self.conflicts[at, others])])
        share = 100 * float(self.conflicts[at, worst])
        return f"{said}; its gradient conflicts most with that of `{self.tasks[worst]}`, in {share:.0f} % of looks."

    def _relative(self, name: str, task: str, metric: str) -> np.ndarray:
        """By how much a score is better than the single-task networks' mean, relative to that."""
        single = float(np.nanmean(self.ways[SINGLE].scores[task][metric]))
        sign = 1 if self.higher[task][metric] else -1
        with np.errstate(all="ignore"):
            return np.asarray(sign * (self.ways[name].scores[task][metric] - single) / abs(single))

    def _gains(self, name: str) -> np.ndarray:
        alone = self.ways[SINGLE].losses
        with np.errstate(all="ignore"):
            each = [(alone[task] - self.ways[name].losses[task]) / np.abs(alone[task]) for task in self.tasks]
        return np.asarray(np.mean(each, axis=0))

    @interrupts.held()
    def to_frame(self) -> Any:
        """A pandas frame with a row a way, task and metric: mean, ends of the interval, seeds.

        Raises:
            ImportError: pandas is not installed.
        """
        rows = []
        for name, way in self.ways.items():
            for task in self.tasks:
                for metric in self.higher[task]:
                    values = way.scores[task][metric]
                    low, high = student.interval(values)
                    mean, _ = student.mean_and_error(values)
                    rows.append({"candidate": name, "task": task, "metric": metric, "mean": mean, "low": low,
                                 "high": high, "seeds": len(values)})  # fmt: skip
        return pandas("Comparison.to_frame").DataFrame(rows)

    def save(self, path: str | PathLike[str]) -> None:
        """Writes the report as one HTML page that needs nothing else.

        Raises:
            OSError: what the operating system says.
        """
        parts = [page.section("What was found", page.paragraphs(self.sentences))]
        differences = self.differences
        for task in self.tasks:
            each = [difference for difference in differences if difference.task == task]
            spread = student.quantile(0.95, max(self.seeds - 1, 1))
            means = np.array([one.mean for one in each])
            ends = np.array([[one.mean - spread * one.error, one.mean + spread * one.error] for one in each])
            if len(each):
                title = f"{task}: {each[0].metric} beyond its single-task network, with 95 % intervals"
                names = [one.candidate for one in each]
                parts.append(page.section(task, page.bars(title, names, means, ends.reshape(-1, 2), "")))
        parts.append(page.section("All numbers", page.table(*self._table())))
        header = ["candidate", "task", "metric", "difference", "error", "p"]
        tests = [[one.candidate, one.task, one.metric, one.mean, one.error, one.p] for one in differences]
        parts.append(page.section("Against single-task networks", page.table(header, tests)))
        meant = [f"{name}: {what}." for name, what in DELTAS.items()]
        parts.append(page.section("What the improvements are", page.paragraphs(meant)))
        Path(path).write_text(page.page(f"Comparison of {', '.join(self.tasks)}", parts), encoding="utf-8")

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        scores = [(task, metric) for task in self.tasks for metric in self.higher[task]]
        header = ["", "candidate", *(f"{task} {metric}" for task, metric in scores), *DELTAS, "parameters", "seconds"]
        rows = []
        for name, way in self.ways.items():
            cells = [_with_interval(way.scores[task][metric]) for task, metric in scores]
            deltas = [_with_interval(self.improvement(name, definition), 2) for definition in DELTAS]
            mark = "*" if name == self.best else ""
            rows.append([mark, name, *cells, *deltas, f"{way.parameters:,}", f"{way.seconds:.1f}"])
        return header, rows

    def __repr__(self) -> str:
        return "\n".join([*self.sentences, "", text(*self._table())])

    def _repr_html_(self) -> str:
        return "".join(f"<p>{escape(sentence)}</p>" for sentence in self.sentences) + html(*self._table())


def _with_interval(values: Sequence[float] | np.ndarray, digits: int = 4) -> str:
    mean, _ = student.mean_and_error(values)
    low, high = student.interval(values)
    return f"{mean:.{digits}f}" if np.isnan(low) else f"{mean:.{digits}f} ± {(high - low) / 2:.{digits}f}"
