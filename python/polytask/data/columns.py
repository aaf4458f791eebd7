"""Columns of a frame: what is learned of each, and the numbers and codes they become."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ..arguments.messages import listed, none_of
from ..results.table import html, text
from ..values import frames, measures
from ..values.known import Known, is_missing, merge
from . import strings
from .bag import Bag
from .scale import curve, middle

_log = logging.getLogger("polytask")

#: How the numbers of a frame may be scaled.
SCALES = ("standard", "robust", "quantile", "none")

#: What numeric columns of two values may be taken for.
TWO_VALUED = ("numeric", "categorical")

#: Values of a category that are shown.
_SHOWN = 5


@dataclass(frozen=True)
class Number:
    """A numeric column: what standardises it (a deviation of 0 says that there was one value, or none, and that any
    becomes 0), its bins' edges if it has any, the unit of dates and spans of time, the curve that makes it normal
    instead, points and what becomes of them, whether it has an indicator of missing numbers, and what a missing one
    becomes in this scale.
    """

    name: str
    mean: float
    deviation: float
    edges: tuple[float, ...] = ()
    unit: str = ""
    curve: tuple[tuple[float, ...], ...] = ()
    indicator: bool = False
    fill: float = 0.0

    @property
    def kind(self) -> str:
        """What it is taken for."""
        return self.unit or "number"

    @property
    def known(self) -> str:
        """What was learned of it, in words."""
        said = "made normal by its quantiles" if self.curve else f"less {self.mean:.4g}, by {self.deviation:.4g}"
        said = "as it is" if (self.mean, self.deviation, self.curve) == (0.0, 1.0, ()) else said
        said = f"one value alone, {self.mean:.4g}, of which nothing is learned" if self.deviation == 0 else said
        bins = f", and {len(self.edges) + 1} bins" if self.edges else ""
        return f"{said}{bins}{', and whether missing' if self.indicator else ''}"

    def __str__(self) -> str:
        return f"{self.name}: {self.kind}, {self.known}"


@dataclass(frozen=True)
class Category:
    """A categorical column: the values that were seen; their codes start at 1, and 0 is for all others."""

    name: str
    values: tuple[Any, ...]

    @property
    def kind(self) -> str:
        """What it is taken for."""
        return "category"

    @property
    def known(self) -> str:
        """What was learned of it, in words."""
        first = ", ".join("missing" if value is None else repr(value) for value in self.values[:_SHOWN])
        return f"{len(self.values)} values: {first}{', ...' if len(self.values) > _SHOWN else ''}"

    def __str__(self) -> str:
        return f"{self.name}: {self.kind}, {self.known}"


@dataclass(frozen=True)
class Several(Category):
    """A column of several values a row: the most that were seen, how they combine, what separates them in a string."""

    length: int = 1
    combine: str = "mean"
    separator: str = "|"

    @property
    def kind(self) -> str:
        """What it is taken for."""
        return f"bag of up to {self.length}"


@dataclass(frozen=True)
class Passage:
    """A column of texts, and in words what was learned of it."""

    name: str
    known: str

    @property
    def kind(self) -> str:
        """What it is taken for."""
        return "text"

    def __str__(self) -> str:
        return f"{self.name}: {self.kind}, {self.known}"


Column: TypeAlias = Number | Category | Passage


@dataclass(frozen=True)
class Columns:
    """The columns that were learned from a frame: numbers, categories, columns of several values a row, then texts.
    They can be gone through, asked for by name, and shown as a table.
    """

    numbers: list[Number]
    categories: list[Category]
    bags: list[Several]
    texts: tuple[Passage, ...] = ()

    @classmethod
    def learn(
        cls,
        frame: Any,
        names: tuple[Any, Any, Any, Any, Any],
        least: int,
        bins: int | None,
        combine: str,
        separator: str,
        scale: str = "standard",
        indicators: bool = False,
        two_valued: str = "numeric",
    ) -> "Columns":
        """Of a frame and the names of numeric, categorical, left-out and several-valued columns and of row weights."""
        numeric, categorical, exclude, bags, weights = names
        numbers, categories = _choose(frame, numeric, categorical, exclude, bags, weights)
        if two_valued == "categorical":
            two = {name for name in numbers if name not in (numeric or ()) and _two_valued(frame, name)}
            numbers = [name for name in numbers if name not in two]
            categories = [name for name in frames.names(frame) if name in two or name in categories]
        return cls(
            [_number(frame, name, bins, scale, indicators) for name in numbers],
            [_category(frame, name, least, name in (categorical or ())) for name in categories],
            [_several(frame, name, least, combine, separator) for name in bags],
        )

    @property
    def names(self) -> list[str]:
        """Their names."""
        return [column.name for column in self]

    def __iter__(self) -> Iterator[Column]:
        return iter([*self.numbers, *self.categories, *self.bags, *self.texts])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __getitem__(self, name: str) -> Column:
        found = next((column for column in self if column.name == name), None)
        if found is None:
            raise KeyError(f"no column {none_of(name, self.names, 'there are')}")
        return found

    @property
    def bins(self) -> list[Number]:
        """The numbers that come as bins too."""
        return [number for number in self.numbers if number.edges]

    @property
    def indicators(self) -> list[Number]:
        """The numbers of which a missing one is told."""
        return [number for number in self.numbers if number.indicator]

    @property
    def numeric(self) -> int:
        """Numeric features: the numbers, then the indicators of missing ones."""
        return len(self.numbers) + len(self.indicators)

    def places(self, name: str) -> tuple[list[int], list[int]]:
        """Where a column stands among the numeric features, its indicator included, and among the columns of codes."""
        numbers, told = ([each.name for each in part] for part in (self.numbers, self.indicators))
        numeric = [at for at, each in enumerate([*numbers, *told]) if each == name]
        widths = [(each.name, each.length if isinstance(each, Several) else 1) for each in self.embedded]
        owners = [owner for owner, width in widths for _ in range(width)]
        return numeric, [at for at, owner in enumerate(owners) if owner == name]

    def only(self, name: str) -> "Columns":
        """One column alone."""
        return self.without({each for each in self.names if each != name})

    @property
    def embedded(self) -> list[Number | Category]:
        """Whatever has a table, in order."""
        return [*self.categories, *self.bags, *self.bins]

    def features(self) -> list[int | Bag]:
        """Their categories, as `Inputs` takes them; code 0 is for values that were not seen."""
        bags = [Bag(len(bag.values) + 1, bag.length, bag.combine) for bag in self.bags]
        return [*(len(c.values) + 1 for c in self.categories), *bags, *(len(n.edges) + 2 for n in self.bins)]

    def without(self, names: set[str]) -> "Columns":
        """These but for some."""
        parts: Any = (self.numbers, self.categories, self.bags, self.texts)
        return Columns(*(type(part)(column for column in part if column.name not in names) for part in parts))

    def transform(self, frame: Any, argument: str) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The numbers and the codes of a frame's rows; none where there are none."""
        missing = [name for name in self.names if name not in frames.names(frame)]
        if missing:
            raise ValueError(f"{argument} lacks the columns {listed(missing)}")

        measured = {number.name: _measured(frame, number, argument) for number in self.numbers}
        numbers = [
            *(_standardised(measured[number.name], number, argument) for number in self.numbers),
            *(np.isnan(measured[number.name]) for number in self.indicators),
        ]
        codes = [
            *(_codes(frames.column(frame, each.name, argument), each, argument) for each in self.categories),
            *(part for bag in self.bags for part in _bag_codes(frame, bag, argument).T),
            *(_bins(measured[number.name], number.edges) for number in self.bins),
        ]
        return _side_by_side(numbers, np.float32), _side_by_side(codes, np.int32)

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        return ["column", "taken for", "learned"], [[str(each.name), each.kind, each.known] for each in self]

    def __repr__(self) -> str:
        return text(*self._table())

    def _repr_html_(self) -> str:
        return html(*self._table())

    @property
    def sentence(self) -> str:
        """All of them in one line."""
        kinds = dict.fromkeys(number.unit for number in self.numbers)
        parts = [
            f"{unit or 'numbers'}: {listed(number.name for number in self.numbers if number.unit == unit)}"
            for unit in kinds
        ]
        if self.indicators:
            parts.append(f"whether missing: {listed(number.name for number in self.indicators)}")
        each = [f"`{category.name}` ({len(category.values)} values)" for category in self.categories]
        bags = [f"`{bag.name}` ({len(bag.values)} values, up to {bag.length} a row)" for bag in self.bags]
        parts += [f"{kind}: {', '.join(of)}" for kind, of in (("categories", each), ("bags", bags)) if of]
        return "; ".join(parts)

    def describe(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return {
            "numeric": [
                [each.name, each.mean, each.deviation, list(each.edges), *_rest(each)] for each in self.numbers
            ],
            "categorical": [[each.name, list(each.values)] for each in self.categories],
            "bags": [[b.name, list(b.values), b.length, b.combine, b.separator] for b in self.bags],
        }

    @classmethod
    def restore(cls, described: dict[str, Any]) -> "Columns":
        """What `describe` gave; with less of numbers in files of earlier versions."""
        numbers = described["numeric"]
        return cls(
            [_restored(*number) for number in numbers],
            [Category(name, tuple(values)) for name, values in described["categorical"]],
            [Several(name, tuple(values), *rest) for name, values, *rest in described.get("bags", ())],
        )


def _rest(number: Number) -> list[Any]:
    """What few numbers have, without what comes last and says nothing."""
    rest: list[Any] = [number.unit, [list(part) for part in number.curve], number.indicator, number.fill]
    while rest and not rest[-1]:
        rest.pop()
    return rest


def _restored(
    name: str,
    mean: float,
    deviation: float,
    edges: Any,
    unit: str = "",
    curve: Any = (),
    indicator: bool = False,
    fill: float = 0.0,
) -> Number:
    return Number(name, mean, deviation, tuple(edges), unit, tuple(map(tuple, curve)), indicator, fill)


def _side_by_side(parts: Sequence[np.ndarray], dtype: Any) -> np.ndarray | None:
    if not parts:
        return None
    whole = np.empty((len(parts[0]), len(parts)), dtype)
    for j, part in enumerate(parts):
        whole[:, j] = part
    return whole


def _choose(
    frame: Any, numeric: Any, categorical: Any, exclude: Any, bags: Any, weights: Any
) -> tuple[list[str], list[str]]:
    have = frames.names(frame)
    given = {
        "numeric": numeric,
        "categorical": categorical,
        "exclude": exclude,
        "bags": bags,
        "weights": weights,
    }
    for argument, chosen in given.items():
        if isinstance(chosen, str):
            raise TypeError(f"`{argument}` should be a list of columns; got {chosen!r}")
        unknown = [name for name in chosen or () if name not in have]
        if unknown:
            raise ValueError(f"`{argument}`: the frame has no column {none_of(unknown[0], have, 'it has')}")
    twice = [name for name in bags if name in {*(numeric or ()), *(categorical or ())}]
    if twice:
        raise ValueError(f"`bags`: column {twice[0]!r} is among the numeric or categorical columns too")
    left = [name for name in have if name not in {*exclude, *weights, *bags, *(categorical or ()), *(numeric or ())}]
    if numeric is not None:
        return list(numeric), list(categorical or ())
    numbers = [name for name in left if _holds_numbers(frame, name)]
    return numbers, [name for name in have if name in (categorical or ()) or (name in left and name not in numbers)]


def _holds_numbers(frame: Any, name: str) -> bool:
    return not frames.is_category(frame, name) and measures.unit(frames.column(frame, name, "`frame`")) is not None


def _two_valued(frame: Any, name: str) -> bool:
    """Whether a column of numbers, dates aside, has two distinct ones beside what is missing."""
    values = frames.column(frame, name, "`frame`")
    if values.dtype.kind not in "biuf":
        return False
    return len(np.unique(values[~np.isnan(values)])) == 2


def _number(frame: Any, name: str, bins: int | None, scale: str, indicators: bool) -> Number:
    column = frames.column(frame, name, "`frame`")
    unit = measures.unit(column) or ""
    measured = _read(column, unit, name, "`frame`")
    if measured is None:
        raise TypeError(f"`frame`: column `{name}` should hold numbers; got {_unreadable(column, unit)}")
    values = measured[~np.isnan(measured)]
    if not np.isfinite(values).all():
        raise ValueError(f"`frame`: column `{name}` should hold finite numbers; got an infinite one")
    if scale == "robust":
        mean, deviation = middle(values, robust=True)
    else:
        mean = float(values.mean()) if len(values) else 0.0
        deviation = float(values.std()) if len(values) else 0.0
    deviation = deviation if deviation > 0 else 1.0
    # note: the deviation of equal numbers may be what rounding leaves of it.
    deviation = deviation if len(values) and values.min() < values.max() else 0.0
    edges = () if bins is None else _edges(values, bins)
    normal = tuple(tuple(part) for part in curve(values)) if scale == "quantile" and deviation > 0 else ()
    missing = indicators and 0 < len(values) < len(measured)
    if scale == "none":
        return Number(name, 0.0, 1.0, edges, unit, normal, missing, mean)
    return Number(name, mean, deviation, edges, unit, normal, missing)


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
    return np.where(np.isnan(values), 0, np.searchsorted(edges, values, side="right") + 1)


def _measured(frame: Any, number: Number, argument: str) -> np.ndarray:
    """The numbers of a column in the unit that was learned."""
    values = frames.column(frame, number.name, argument)
    found = _read(values, number.unit, number.name, argument)
    if found is None:
        expected = {measures.DATES: "dates", measures.SPANS: "spans of time"}.get(number.unit, "numbers")
        got = _unreadable(values, number.unit)
        raise TypeError(f"{argument}: column `{number.name}` should hold {expected}; got {got}")
    return found


def _read(values: np.ndarray, unit: str, name: str, argument: str) -> np.ndarray | None:
    """A column's numbers in a unit; none if it holds something else, words among dates aside."""
    found = measures.read(values, unit)
    if found is not None or unit != measures.DATES or values.dtype.kind != "O":
        return found
    rest, rows = measures.without_words(values)
    found = measures.read(rest, unit)
    if found is None or np.isnan(found).all():
        return None
    _log.warning("%s: column `%s` holds dates, and in %d of %d rows none that there is, such as %r at row %d; they are "
                 "missing", argument, name, len(rows), len(values), values[rows[0]], rows[0])  # fmt: skip
    return found


def _unreadable(values: np.ndarray, unit: str) -> str:
    """The first value that is no number of the unit, or the type of all."""
    for row, value in enumerate(values.tolist() if values.dtype.kind in "OUS" else ()):
        one = np.array([value], dtype=object)
        if not is_missing(value) and measures.read(one, unit) is None:
            dates = ": write dates as 2024-01-31, or make dates of them" if unit == measures.DATES else ""
            return f"{value!r} at row {row}{dates if isinstance(value, str) else ''}"
    return frames.kind(values)


def _standardised(given: np.ndarray, number: Number, argument: str) -> np.ndarray:
    values = given
    if number.curve:
        infinite = np.isinf(values)
        points, normal = number.curve
        values = np.where(np.isnan(values), np.nan, np.interp(values, points, normal))
    else:
        infinite = np.isinf(values)
        # Weights of a column that was level are as they were drawn: what comes later must not meet them.
        level = np.where(np.isnan(values), np.nan, 0.0)
        values = (values - number.mean) / number.deviation if number.deviation > 0 else level
    if infinite.any():
        raise ValueError(f"{argument}: column `{number.name}` should hold finite numbers; got an infinite one")
    too_far = np.abs(values) > np.finfo(np.float32).max
    if too_far.any():
        row = int(too_far.argmax())
        raise ValueError(f"{argument}: column `{number.name}` should hold numbers that are finite in single precision; "
                         f"got {given[row]:g} at row {row}")  # fmt: skip
    return np.where(np.isnan(values), number.fill, values)


def _category(frame: Any, name: str, least: int, asked: bool) -> Category:
    column = frames.column(frame, name, "`frame`")
    if column.dtype.kind in "Mm":
        raise TypeError(f"`frame`: column `{name}` holds dates or spans of time, which are numbers and no categories")
    values = _plain_values(column)
    several = next((value for value in values if isinstance(value, list | tuple | set | frozenset | np.ndarray)), None)
    if several is not None:
        raise TypeError(f"`frame`: column `{name}` holds several values a row, as {several!r}; name it in `bags`")
    wrong = next((value for value in values if not isinstance(value, str | int | float | None)), None)
    if wrong is not None:
        raise TypeError(f"`frame`: column `{name}` should hold strings or numbers; got {wrong!r}")
    counts = Counter(values)
    counts = merge(counts, f"`frame`: column `{name}`")
    if (doubt := strings.doubt(name, counts, len(values), asked)) is not None:
        _log.warning("`frame`: column %s", doubt)
    seen = [value for value, count in counts.items() if count >= least]
    return Category(name, tuple(sorted(seen, key=_rank)))


def _several(frame: Any, name: str, least: int, combine: str, separator: str) -> Several:
    rows = _split(frames.cells(frame, name, "`frame`"), separator, f"`frame`: column `{name}`")
    counts = Counter(value for row in rows for value in row)
    wrong = next((value for value in counts if not isinstance(value, str | int | float)), None)
    if wrong is not None:
        raise TypeError(f"`frame`: column `{name}` should hold lists of strings or numbers; got {wrong!r} in one")
    seen = [value for value, count in merge(counts, f"`frame`: column `{name}`").items() if count >= least]
    longest = max(map(len, rows), default=0)
    return Several(name, tuple(sorted(seen, key=_rank)), max(longest, 1), combine, separator)


def _split(cells: list[Any], separator: str, where: str) -> list[list[Any]]:
    """The values of each row; none of a row that is missing or empty."""

    def values(cell: Any) -> list[Any]:
        if isinstance(cell, str):
            return [part for part in cell.split(separator) if part]
        if isinstance(cell, list | tuple | set | frozenset | np.ndarray):
            parts = [part for part in cell if not is_missing(part)]
            # The order of a set differs from run to run.
            return sorted(parts, key=_rank) if isinstance(cell, set | frozenset) else parts
        if is_missing(cell):
            return []
        raise TypeError(f"{where} should hold lists, tuples, sets or strings; got {cell!r}")

    return [values(cell) for cell in cells]


def _bag_codes(frame: Any, bag: Several, argument: str) -> np.ndarray:
    """The codes of each row's values, `[rows, length]`, -1 behind them."""
    called = f"{argument}: column `{bag.name}`"
    rows = _split(frames.cells(frame, bag.name, argument), bag.separator, called)
    codes = np.full((len(rows), bag.length), -1, np.int32)
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    cut = int((lengths > bag.length).sum())
    if cut:
        _log.warning("%s: column `%s` has %d rows with more than %d values, the most that were seen when the inputs "
                     "were made; those behind are left out", argument, bag.name, cut, bag.length)  # fmt: skip
    kept = [row[: bag.length] for row in rows]
    there = np.arange(bag.length) < np.minimum(lengths, bag.length)[:, None]
    codes[there] = _places([value for row in kept for value in row], bag, called)
    return codes


def _rank(value: Any) -> tuple[str, Any]:
    return ("", 0) if value is None else (type(value).__name__, value)


def _codes(values: np.ndarray, category: Category, argument: str) -> np.ndarray:
    plain = _plain_values(values)
    if "" in category.values and None not in category.values:  # as earlier versions learned it
        plain = ["" if value is None else value for value in plain]
    return _places(plain, category, f"{argument}: column `{category.name}`")


def _places(values: list[Any], category: Category, argument: str) -> np.ndarray:
    """The code of each value, 0 of one that was not seen."""
    known = Known(category.values)
    places = (known.place(value, argument) for value in values)
    return np.fromiter((0 if place is None else place + 1 for place in places), np.int32, len(values))


def _plain_values(values: np.ndarray) -> list[Any]:
    """Python values, with None for missing ones."""
    plain: list[Any] = values.tolist()
    if values.dtype.kind in "biu":
        return plain
    plain = [value.item() if isinstance(value, np.generic) else value for value in plain]
    # What is empty in a file is missing there.
    return [value or None if type(value) is str else None if is_missing(value) else value for value in plain]
