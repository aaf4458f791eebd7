"""A task of an estimator: its labels as the core reads them, and what the core predicts as labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import r2_score

from ..arguments.messages import listed
from ..data.task import Task
from ..values.known import Known
from .labels import Column, Labels, minus_one_is_a_class

#: In place of a class where there is no label, and where there is one that is none of the classes.
MISSING, UNKNOWN = -1, -2


@dataclass(frozen=True, eq=False)
class Target:
    """One task: of which kind it is, and the labels of its classes, if it has some."""

    task: Task
    kind: str
    classes: np.ndarray | None

    def codes(self, column: Column) -> np.ndarray:
        """The classes of labels by their places, `MISSING` or `UNKNOWN`."""
        assert self.classes is not None, "of classes"
        known = ~column.missing
        if column.numeric and not (self.classes == -1).any():
            known &= column.values != -1
        index = Known(self.classes.tolist())
        distinct, place = np.unique(column.values[known], return_inverse=True)
        found = (index.place(label, f"`y` of task `{self.task.name}`") for label in distinct.tolist())
        places = np.array([UNKNOWN if each is None else each for each in found], np.int64)
        codes: np.ndarray = np.full(len(known), MISSING)
        codes[known] = places[place] if len(places) else MISSING
        return codes

    def numbers(self, column: Column) -> np.ndarray:
        """Numbers in double precision, NaN where there is none.

        Raises:
            TypeError: labels that are no numbers.
            ValueError: infinite ones.
        """
        called = f"`y` of task `{self.task.name}`"
        if not column.numeric:
            raise TypeError(f"{called} should hold numbers; got {column.values[~column.missing].tolist()[0]!r}")
        values = np.where(column.missing, np.nan, column.values.astype(np.float64))
        if np.isinf(values).any():
            raise ValueError(f"{called} should hold finite numbers; got inf at row {int(np.isinf(values).argmax())}")
        return values

    def read(self, column: Column) -> np.ndarray:
        """Labels to learn from, as the core reads them.

        Raises:
            TypeError: as `numbers`.
            ValueError: no label at all, or one that is none of the classes.
        """
        called = f"`y` of task `{self.task.name}`"
        if self.classes is None:
            values = self.numbers(column)
            if np.isnan(values).all():
                raise ValueError(f"{called} should have at least one label; none of {len(values)} rows has one")
            return values
        codes = self.codes(column)
        if (codes == UNKNOWN).any():
            row = int((codes == UNKNOWN).argmax())
            label = column.values[row : row + 1].tolist()[0]
            raise ValueError(f"{called} should be one of the classes {listed(map(repr, self.classes.tolist()))}; got "
                             f"{label!r} at row {row}")  # fmt: skip
        if (codes == MISSING).all():
            raise ValueError(f"{called} should have at least one label; none of {len(codes)} rows has one")
        if self.kind == "binary":
            return np.where(codes == MISSING, np.nan, codes)
        if self.task.labels is None:
            return codes
        return np.asarray(np.array([*self.task.labels, None], object)[codes])

    def probabilities(self, predicted: np.ndarray) -> np.ndarray:
        """`[rows, classes]` of what the core predicts, in double precision."""
        assert self.classes is not None, "of classes"
        p = predicted.astype(np.float64)
        if self.kind == "binary":
            return np.stack([1 - p, p], axis=1)
        # A task with a single class has a second one in the core, that never comes.
        p = p[:, : len(self.classes)]
        return np.asarray(p / p.sum(axis=1, keepdims=True))

    def labels(self, predicted: np.ndarray) -> np.ndarray:
        """The likeliest class, or the number, of what the core predicts: the middle one where it predicts several."""
        if self.classes is not None:
            return np.asarray(self.classes[self.probabilities(predicted).argmax(axis=1)])
        middle = predicted if predicted.ndim == 1 else predicted[:, (predicted.shape[1] - 1) // 2]
        return middle.astype(np.float64)

    def score(self, column: Column, predicted: np.ndarray, weights: np.ndarray | None) -> float | None:
        """Accuracy or R2 on the rows that have a label; `None` where none has."""
        if self.classes is None:
            truth = self.numbers(column)
            known = ~np.isnan(truth)
        else:
            truth = self.codes(column)
            known = truth != MISSING
        if not known.any():
            return None
        weights = None if weights is None else weights[known]
        if self.classes is None:
            return float(r2_score(truth[known], self.labels(predicted)[known], sample_weight=weights))
        found = self.probabilities(predicted).argmax(axis=1)
        return float(np.average(found[known] == truth[known], weights=weights))


def inferred(labels: Labels, kind: str | None) -> list[tuple[Task, np.ndarray | None]]:
    """A task a column, of this kind or of the one it looks like, with its classes if it has some.

    Raises:
        ValueError: classes that are no whole numbers, or no label at all.
    """
    sorts = [kind == "classes" or (kind is None and column.are_classes) for column in labels.columns]
    minus = minus_one_is_a_class([column for column, sort in zip(labels.columns, sorts, strict=True) if sort])
    found: list[tuple[Task, np.ndarray | None]] = []
    for j, (column, sort) in enumerate(zip(labels.columns, sorts, strict=True), 1):
        name = str(column.title).replace("/", "_")
        name = name if name not in ("", "validation") else f"task{j}"
        if sort:
            classes = _classes(column, name, minus)
            found.append((Task(name, classes=max(2, len(classes)), columns=column.title), classes))
        else:
            found.append((Task(name, scale="standardize", columns=column.title), None))
    return found


def _classes(column: Column, name: str, minus: bool) -> np.ndarray:
    classes = column.distinct
    if column.numeric and not minus:
        classes = classes[classes != -1]
    if not len(classes):
        rows = len(column.values)
        raise ValueError(f"`y` of task `{name}` should have at least one label; none of {rows} rows has one")
    if classes.dtype.kind == "f":
        wrong = classes[~np.isfinite(classes) | (classes != np.round(classes))]
        if len(wrong):
            raise ValueError(f"Unknown label type: continuous; `y` of task `{name}` should hold labels of classes, "
                             f"which as numbers are whole; got {wrong[0]:g}")  # fmt: skip
        # Whole numbers became floats for the sake of NaN.
        classes = classes.astype(np.int64) if column.missing.any() else classes
    return classes


def given(tasks: Any) -> list[Task]:
    """The tasks that a caller names.

    Raises:
        TypeError: no list of tasks.
        ValueError: a task of several columns, or of positions.
    """
    tasks = [tasks] if isinstance(tasks, Task) else tasks
    if not isinstance(tasks, Sequence) or isinstance(tasks, str) or not all(isinstance(task, Task) for task in tasks):
        raise TypeError(f"`tasks` should be a list of pt.Task; got {tasks!r}")
    wide = next((task for task in tasks if task.outputs > 1 or task.per is not None), None)
    if wide is not None:
        raise ValueError(f"`tasks` should have one column of `y` each; got {wide!r}")
    return list(tasks)


def classes_of(task: Task, kind: str) -> np.ndarray | None:
    """The classes of a task that the caller named."""
    if kind == "values":
        return None
    if task.labels is not None:
        mixed = len({type(label) for label in task.labels}) > 1
        return np.array(task.labels, dtype=object if mixed else None)
    return np.arange(task.classes or 2)


def chosen(labels: Labels, tasks: Sequence[Task], named: bool) -> list[Column]:
    """The column of each task: of a frame by name, if the tasks are `named` as columns, else by place.

    Raises:
        ValueError: a column that there is not, or too many of them.
    """
    titles = [column.title for column in labels.columns]
    if labels.frame is not None and named:
        wanted = [task.columns[0] for task in tasks]
        lacking = next((title for title in wanted if title not in titles), None)
        if lacking is not None:
            raise ValueError(f"`y` should have a column `{lacking}` for its task; got {listed(titles)}")
        return [labels.columns[titles.index(title)] for title in wanted]
    if len(titles) != len(tasks):
        names = listed(task.name for task in tasks)
        raise ValueError(f"`y` should have {len(tasks)} column(s), for the tasks {names}; got {len(titles)}")
    return labels.columns
