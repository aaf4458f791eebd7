"""Features that are not all plain numbers: frames with strings, categories, dates, booleans; arrays of objects."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from sklearn.utils.validation import check_array, validate_data

from ..arguments.messages import listed
from ..data import sources
from ..data.inputs import Inputs
from ..studies import tabular
from ..values import frames
from ..values.tables import Table
from .features import ROWS, filled


@dataclass(frozen=True, eq=False)
class Coded:
    """Rows of a table as its inputs read them: numbers and codes, by what a network calls them."""

    arrays: Mapping[str, np.ndarray]

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, and columns of numbers and codes."""
        each = [part.shape for part in self.arrays.values()]
        return each[0][0], sum(width for _, width in each)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, at: Any) -> "Coded":
        return Coded({kind: part[at] for kind, part in self.arrays.items()})


class Learned:
    """What takes the place of a `Scaling` where a table's inputs know how its columns are scaled."""

    center: ClassVar[None] = None
    scale: ClassVar[None] = None

    def __init__(self, inputs: Inputs, table: Any) -> None:
        self.inputs = inputs
        self._names = frames.names(table)

    def code(self, table: Any) -> Coded:
        """The rows of a table that has the columns of the first one, in its order whatever they are called.

        Raises:
            TypeError, ValueError: a column of another kind than in `fit`; an infinite number.
        """
        columns = self.inputs.tabular
        assert columns is not None, "learned from a table"
        have = frames.names(table)
        if have != self._names:
            pairs = zip(self._names, have, strict=True)
            table = Table({name: frames.values(frames.stored(table, own, "`X`")) for name, own in pairs})
        kinds = zip(("numeric", "categorical"), columns.transform(table, "`X`"), strict=True)
        return Coded({kind: part for kind, part in kinds if part is not None})

    def whole(self, x: Coded) -> dict[str, np.ndarray]:
        """All rows."""
        return dict(x.arrays)

    def parts(self, x: Coded) -> Iterator[dict[str, np.ndarray]]:
        """Parts of `ROWS` rows each, of which the last is filled up with zeros."""
        for start in range(0, len(x), ROWS):
            yield {kind: filled(part[start : start + ROWS]) for kind, part in x.arrays.items()}


def features(estimator: Any, x: Any) -> tuple[Any, bool]:
    """Features to learn from, whose names and number the estimator keeps: plain numbers, or a table; and which of them
    they are.
    """
    table = _table(x)
    if table is None or _is_plain(table):
        return numbers(estimator, x, True), True
    return _named(estimator, x, table, True), False


def numbers(estimator: Any, x: Any, reset: bool = False) -> Any:
    """Features `[rows, features]` that are plain numbers, dense or sparse, NaN where they are missing.

    Raises:
        ValueError, TypeError: they are none, are infinite, or have other names or another number than in `fit`.
    """
    how: dict[str, Any] = {"dtype": (np.float64, np.float32), "ensure_all_finite": "allow-nan"}
    table = _table(x)
    if isinstance(table, Table) and not _is_array(x):
        table = _named(estimator, x, table, reset)
        x = frames.matrix(table, frames.names(table), "`X`")
        return check_array(x, estimator=estimator, input_name="X", **how)
    x = x if table is None or _is_array(x) else table
    return validate_data(estimator, x, accept_sparse="csr", reset=reset, **how)


def known(estimator: Any, x: Any, scaling: Learned) -> Coded:
    """Features as the table that an estimator learned from, coded as that was.

    Raises:
        ValueError, TypeError: other names, another number, or columns of another kind than in `fit`.
    """
    table = _table(x)
    if table is None:
        array = validate_data(estimator, x, reset=False, dtype=None, ensure_all_finite=False)
        table = Table({f"x{j}": array[:, j] for j in range(array.shape[1])})
    else:
        table = _named(estimator, x, table, False)
    return scaling.code(table)


