"""Features: numbers, categories, and what was learned from a frame about its columns."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .component import listed
from .data import frames
from .data.labels import is_missing
from .task import Task, whole

_log = logging.getLogger("polytask")


@dataclass(frozen=True)
class Number:
    """A numeric column: what standardises it, and between which edges its bins lie, if it has any."""

    name: str
    mean: float
    deviation: float
    edges: tuple[float, ...] = ()


@dataclass(frozen=True)
class Category:
    """A categorical column: the values that were seen; their codes start at 1, and 0 is for all others."""

    name: str
    values: tuple[Any, ...]


class Inputs:
    """What a batch of features looks like: `numeric` numbers, and codes below each of the `categorical` sizes.

    Features are then `{"numeric": [rows, numeric], "categorical": [rows, columns]}`, or one array if there is only one
    kind. `Inputs.from_frame` derives both from a frame.

    Arguments:
        numeric: how many numeric features.
        categorical: number of categories of each categorical feature, whose codes count from 0.
        embedding: width of the embeddings, one number or one a feature; by default they grow with the categories.
    """

    def __init__(
        self, numeric: int = 0, categorical: Sequence[int] = (), embedding: int | Sequence[int] | None = None
    ) -> None:
        self.numeric = whole(numeric, "`numeric`", 0)
        self.categorical = _sizes(categorical, "`categorical`")
        if self.numeric + len(self.categorical) == 0:
            raise ValueError("`numeric` and `categorical` should be at least one feature together; got none")
        self.embedding = _embedding(embedding, len(self.categorical))
        self.columns: tuple[list[Number], list[Category]] | None = None

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        numeric: Sequence[str] | None = None,
        categorical: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        min_count: int = 1,
        bins: int | None = None,
        embedding: int | Sequence[int] | None = None,
    ) -> "Inputs":
        """Learns from the columns of a pandas or polars frame.

        Numbers are standardised, a missing one becomes the mean; categories get codes, and code 0 is for those that
        were not seen here or fewer than `min_count` times. The targets' columns are left out when a model is made.

        With `bins`, numbers come twice: standardised, and as the bin they fall into, embedded like a category. That
        lets a network make the sharp and many-sided cuts in one column by which trees win on tables (compare Gorishniy
        et al., On Embeddings for Numerical Features in Tabular Deep Learning, NeurIPS 2022). A value that alone fills
        more than a bin's share has a bin of its own; the others are cut at quantiles.

        Arguments:
            frame: the training data, never validation or test data.
            numeric: numeric columns; by default every column of numbers that is not in `categorical`.
            categorical: categorical columns; every other column that holds no numbers is one too, unless `numeric`
                says which columns to take.
            exclude: columns to leave out.
            min_count: how often a category must occur.
            bins: about how many bins a number has; none by default.
            embedding: as for `Inputs`; binned numbers come after the categories.
        """
        if not frames.is_frame(frame):
            raise TypeError(f"`frame` should be a pandas or polars frame; got {type(frame).__name__}")
        if len(frame) == 0:
            raise ValueError("`frame` has no rows")
        least = whole(min_count, "`min_count`")
        parts = None if bins is None else whole(bins, "`bins`", 2)
        numbers, categories = _choose(frame, numeric, categorical, exclude)
        columns = [_number(frame, n, parts) for n in numbers], [_category(frame, n, least) for n in categories]
        return cls._of_columns(columns, embedding)

    @classmethod
    def _of_columns(cls, columns: tuple[list[Number], list[Category]], embedding: Any = None) -> "Inputs":
        sizes = [len(category.values) + 1 for category in columns[1]]
        inputs = cls(len(columns[0]), sizes + [len(n.edges) + 2 for n in columns[0] if n.edges], embedding)
        inputs.columns = columns
        return inputs

    def without(self, tasks: Sequence[Task]) -> "Inputs":
        """These inputs without the columns that hold targets: a model must not see what it is to predict."""
        targets = {name for task in tasks for name in task.columns}
        if self.columns is None or not targets & set(self.names):
            return self
        _log.info("left out of the features, being targets: %s", listed(sorted(targets & set(self.names))))
        numbers, categories = self.columns
        kept = [number for number in numbers if number.name not in targets]
        embedded: list[Number | Category] = [*categories, *(number for number in numbers if number.edges)]
        at = [i for i, column in enumerate(embedded) if column.name not in targets]
        embedding = [self.embedding[i] for i in at] if isinstance(self.embedding, list) else self.embedding
        return Inputs._of_columns((kept, [c for c in categories if c.name not in targets]), embedding)

    @property
    def names(self) -> list[str]:
        """The columns, where they were learned from a frame."""
        return [column.name for part in self.columns or () for column in part]

    def transform(self, frame: Any, tasks: Sequence[Task], argument: str) -> tuple[np.ndarray | None, ...]:
        """The numeric and the categorical features of a frame."""
        if self.columns is None:
            return self._plain(frame, tasks, argument), None
        numbers, categories = self.columns
        missing = [name for name in self.names if name not in frames.names(frame)]
        if missing:
            raise ValueError(f"{argument} lacks the columns {listed(missing)}")
        numeric = np.empty((len(frame), len(numbers)), np.float32) if numbers else None
        for j, number in enumerate(numbers):
            numeric[:, j] = _standardised(frames.column(frame, number.name, argument), number, argument)  # type: ignore[index]
        codes = np.empty((len(frame), len(self.categorical)), np.int32) if self.categorical else None
        for j, category in enumerate(categories):
            codes[:, j] = _codes(frames.column(frame, category.name, argument), category)  # type: ignore[index]
        for j, number in enumerate((number for number in numbers if number.edges), len(categories)):
            codes[:, j] = _bins(frames.column(frame, number.name, argument), number.edges)  # type: ignore[index]
        return numeric, codes

    def _plain(self, frame: Any, tasks: Sequence[Task], argument: str) -> np.ndarray:
        """All columns but the targets, where nothing was learned about columns."""
        targets = {name for task in tasks for name in task.columns}
        names = [name for name in frames.names(frame) if name not in targets]
        if self.categorical or len(names) != self.numeric:
            raise ValueError(f"{argument} should have {self.numeric} columns beside the targets; got {listed(names)} "
                             "(pt.Inputs.from_frame chooses and keeps them)")  # fmt: skip
        return frames.matrix(frame, names, argument)

    def only(self, name: str, x: Any) -> str:
        """Which kind of features one array is."""
        if self.numeric and self.categorical:
            raise TypeError(f"{name} should be {{'numeric': ..., 'categorical': ...}}; got {type(x).__name__}")
        return "numeric" if self.numeric else "categorical"

    def describe(self) -> dict[str, Any]:
        """What the core reads."""
        described: dict[str, Any] = {"numeric": self.numeric, "categorical": self.categorical}
        return described if self.embedding is None else {**described, "embedding": self.embedding}

    def face(self) -> dict[str, Any] | None:
        """What was learned from a frame."""
        if self.columns is None:
            return None
        numbers = [[each.name, each.mean, each.deviation, list(each.edges)] for each in self.columns[0]]
        return {"numeric": numbers, "categorical": [[each.name, list(each.values)] for each in self.columns[1]]}

    @classmethod
    def restore(cls, core: dict[str, Any], face: dict[str, Any] | None) -> "Inputs":
        """The inputs of a stored description."""
        if face is None:
            return cls(core["numeric"], core["categorical"], core.get("embedding") or None)
        numbers = [Number(name, mean, deviation, tuple(edges)) for name, mean, deviation, edges in face["numeric"]]
        categories = [Category(name, tuple(values)) for name, values in face["categorical"]]
        return cls._of_columns((numbers, categories), core.get("embedding") or None)

    def __repr__(self) -> str:
        return f"Inputs(numeric={self.numeric}, categorical={self.categorical})"


def _sizes(sizes: Any, argument: str) -> list[int]:
    if isinstance(sizes, str | bytes | int) or not hasattr(sizes, "__iter__"):
        raise TypeError(f"{argument} should be a list of numbers of categories; got {sizes!r}")
    return [whole(size, argument) for size in sizes]


def _embedding(embedding: Any, features: int) -> int | list[int] | None:
    if embedding is None:
        return None
    if isinstance(embedding, int | np.integer):
        return whole(embedding, "`embedding`")
    widths = _sizes(embedding, "`embedding`")
    if len(widths) != features:
        raise ValueError(f"`embedding` should be one width, or one for each of {features} features; got {widths}")
    return widths


def _choose(frame: Any, numeric: Any, categorical: Any, exclude: Any) -> tuple[list[str], list[str]]:
    have = frames.names(frame)
    for argument, chosen in (("numeric", numeric), ("categorical", categorical), ("exclude", exclude)):
        if isinstance(chosen, str):
            raise TypeError(f"`{argument}` should be a list of columns; got {chosen!r}")
        unknown = [name for name in chosen or () if name not in have]
        if unknown:
            raise ValueError(f"`{argument}`: the frame has no column {unknown[0]!r}; it has {listed(have)}")
    left = [name for name in have if name not in set(exclude) | set(categorical or ()) | set(numeric or ())]
    if numeric is not None:
        return list(numeric), list(categorical or ())
    numbers = [name for name in left if _holds_numbers(frame, name)]
    return numbers, [name for name in have if name in (categorical or ()) or (name in left and name not in numbers)]


def _holds_numbers(frame: Any, name: str) -> bool:
    values = frames.column(frame, name, "`frame`")
    return values.dtype.kind in "iuf" and str(frame[name].dtype) != "category"


def _number(frame: Any, name: str, bins: int | None) -> Number:
    values = frames.column(frame, name, "`frame`")
    if not frames.is_numeric(values):
        raise TypeError(f"`frame`: column `{name}` should hold numbers; got {frames.kind(frame[name])}")
    values = values.astype(np.float64)
    values = values[~np.isnan(values)]
    if not np.isfinite(values).all():
        raise ValueError(f"`frame`: column `{name}` should hold finite numbers; got an infinite one")
    mean = float(values.mean()) if len(values) else 0.0
    deviation = float(values.std()) if len(values) else 0.0
    edges = () if bins is None else _edges(values, bins)
    return Number(name, mean, deviation if deviation > 0 else 1.0, edges)


def _edges(values: np.ndarray, bins: int) -> tuple[float, ...]:
    """Where bins end: between distinct values if those are few, else at quantiles and around frequent values."""
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= bins:
        return tuple(((distinct[1:] + distinct[:-1]) / 2).tolist())
    frequent = distinct[counts > len(values) / bins]
    rest = values[~np.isin(values, frequent)]
    cuts = np.quantile(rest, np.linspace(0, 1, max(bins - len(frequent), 1) + 1)[1:-1])
    return tuple(np.unique(np.concatenate([cuts, frequent, np.nextafter(frequent, np.inf)])).tolist())


def _bins(values: np.ndarray, edges: tuple[float, ...]) -> np.ndarray:
    """The bin of each value, counted from 1; 0 where it is missing."""
    values = values.astype(np.float64)
    return np.where(np.isnan(values), 0, np.searchsorted(edges, values, side="right") + 1)


def _standardised(values: np.ndarray, number: Number, argument: str) -> np.ndarray:
    if not frames.is_numeric(values):
        raise TypeError(f"{argument}: column `{number.name}` should hold numbers; got dtype {values.dtype}")
    values = (values.astype(np.float64) - number.mean) / number.deviation
    if np.isinf(values).any():
        raise ValueError(f"{argument}: column `{number.name}` should hold finite numbers; got an infinite one")
    return np.where(np.isnan(values), 0.0, values)


def _category(frame: Any, name: str, least: int) -> Category:
    counts = Counter(_plain_values(frames.column(frame, name, "`frame`")))
    wrong = next((value for value in counts if not isinstance(value, str | int | float | None)), None)
    if wrong is not None:
        raise TypeError(f"`frame`: column `{name}` should hold strings or numbers; got {wrong!r}")
    seen = [value for value, count in counts.items() if count >= least]
    return Category(name, tuple(sorted(seen, key=_rank)))


def _rank(value: Any) -> tuple[str, Any]:
    return ("", 0) if value is None else (type(value).__name__, value)


def _codes(values: np.ndarray, category: Category) -> np.ndarray:
    index = {value: code for code, value in enumerate(category.values, 1)}
    return np.fromiter((index.get(value, 0) for value in _plain_values(values)), np.int32, len(values))


def _plain_values(values: np.ndarray) -> list[Any]:
    """Python values, with None for missing ones."""
    plain: list[Any] = values.tolist()
    if values.dtype.kind in "biu":
        return plain
    return [value if type(value) is str else None if is_missing(value) else value for value in plain]
