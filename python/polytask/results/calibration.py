"""What a calibration found: temperatures, and how far probabilities were and are from shares of labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..process import interrupts
from .columns import none_of
from .table import Table, pandas, text


class Reliability(NamedTuple):
    """Probabilities in bins of equal width, against what happened.

    Attributes:
        edges: where bins end, `[bins + 1]`, from 0 to 1.
        said: the mean probability in each bin, `[bins]`; NaN of an empty one.
        happened: the share of rows (or cells) for which it was so, `[bins]`.
        weights: the share of all rows that is in each bin, `[bins]`.
    """

    edges: np.ndarray
    said: np.ndarray
    happened: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, said: np.ndarray, happened: np.ndarray, share: np.ndarray, bins: int) -> Reliability:
        """Of probabilities, what happened (0 to 1), and weights that sum to 1, `[n]` each."""
        at = np.minimum((said * bins).astype(np.int64), bins - 1)
        weights, p, y = (np.bincount(at, each, bins) for each in (share, share * said, share * happened))
        with np.errstate(invalid="ignore"):
            return cls(np.linspace(0, 1, bins + 1), p / weights, y / weights, weights)

    @property
    def error(self) -> float:
        """The expected calibration error: the mean over rows of how far their bin's two numbers are apart."""
        there = self.weights > 0
        return float(self.weights[there] @ np.abs(self.said - self.happened)[there])


class Calibrated(NamedTuple):
    """One task's calibration.

    Attributes:
        temperature: what logits are divided by.
        labels: labelled rows (or cells) that it was fitted to.
        nll: the mean negative log-likelihood on them without a temperature, and with it, in nats.
        reliability: the same of probabilities against what happened.
        fitted: whether there was a best temperature; it stays 1 where the likelihood has no maximum.
    """

    temperature: float
    labels: int
    nll: tuple[float, float]
    reliability: tuple[Reliability, Reliability]
    fitted: bool

    @property
    def ece(self) -> tuple[float, float]:
        """The expected calibration error without a temperature, and with it."""
        before, after = self.reliability
        return before.error, after.error


class Calibration(Table, Mapping[str, Calibrated]):
    """`calibration["income"].temperature`, `.nll` and `.ece` (without a temperature, with it), task by task; shown as a
    table. All of it is of the rows that temperatures were fitted to: rows that neither training nor this has seen say
    what it is worth.

    The expected calibration error (Naeini, Cooper and Hauskrecht, Obtaining Well Calibrated Probabilities Using
    Bayesian Binning, AAAI 2015) has bins of equal width, of the probability of the likeliest class against how often it
    is right, as in Guo et al. (ICML 2017), and for binary labels of the probability of a 1 against the share of ones,
    over all labels of the task.
    """

    def __init__(self, tasks: Mapping[str, Calibrated]) -> None:
        self._tasks = dict(tasks)

    @property
    def temperatures(self) -> dict[str, float]:
        """Those of all tasks."""
        return {name: each.temperature for name, each in self.items()}

    def __getitem__(self, task: str) -> Calibrated:
        if task not in self._tasks:
            raise KeyError(f"no task {none_of(task, self._tasks, 'there are')}")
        return self._tasks[task]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def sentences(self) -> list[str]:
        """What was found, task by task."""
        return [_sentence(name, each) for name, each in self.items()]

    @interrupts.held()
    def to_frame(self) -> Any:
        """A pandas frame with a row a task.

        Raises:
            ImportError: pandas is not installed.
        """
        header, rows = self._table()
        return pandas("Calibration.to_frame").DataFrame(rows, columns=header).set_index("task")

    @interrupts.held()
    def plot(self) -> Any:
        """Draws a reliability diagram a task, without a temperature and with it; gives the axes.

        Raises:
            ImportError: matplotlib is not installed.
        """
        from ..plots import pictures

        axes = pictures.grid(len(self), "Calibration.plot")
        for axis, (name, each) in zip(axes, self.items(), strict=True):
            labels = [f"{when}, ECE {error:.3f}" for when, error in zip(("before", "after"), each.ece, strict=True)]
            lines = [
                pictures.Line(label, bins.happened.tolist(), color, "o-")
                for label, bins, color in zip(labels, each.reliability, ("0.6", "C0"), strict=True)
            ]
            pictures.reliability(axis, [bins.said for bins in each.reliability], lines, name)
        return axes

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        header = ["task", "temperature", "nll before", "nll after", "ece before", "ece after", "labels"]
        return header, [[name, each.temperature, *each.nll, *each.ece, each.labels] for name, each in self.items()]

    def __repr__(self) -> str:
        return "\n".join([text(*self._table()), *self.sentences])


def _sentence(name: str, each: Calibrated) -> str:
    if not each.fitted:
        return (f"`{name}` stays as it is: no temperature is best for these labels, which are all predicted right, or "
                "of which the predictions say nothing.")  # fmt: skip
    way = "surer than they should be" if each.temperature > 1 else "less sure than they could be"
    before, after = each.ece
    less = f" Their expected calibration error did not fall by that, {before:.3g} before and {after:.3g} after."
    said = f"Probabilities of `{name}` were {way}: logits are divided by {each.temperature:.3g}."
    return said + (less if after > before else "")