def learned(settings: Any, table: Any) -> Inputs:
    """The inputs of a table: numbers standardised, with an indicator where some are missing, and categories; those of
    quality "best" as `pt.search` has them.

    Raises:
        ValueError, TypeError: a column that is none of it.
    """
    try:
        if settings.quality == "best" and settings.standardize:
            return tabular.inputs(table)
        return Inputs.from_frame(table, numbers="standard" if settings.standardize else "none", indicators=True)
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace("`frame`", "`X`")) from None


def _table(x: Any) -> Any:
    """Features with columns as a frame, or a table of ours where they have none but are objects or strings that are not
    all numbers; `None` of anything else.
    """
    if hasattr(x, "tocsr"):  # some of which are dicts
        return None
    x = sources.columned(x)
    x = frames.framed(x) if frames.is_lazy(x) or isinstance(x, Mapping) or frames.are_records(x) else x
    if frames.is_frame(x):
        return x
    array = _objects(x)
    if array is None or array.ndim != 2 or not array.size:
        return None
    with contextlib.suppress(TypeError, ValueError):
        array.astype(np.float64)
        return None
    return Table({f"x{j}": _column(array[:, j]) for j in range(array.shape[1])})


def _objects(x: Any) -> np.ndarray | None:
    if isinstance(x, np.ndarray):
        return x.astype(object) if x.dtype.kind in "OUST" else None
    if not isinstance(x, list | tuple):
        return None
    with contextlib.suppress(ValueError):  # rows of different lengths
        array = np.asarray(x)
        # note: a list of rows of numbers and strings becomes strings.
        return np.array(x, object) if array.dtype.kind in "OUST" else None
    return None


def _column(cells: np.ndarray) -> Any:
    """Cells as numbers if they are, and else as they are."""
    plain = all(isinstance(cell, bool | int | float | np.number | np.bool_) for cell in cells)
    return np.array(cells.tolist()) if plain else cells


def _is_plain(table: Any) -> bool:
    """Whether all columns hold numbers, or true and false, some of which may be missing; or have names that only
    scikit-learn knows to deal with.
    """
    names = list(table.columns)
    if len(set(names)) < len(names) or not all(isinstance(name, str | int) for name in names):
        return True
    return all(_holds_numbers(frames.stored(table, name, "`X`")) for name in names)


def _holds_numbers(series: Any) -> bool:
    return frames.is_numeric(frames.values(series)) and str(getattr(series, "dtype", "")) != "category"


def _is_array(x: Any) -> bool:
    """Whether a table was made of an array, whose columns have no names."""
    return isinstance(x, np.ndarray | list | tuple) and not frames.are_records(x)


def _named(estimator: Any, x: Any, table: Any, reset: bool) -> Any:
    """The table as the estimator knows it: its names and their number are kept with `reset`, and are checked else as
    scikit-learn does; columns of a dict or of records go by their names.

    Raises:
        ValueError, TypeError: other names, or another number of features, than in `fit`; no rows or no columns.
    """
    names = frames.names(table)
    if not names or not len(table):
        raise ValueError(f"Found array with {len(table)} sample(s) and {len(names)} feature(s) (shape=({len(table)}, "
                         f"{len(names)})) while a minimum of 1 is required by {type(estimator).__name__}.")  # fmt: skip
    if not isinstance(table, Table):
        validate_data(estimator, table, skip_check_array=True, reset=reset)
        return table
    learned_of = getattr(estimator, "feature_names_in_", None)
    if reset or learned_of is None or _is_array(x):
        validate_data(estimator, np.empty((len(table), len(names))), skip_check_array=True, reset=reset)
        if reset and not _is_array(x) and all(isinstance(name, str) for name in names):
            estimator.feature_names_in_ = np.asarray(names, object)
        return table
    more, less = ({*one} - {*other} for one, other in ((names, learned_of), (learned_of, names)))
    if more or less:
        parts = {"unseen at fit time": more, "seen at fit time, yet now missing": less}
        told = [f"Feature names {what}:\n{listed(sorted(map(str, part)))}" for what, part in parts.items() if part]
        raise ValueError("The feature names should match those that were passed during fit.\n" + "\n".join(told))
    return Table({name: table[name] for name in learned_of})
