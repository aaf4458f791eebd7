"""Rows of features of a model, or of several that predict together, whose columns can be exchanged by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..arguments.messages import none_of
from ..data import Rows
from ..data.bag import Bag
from ..model.ensemble import Ensemble
from ..model.model import MultiTaskModel
from ..values import frames, measures
from ..values.ragged import Ragged
from ..values.tables import Table


class Places(NamedTuple):
    """Where a column is among a model's features.

    Attributes:
        numeric: among the numbers.
        codes: among the columns of codes.
        fields: among arrays and features of positions: under which names, and at which place of a vector, if it is one.
    """

    numeric: Sequence[int] = ()
    codes: Sequence[int] = ()
    fields: Sequence[tuple[str, int | None]] = ()


class Grid(NamedTuple):
    """Values that a column may have.

    Attributes:
        values: as the data have them.
        along: where each lies, if they are numbers: dates and spans of time by days.
    """

    values: list[Any]
    along: list[float] | None


class Features:
    """Features of rows in memory, as each model reads them.

    Attributes:
        models: who predicts, one model or those of an ensemble.
        rows: the features of each.
        names: the columns: those of a frame, or `x[0]`, `numeric[0]`, `categorical[0]`, and names of arrays.
    """

    def __init__(self, predictor: MultiTaskModel | Ensemble, x: Any, batch_size: int) -> None:
        self._predictor = predictor
        self.models = list(predictor) if isinstance(predictor, Ensemble) else [predictor]
        self.rows = [_whole(list(model.reader.feature_batches(x))) for model in self.models]
        self._places = [_places(model, rows) for model, rows in zip(self.models, self.rows, strict=True)]
        self.names = list(dict.fromkeys(name for places in self._places for name in places))
        self._size = batch_size
        self._x = x

    def __len__(self) -> int:
        return len(self.rows[0])

    def predict(self, each: Sequence[Rows]) -> dict[str, np.ndarray]:
        """What is predicted for rows as each model has them, `[rows, width]` by task."""
        if isinstance(self._predictor, Ensemble):
            return self._predictor._predicted(each, self._size)
        outputs = self._predictor._predicted(each[0], False, self._size)
        return {task.name: found for task, found in zip(self._predictor.tasks, outputs, strict=True)}

    def check(self, name: Any) -> str:
        """The name of a column, which may be a number where features have none.

        Raises:
            ValueError: there is no such column.
        """
        if isinstance(name, int) and not isinstance(name, bool) and f"x[{name}]" in self.names:
            name = f"x[{name}]"
        if name not in self.names:
            raise ValueError(f"no column {none_of(name, self.names, 'there are')}")
        found: str = name
        return found

    def permuted(self, name: str, order: np.ndarray) -> list[Rows]:
        """The rows of each model with one column of others, in this order."""
        return [_exchanged(rows, at.get(name), order) for rows, at in zip(self.rows, self._places, strict=True)]

    def take(self, index: np.ndarray) -> list[Rows]:
        """Some rows of each model."""
        return [rows.take(index) for rows in self.rows]

    def grid(self, name: str, asked: int | Sequence[Any]) -> Grid:
        """Values of a column: those that are asked for, all that it has or, of many, so many: of numbers at quantiles
        between the 5th and the 95th percent, of categories the most frequent ones.

        Raises:
            TypeError, ValueError: a column of arrays or positions, or without a known value.
        """
        at = next(each[name] for each in self._places if name in each)
        pairs = zip(self.models, self._places, strict=True)
        columns = next(model.inputs.tabular for model, each in pairs if name in each)
        if not (at.numeric or at.codes) and any(place is None for _, place in at.fields):
            raise TypeError(f"column {name!r} has no single values, so that nothing can depend on them")
        if columns is not None:
            number = next((each for each in columns.numbers if each.name == name), None)
            if number is None:
                return Grid(self._frequent(name, at, columns, asked) if isinstance(asked, int) else list(asked), None)
            unit, raw = number.unit, self._column(name)
        else:
            unit, raw = "", self._raw(name, at)
            if at.codes and isinstance(asked, int):
                codes, counts = np.unique(raw[raw >= 0], return_counts=True)
                kept = np.sort(np.argsort(-counts, kind="stable")[:asked])
                return Grid(codes[kept].tolist(), None)
        values: Any = raw if isinstance(asked, int) else Table({name: list(asked)})[name]
        measured = measures.read(frames.values(values), unit)
        if measured is None:
            raise TypeError(f"`grid` should have values of column {name!r}; got {asked!r}")
        if not isinstance(asked, int):
            return Grid(list(asked), None if at.codes and columns is None else measured.tolist())
        index = _spread(measured, asked)
        if not len(index):
            raise ValueError(f"column {name!r} has no value that is known")
        found = np.asarray(values)[index]
        return Grid(found.tolist() if found.dtype.kind in "biuf" else list(found), measured[index].tolist())

    def fixed(self, name: str, value: Any, each: Sequence[Rows]) -> list[Rows]:
        """Rows as each model has them, with one value in a column.

        Raises:
            TypeError, ValueError: no value of this column.
        """
        found = []
        for model, rows, places in zip(self.models, each, self._places, strict=True):
            at = places.get(name)
            if at is None:
                found.append(rows)
                continue
            columns = model.inputs.tabular
            if columns is not None:
                numbers, codes = columns.only(name).transform(Table({name: _one(value)}), "`grid`")
            else:
                try:
                    number = float(value)
                except (TypeError, ValueError):
                    raise TypeError(f"`grid` should have numbers for column {name!r}; got {value!r}") from None
                numbers, codes = np.full((1, len(at.numeric)), number), np.full((1, len(at.codes)), number)
            changed = rows
            if at.numeric and numbers is not None:
                changed = replace(changed, numeric=_filled(changed.numeric, at.numeric, numbers[0]), _made=None)
            if at.codes and codes is not None:
                filled = _filled(changed.categorical, at.codes, codes[0])
                changed = replace(changed, categorical=filled, _made=None)
            for field, place in at.fields:
                filled = _filled(np.asarray(changed.fields[field]), [place], np.array([value]))
                changed = replace(changed, fields={**changed.fields, field: filled}, _made=None)
            found.append(changed)
        return found

    def _column(self, name: str) -> np.ndarray:
        """A column of the frame, as it was given."""
        reader = self.models[0].reader
        given = self._x[0] if isinstance(self._x, tuple) else self._x
        frame = reader._framed(given)
        if not frames.is_frame(frame):
            raise TypeError(f"`data` should be one frame, or (frame, targets); got {type(given).__name__}")
        return frames.column(frame, name, "`data`")

    def _raw(self, name: str, at: Places) -> np.ndarray:
        rows = next(rows for rows, each in zip(self.rows, self._places, strict=True) if name in each)
        if at.fields:
            field, place = at.fields[0]
            return np.asarray(rows.fields[field]).reshape(len(rows), -1)[:, place or 0]
        array, places = (rows.numeric, at.numeric) if at.numeric else (rows.categorical, at.codes)
        assert array is not None
        return np.asarray(array.reshape(len(rows), -1)[:, places].reshape(-1))

    def _frequent(self, name: str, at: Places, columns: Any, most: int) -> list[Any]:
        """The values of a category or a bag that come most often, in their own order."""
        known = next(each for each in (*columns.categories, *columns.bags) if each.name == name).values
        codes = self._raw(name, at)
        counts = np.bincount(codes[codes > 0].astype(np.int64), minlength=len(known) + 1)[1:]
        kept = np.sort(np.argsort(-counts, kind="stable")[:most])
        return [known[code] for code in kept if counts[code]]


def predictor(given: Any) -> MultiTaskModel | Ensemble:
    """What predicts: a model, or several together.

    Raises:
        TypeError: something else.
    """
    if isinstance(given, MultiTaskModel | Ensemble):
        return given
    estimator = ": give its `model_`, with features in the estimator's scale" if hasattr(given, "model_") else ""
    raise TypeError(f"`model` should be a pt.MultiTaskModel or a pt.Ensemble; got {type(given).__name__}{estimator}")


def _one(value: Any) -> Any:
    """A column of one value."""
    array = np.empty(1, object)
    array[0] = value
    # note: dates are no dates among objects.
    return np.array([value]) if isinstance(value, np.generic) else array.tolist()


def _spread(values: np.ndarray, count: int) -> np.ndarray:
    """Where values are that are spread over all, in rising order."""
    there = np.flatnonzero(~np.isnan(values))
    distinct, first = np.unique(values[there], return_index=True)
    if len(distinct) <= count:
        return np.asarray(there[first])
    shares = np.linspace(0.05, 0.95, count) if count > 1 else np.array([0.5])
    wanted = np.quantile(values[there], shares, method="nearest")
    return np.asarray(there[first[np.searchsorted(distinct, np.unique(wanted))]])


def _whole(parts: Sequence[Rows]) -> Rows:
    """Rows in parts as one."""
    if not parts:
        raise ValueError("`data` have no rows")
    if len(parts) == 1:
        return replace(parts[0], names=())
    if any(isinstance(field, Ragged) for rows in parts for field in rows.fields.values()):
        raise TypeError("`data` with features of positions should be in memory, not in batches")

    def together(arrays: Sequence[Any]) -> np.ndarray | None:
        return None if arrays[0] is None else np.concatenate([array.reshape(len(array), -1) for array in arrays])

    fields = {name: np.concatenate([np.asarray(rows.fields[name]) for rows in parts]) for name in parts[0].fields}
    numeric, codes = (together([getattr(rows, kind) for rows in parts]) for kind in ("numeric", "categorical"))
    return Rows(sum(map(len, parts)), numeric, codes, fields=fields)


def _places(model: MultiTaskModel, rows: Rows) -> dict[str, Places]:
    """Where each column is."""
    inputs, known = model.inputs, model.reader.names.known
    found: dict[str, Places] = {}
    if inputs.tabular is not None:
        found = {name: Places(*inputs.tabular.places(name)) for name in inputs.tabular.names}
        return found | _of_positions(inputs.positions, rows)
    plain = bool(inputs.numeric) + bool(inputs.categorical) == 1 and not inputs.named
    for kind, spans in (("numeric", [1] * inputs.numeric), ("categorical", list(_spans(inputs.categorical)))):
        titles = (known.get("x", []) if plain else []) or known.get(f"x[{kind}]", [])
        named = len(titles) == len(spans)
        start = 0
        for at, span in enumerate(spans):
            name = str(titles[at]) if named else f"{'x' if plain else kind}[{at}]"
            columns = range(start, start + span)
            found[name] = Places(numeric=columns) if kind == "numeric" else Places(codes=columns)
            start += span
    for name, array in inputs.arrays.items():
        if len(array.shape) == 1 and array.shape[0] > 1:
            found |= {f"{name}[{at}]": Places(fields=[(name, at)]) for at in range(array.shape[0])}
        else:
            found[name] = Places(fields=[(name, 0 if array.shape in ((), (1,)) else None)])
    return found | _of_positions(inputs.positions, rows)


def _of_positions(names: Iterable[str], rows: Rows) -> dict[str, Places]:
    return {
        name: Places(fields=[(field, None) for field in rows.fields if field.startswith(f"{name}/")]) for name in names
    }


def _spans(categorical: Sequence[int | Bag]) -> Iterator[int]:
    for feature in categorical:
        yield feature.length if isinstance(feature, Bag) else 1


def _exchanged(rows: Rows, at: Places | None, order: np.ndarray) -> Rows:
    """Rows with some of their features from others."""
    if at is None:
        return rows
    fields: Mapping[str, Any] = dict(rows.fields)
    for name, place in at.fields:
        whole: Any = fields[name]
        if isinstance(whole, Ragged):
            fields = {**fields, name: whole.take(order)}
        elif place is None:
            fields = {**fields, name: whole[order]}
        else:
            fields = {**fields, name: _filled(whole, [place], whole.reshape(len(rows), -1)[order][:, [place]])}
    numeric, codes = rows.numeric, rows.categorical
    if at.numeric and numeric is not None:
        numeric = _filled(numeric, at.numeric, numeric.reshape(len(rows), -1)[order][:, at.numeric])
    if at.codes and codes is not None:
        codes = _filled(codes, at.codes, codes.reshape(len(rows), -1)[order][:, at.codes])
    return replace(rows, numeric=numeric, categorical=codes, fields=fields, _made=None)


def _filled(array: Any, places: Sequence[Any], values: np.ndarray) -> np.ndarray:
    """A copy with other values in some columns."""
    new: np.ndarray = np.array(array)
    new.reshape(len(new), -1)[:, list(places)] = values
    return new
