"""Ways to train several tasks, compared with single-task networks that were trained for real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments.messages import listed, none_of
from ..arguments.paths import page_path
from ..plots import pictures, svg
from ..process import interrupts
from ..values import student
from . import page
from .table import Table, html, pandas, shown, text

#: The candidate that others are compared with.
SINGLE = "single-task"
#: Of the intervals, and of the tests that are said to be sure.
_CONFIDENCE = 0.95
#: The improvement over single-task training, by the three definitions in use.
DELTAS = {
    "delta-m %": "mean over metrics of the relative change, in percent, lower is better (as in papers after Nash-MTL, "
    "Navon et al., ICML 2022)",
    "improvement %": "mean over tasks of the mean over their metrics of the relative improvement, in percent, higher "
    "is better (LibMTL, Lin and Zhang, JMLR 2023, but against single-task networks instead of its first epoch)",
    "delta-MTL %": "mean over tasks of the relative improvement of the first metric, in percent, higher is better "
    "(Maninis et al., CVPR 2019; Vandenhende et al., TPAMI 2021)",
}
#: The same below a table, in short.
LEGEND = (
    "Against single-task: delta-m %, the mean change over metrics, is better low; improvement %, the mean gain over "
    "tasks and their metrics, and delta-MTL %, that of first metrics, are better high."
)
#: Metrics that are 0 where nothing was learned, and what of them counts as such.
_AROUND_ZERO = ("r2", "explained_variance", "pearson", "spearman", "quadratic_kappa")
_SMALL = 0.02
#: What is said above the shares of conflicts.
CONFLICTS = (
    "While a candidate's network of the last seed trained, its tasks' gradients at the parameters that all share were "
    "looked at ten times an epoch, at batches of training rows and without dropout. Two conflict in a look where their "
    "product is negative; a cosine near 0 says that they are nearly at a right angle."
)


@dataclass
class Way:
    """One candidate, over all seeds.

    Attributes:
        name: what it is called.
        scores: on test rows, `{task: {metric: [seeds]}}`.
        losses: on validation rows, `{task: [seeds]}`.
        parameters: numbers that its networks have in all.
        seconds: of training, a seed on average, without trials and evaluations; networks that trained side by side
            count as if one after another.
        tried: factors of the learning rate that were tried.
        factor: the one with the lowest validation losses, which was taken, for each network by the names of its tasks.
        conflicts: `[tasks, tasks]`, the share of looks in which two tasks' gradients had a negative product while its
            network of the last seed trained; None where that was not seen.
        cosines: `[tasks, tasks]`, the mean cosine of two tasks' gradients in the same looks.
    """

    name: str
    scores: dict[str, dict[str, np.ndarray]]
    losses: dict[str, np.ndarray]
    parameters: int
    seconds: float
    tried: Sequence[float]
    factor: dict[str, float] = field(default_factory=dict)
    conflicts: np.ndarray | None = None
    cosines: np.ndarray | None = None


@dataclass(frozen=True)
class Difference:
    """A candidate's first metric of a task less that of its single-task network, on test rows.

    Attributes:
        candidate, task, metric: of which.
        mean: of the paired differences over seeds, in the metric's own units; above 0 is better, whatever the metric.
        error: its standard error.
        low, high: its 95 % interval by Student's t, not corrected.
        p: by the paired t test, corrected for all comparisons in the table (Holm 1979); NaN of fewer than two seeds.
    """

    candidate: str
    task: str
    metric: str
    mean: float
    error: float
    low: float
    high: float
    p: float

    @property
    def sure(self) -> bool:
        """Whether p is below 0.05."""
        return self.p < 1 - _CONFIDENCE


class Comparison(Table):
    """Ways to train the tasks, with single-task networks among them; shown as a table and in sentences.

    The improvement over single-task training has three definitions, the keys of `Comparison.definitions`:
    `"delta-m %"`, the mean over metrics of the relative change, lower is better (Navon et al., Multi-Task Learning as a
    Bargaining Game, ICML 2022); `"improvement %"`, the mean over tasks of the mean over their metrics of the relative
    improvement, higher is better (Lin and Zhang, LibMTL, JMLR 2023, there against the first epoch of the same run); and
    `"delta-MTL %"`, the mean over tasks of the relative improvement of the first metric, higher is better (Maninis et
    al., Attentive Single-Tasking of Multiple Tasks, CVPR 2019; Vandenhende et al., TPAMI 2021). One run can be better
    by one and worse by another. All are relative to the absolute value of a metric, and mean little where that may be
    near 0, as R2 may.

    Attributes:
        ways: by name; the single-task networks are `"single-task"`.
        higher: `{task: {metric: whether higher is better}}`.
        how: sentences that say how networks were trained, chosen and judged.
        best: the name of the way with the lowest validation losses relative to single-task ones, on average over tasks
            and seeds; test rows have no part in it.
    """

    #: What each definition of the improvement is.
    definitions = DELTAS

    def __init__(
        self,
        ways: Mapping[str, Way],
        higher: Mapping[str, Mapping[str, bool]],
        rows: tuple[int, int, int],
        how: Sequence[str] = (),
    ) -> None:
        self.ways = dict(ways)
        self.higher = {task: dict(each) for task, each in higher.items()}
        self.how = list(how)
        self._rows = rows
        gains = {name: student.mean_and_error(self._gains(name))[0] for name in self.ways}
        self.best = max(gains, key=lambda name: -np.inf if np.isnan(gains[name]) else gains[name])

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks' names."""
        return tuple(self.higher)

    @property
    def seeds(self) -> int:
        """How many networks of each there are."""
        return len(next(iter(self.ways[SINGLE].losses.values())))

    def improvement(self, name: str, definition: str = "delta-MTL %") -> np.ndarray:
        """A way's improvement over the single-task networks of the same seeds on test rows, `[seeds]`, in percent of
        their mean; NaN of a seed in which a metric is not defined.

        Raises:
            KeyError: no way, or no definition, of that name.
        """
        if name not in self.ways:
            raise KeyError(f"no candidate {none_of(name, self.ways, 'there are')}")
        each = {task: [self._relative(name, task, metric) for metric in self.higher[task]] for task in self.tasks}
        if definition == "delta-m %":
            return np.asarray(-100 * np.mean([change for changes in each.values() for change in changes], axis=0))
        if definition == "improvement %":
            return np.asarray(100 * np.mean([np.mean(changes, axis=0) for changes in each.values()], axis=0))
        if definition == "delta-MTL %":
            return np.asarray(100 * np.mean([changes[0] for changes in each.values()], axis=0))
        raise KeyError(f"no definition {none_of(definition, DELTAS, 'there are')}")

    @property
    def differences(self) -> list[Difference]:
        """Of each way and task, in order: the first metric, by a paired t test over seeds, with p corrected for all of
        them (Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics, 1979).
        """
        found = []
        for name in self.ways:
            if name == SINGLE:
                continue
            for task in self.tasks:
                metric = next(iter(self.higher[task]))
                sign = 1 if self.higher[task][metric] else -1
                scores = [sign * self.ways[each].scores[task][metric] for each in (name, SINGLE)]
                ends = student.interval(scores[0] - scores[1], _CONFIDENCE)
                found.append((name, task, metric, student.paired(*scores), ends))
        ps = student.corrected([paired.p for *_, paired, _ in found])
        return [
            Difference(name, task, metric, paired.mean, paired.error, *ends, p)
            for (name, task, metric, paired, ends), p in zip(found, ps, strict=True)
        ]

    @property
    def sentences(self) -> list[str]:
        """What is best, who loses and to whom, who gains, and how sure that is."""
        differences = self.differences
        sure = [each for each in differences if each.sure]
        gained = [each for each in sure if each.mean > 0]
        found = [self._best(), *(self._lost(each) for each in sure if each.mean < 0)]
        found += [f"{self._changed(each, 'better')}." for each in gained]
        for task in self.tasks:
            lower = [each for each in differences if each.task == task and each.mean < 0 and not each.sure]
            found += [self._lower(lower)] if lower else []
        if self.seeds < 2:
            found.append("One seed says nothing of chance: there are no intervals, and p is not known.")
        elif differences and not gained:
            found.append("No task is better than alone with p below 0.05.")
        return [*found, *self._near_zero(), *self._edges(), self._summary(len(differences))]

    def _near_zero(self) -> list[str]:
        """Says which scores of single-task networks are so small that changes relative to them say little."""
        found = []
        for task in self.tasks:
            for metric, scores in ((metric, self.ways[SINGLE].scores[task][metric]) for metric in self.higher[task]):
                mean, error = student.mean_and_error(scores)
                if len(self.ways) > 1 and (abs(mean) < _SMALL or abs(mean) < 2 * error) and metric in _AROUND_ZERO:
                    found.append(f"`{task}`: {metric} of single-task networks is {shown(mean)}, near 0, by which "
                                 "changes are divided: the improvements in percent say little.")  # fmt: skip
        return found

    def _best(self) -> str:
        if self.best == SINGLE:
            return "By validation losses nothing is better than single-task networks."
        gains = self.improvement(self.best)
        mean, _ = student.mean_and_error(gains)
        low, high = student.interval(gains, _CONFIDENCE)
        between = "" if np.isnan(low) else f" (95 % interval {low:+.2f} to {high:+.2f})"
        return (f"`{self.best}` has the lowest validation losses. On test rows its delta-MTL is {mean:+.2f} %{between} "
                "over single-task networks.")  # fmt: skip

    def _lost(self, each: Difference) -> str:
        return "; ".join([self._changed(each, "worse"), *self._against_whom(each, "its gradient")]) + "."

    def _changed(self, each: Difference, how: str) -> str:
        by = f"{how} by {shown(abs(each.mean))} with `{each.candidate}` than alone"
        return f"`{each.task}`: {each.metric} is {by} (p = {each.p:.2g})"

    def _lower(self, each: Sequence[Difference]) -> str:
        """What a task lost without that being sure, most first."""
        order = sorted(each, key=lambda one: one.mean)
        lost = ", ".join(f"by {shown(-one.mean)} with `{one.candidate}`" for one in order)
        least = min(one.p for one in order)
        more = " or more" if len(order) > 1 else ""
        chance = "not tested" if np.isnan(least) else f"perhaps by chance, p = {least:.2g}{more}"
        said = f"`{order[0].task}`: {order[0].metric} is worse than alone {lost} ({chance})"
        return "; ".join([said, *self._against_whom(order[0], f"with `{order[0].candidate}` its gradient")]) + "."

    def _against_whom(self, each: Difference, whose: str) -> list[str]:
        """With which other task's gradient a task's conflicts most often, if that was seen."""
        conflicts = self.ways[each.candidate].conflicts
        at = self.tasks.index(each.task)
        others = np.delete(np.arange(len(self.tasks)), at)
        if conflicts is None or np.isnan(conflicts[at, others]).all():
            return []
        worst = int(others[np.nanargmax(conflicts[at, others])])
        share = 100 * float(conflicts[at, worst])
        if share == 0:
            return [f"{whose} conflicts with none"]
        return [f"{whose} conflicts most with that of `{self.tasks[worst]}`, in {share:.0f} % of looks"]

    def _edges(self) -> list[str]:
        """Whose learning rate may lie beyond those that were tried."""
        edge = [
            name
            for name, way in self.ways.items()
            if len(way.tried) > 1 and {min(way.tried), max(way.tried)} & set(way.factor.values())
        ]
        if not edge:
            return []
        return [f"The smallest or the largest learning rate that was tried was taken for {listed(edge)}: with others "
                "they may be better."]  # fmt: skip

    def _summary(self, comparisons: int) -> str:
        train, held_out, test = self._rows
        trials = sorted({len(way.tried) for way in self.ways.values()})
        rows = f"{train} rows to learn from, {held_out} to choose by, {test} to test"
        tried = f"{' or '.join(map(str, trials))} learning rates tried for each network, single-task ones as well"
        by = f"p by a paired t test over seeds, corrected for {comparisons} comparisons"
        return f"{self.seeds} {'seed' if self.seeds == 1 else 'seeds'}; {rows}; {tried}; {by}."

    def _relative(self, name: str, task: str, metric: str) -> np.ndarray:
        """By how much a score is better than the single-task network's of its seed, relative to their mean: the mean
        over seeds is that against the mean, and the spread has that of both.
        """
        single = self.ways[SINGLE].scores[task][metric]
        sign = 1 if self.higher[task][metric] else -1
        with np.errstate(all="ignore"):
            mean = np.float64(abs(student.mean_and_error(single)[0]))
            return np.asarray(sign * (self.ways[name].scores[task][metric] - single) / mean)

    def _gains(self, name: str) -> np.ndarray:
        alone = self.ways[SINGLE].losses
        with np.errstate(all="ignore"):
            each = [(alone[task] - self.ways[name].losses[task]) / np.abs(alone[task]) for task in self.tasks]
        return np.asarray(np.mean(each, axis=0))

    @interrupts.held()
    def to_frame(self) -> Any:
        """A pandas frame with a row a way, task and metric: mean, ends of the 95 % interval, seeds with a number.

        Raises:
            ImportError: pandas is not installed.
        """
        rows = []
        for name, way in self.ways.items():
            for task in self.tasks:
                for metric in self.higher[task]:
                    values = way.scores[task][metric]
                    low, high = student.interval(values, _CONFIDENCE)
                    mean, _ = student.mean_and_error(values)
                    known = int(np.count_nonzero(~np.isnan(values)))
                    rows.append({"candidate": name, "task": task, "metric": metric, "mean": mean, "low": low,
                                 "high": high, "seeds": known})  # fmt: skip
        return pandas("Comparison.to_frame").DataFrame(rows)

    @interrupts.held()
    def plot(self) -> Any:
        """Draws each task's difference from its single-task network, a line a candidate with its 95 % interval, right
        of 0 where that is better; gives the axes, one a task.

        Raises:
            ImportError: matplotlib is not installed.
        """
        axes = pictures.panels(len(self.tasks), "Comparison.plot")
        for axis, (task, metric, names, means, ends) in zip(axes, self._against(), strict=True):
            pictures.intervals(axis, names, means, ends, task, f"{metric} beyond single-task")
        return axes

    def _against(self) -> list[tuple[str, str, list[str], np.ndarray, np.ndarray]]:
        """Of each task its first metric, the candidates' names, and their differences with intervals."""
        found = []
        for task in self.tasks:
            each = [difference for difference in self.differences if difference.task == task]
            ends = np.array([[one.low, one.high] for one in each]).reshape(-1, 2)
            metric = next(iter(self.higher[task]))
            found.append((task, metric, [one.candidate for one in each], np.array([one.mean for one in each]), ends))
        return found

    def save(self, path: str | PathLike[str]) -> None:
        """Writes the report as one HTML page that needs nothing else.

        Raises:
            OSError: what the operating system says.
            ValueError: a path that ends as files of another kind do.
        """
        parts = [page.section("What was found", page.paragraphs(self.sentences))]
        for task, metric, names, means, ends in self._against():
            title = f"{task}: {metric} beyond its single-task network, right of 0 where better, with 95 % intervals"
            parts.append(page.section(task, page.picture(svg.intervals(title, names, means, ends), title)))
        header = ["candidate", "task", "metric", "difference", "low", "high", "p"]
        tests = [[one.candidate, one.task, one.metric, one.mean, one.low, one.high, one.p] for one in self.differences]
        trials = ["candidate", "tasks", "factor taken", "tried"]
        meant = [f"{name}: {what}." for name, what in DELTAS.items()]
        parts += [
            page.section("All numbers", page.paragraphs(["Means over seeds with their 95 % intervals; * marks the "
                         "choice by validation losses."]), page.table(*self._table())),
            page.section("Against single-task networks", page.table(header, tests)),
            page.section("What the improvements are", page.paragraphs(meant)),
            *self._conflicting(),
            page.section("How this was measured", page.paragraphs(self.how), page.table(trials, self._trials())),
        ]  # fmt: skip
        Path(page_path(path)).write_text(page.page(f"Comparison of {', '.join(self.tasks)}", parts), encoding="utf-8")

    def _trials(self) -> list[list[Any]]:
        return [
            [name, tasks, f"{factor:g}", ", ".join(f"{each:g}" for each in way.tried)]
            for name, way in self.ways.items()
            for tasks, factor in way.factor.items()
        ]

    def _conflicting(self) -> list[str]:
        """The section of whose gradients conflict, if any was seen."""
        rows = []
        for name, way in self.ways.items():
            if way.conflicts is None or way.cosines is None:
                continue
            for i, j in zip(*np.triu_indices(len(self.tasks), 1), strict=True):
                share, cosine = float(way.conflicts[i, j]), float(way.cosines[i, j])
                rows.append([name, f"{self.tasks[i]}, {self.tasks[j]}", share, cosine])
        if not rows:
            return []
        header = ["candidate", "tasks", "share of looks in conflict", "mean cosine"]
        return [page.section("Whose gradients conflict", page.paragraphs([CONFLICTS]), page.table(header, rows))]

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        """A row a candidate; where there are more scores than candidates, a column each."""
        scores = [(task, metric) for task in self.tasks for metric in self.higher[task]]
        header = ["candidate", *(f"{task} {metric}" for task, metric in scores), *DELTAS, "parameters", "seconds"]
        rows = []
        for name, way in self.ways.items():
            cells = [_with_interval(way.scores[task][metric]) for task, metric in scores]
            deltas = [_with_interval(self.improvement(name, definition), 2) for definition in DELTAS]
            rows.append([name, *cells, *deltas, f"{way.parameters:,}", f"{way.seconds:.1f}"])
        marks = ["*" if name == self.best else "" for name in self.ways]
        if len(scores) <= len(self.ways):
            return ["", *header], [[mark, *row] for mark, row in zip(marks, rows, strict=True)]
        first, *others = ([*each] for each in zip(header, *rows, strict=True))
        return ["", *(f"{mark} {name}".strip() for mark, name in zip(marks, first[1:], strict=True))], others

    def __getstate__(self) -> dict[str, Any]:
        # A pickle names no class but this one.
        return {**vars(self), "ways": {name: vars(way) for name, way in self.ways.items()}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update({**state, "ways": {name: Way(**each) for name, each in state["ways"].items()}})

    def __repr__(self) -> str:
        return "\n".join([*self.sentences, "", text(*self._table()), "", LEGEND])

    def _repr_html_(self) -> str:
        return page.paragraphs(self.sentences) + html(*self._table()) + page.paragraphs([LEGEND])


def _with_interval(values: Sequence[float] | np.ndarray, digits: int | None = None) -> str:
    mean, _ = student.mean_and_error(values)
    low, high = student.interval(values, _CONFIDENCE)
    if digits is None and (mean == 0 or 1e-3 <= abs(mean) < 1e5):
        digits = 4
    parts = [mean] if np.isnan(low) else [mean, (high - low) / 2]
    return " ± ".join(shown(each) if digits is None else f"{each:.{digits}f}" for each in parts)
