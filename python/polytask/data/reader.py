"""Recognises what was passed and reads it for one model: its inputs, its tasks, in their order."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import Dataset, TensorDataset

from ..arguments.messages import listed, none_of
from ..values import arrays, frames, ragged, texts
from ..values.ragged import Ragged
from . import array_inputs, forms, label_lists, labels, sources
from .mix import Mix, Mixed
from .names import Names
from .rows import Rows
from .stream import Batches, Stream
from .target_scales import TargetScales

if TYPE_CHECKING:
    from .inputs import Inputs
    from .task import Task

Features = tuple[int, np.ndarray | None, np.ndarray | None, str, dict[str, Ragged | np.ndarray]]


class Reader:
    """Reads data in any form."""

    def __init__(
        self, inputs: "Inputs", tasks: Sequence["Task"], kinds: Sequence[str], beside: Sequence["Task"] = ()
    ) -> None:
        """`beside`: tasks that are not read, whose columns are no features all the same."""
        self.inputs = inputs
        self.tasks = tasks
        self.kinds = kinds
        self.names = Names()
        self.scales = TargetScales(tasks, kinds)
        self._beside = beside

    def read(
        self,
        data: Any,
        argument: str = "data",
        *,
        weights: Any = None,
        batch_size: int = 4096,
        shuffle: bool = False,
        seed: int = 0,
        learn: bool = False,
        inherit: bool = False,
    ) -> Rows | Stream | Mixed:
        """Rows in memory, a stream of batches, or several data sets mixed. With `learn`, names of columns are
        remembered; with `inherit`, the columns that `weights` names are those of other data, and taken where there are
        columns.

        Raises:
            TypeError, ValueError: nothing of the kind, or something is wrong with it; says what.
        """
        data = sources.opened(self._gathered(data), argument, batch_size)
        how: dict[str, Any] = {"weights": weights, "learn": learn, "inherit": inherit}
        if isinstance(data, Mix) or forms.are_data_sets(data, [task.name for task in self.tasks], argument):
            order = {"batch_size": batch_size, "shuffle": shuffle, "seed": seed}
            return self._mixed(data if isinstance(data, Mix) else Mix(data), argument, how, order)
        data = self._framed(data)
        if isinstance(data, TensorDataset):
            data = data.tensors
        if isinstance(data, Dataset):
            data = Batches(data, batch_size, shuffle, seed)
        elif forms.are_rows(data) or forms.is_batch(data):
            return self.rows(data, "" if argument == "data" else f"`{argument}`: ", **how)
        if not isinstance(data, Iterable) or isinstance(data, str | bytes | Mapping) or forms.is_array(data):
            raise TypeError(f"`{argument}` should be {self._form()}, a frame, a Dataset, a DataLoader, batches, or a "
                            f"dict of a data set a task; got {_kind(data)}")  # fmt: skip
        if weights is not None and not inherit and not forms.name_columns(weights):
            raise ValueError(f"`weights` should be part of the batches when `{argument}` is a "
                             f"{type(data).__name__}: (x, targets, weights)")  # fmt: skip
        return Stream(data, lambda batch, prefix: self.rows(batch, prefix, **how), argument)

    def _mixed(self, mix: Mix, argument: str, how: dict[str, Any], order: dict[str, Any]) -> Mixed:
        """Each data set read for its tasks, as rows or batches of the whole model's."""
        if how["weights"] is not None and not forms.name_columns(how["weights"]):
            raise ValueError(f"`weights` should be part of each data set when `{argument}` has several: "
                             "(x, targets, weights)")  # fmt: skip
        # What is no frame has no columns, whose weights then come with it.
        how = {**how, "inherit": True}
        parts: list[Rows | Stream] = []
        for key, data in mix.sets.items():
            called = f"{argument}[{key!r}]"
            if isinstance(data, Mix | Mixed):
                raise TypeError(f"`{called}` should be one data set; got a pt.data.Mix")
            reader, at = self._for(key, called) if mix.named else (self, list(range(len(self.tasks))))
            part = reader.read(data, called, **how, **order)
            if isinstance(part, Mixed):
                raise TypeError(f"`{called}` should be one data set; got a dict of several")
            parts.append(part.spread(at, len(self.tasks)))
        return Mixed(mix, parts, argument, **order)

    def _for(self, key: Any, argument: str) -> tuple["Reader", list[int]]:
        """A reader of a key's tasks, and where they stand among all."""
        places = {task.name: j for j, task in enumerate(self.tasks)}
        names = forms.keys(key)
        unknown = [name for name in names if name not in places]
        if unknown or len(set(names)) < len(names) or not names:
            wrong = f"unknown task {unknown[0]!r}" if unknown else "a task twice, or none"
            raise ValueError(
                f"`{argument}`: {wrong}; keys are tasks or tuples of tasks, and the model has {listed(places)}"
            )
        at = [places[name] for name in names]
        reader = Reader(self.inputs, [self.tasks[j] for j in at], [self.kinds[j] for j in at], self.tasks)
        reader.names = self.names
        return reader, at

    def rows(
        self, data: Any, prefix: str = "", weights: Any = None, learn: bool = False, inherit: bool = False
    ) -> Rows:
        """One batch, or all rows at once: a tuple, a dict with features or a frame."""
        data = self._framed(data)
        if inherit and not (forms.name_columns(weights) and forms.has_columns(data)):
            weights = None
        if frames.is_frame(data):
            return self._make(data, self._targets_of(data, prefix), weights, prefix, learn)
        x, targets, own = self._parts(data, prefix)
        if own is not None and weights is not None:
            raise ValueError(f"{prefix}row weights should be given once; got them in the tuple and as `weights`")
        return self._make(x, targets, own if own is not None else weights, prefix, learn)

    def features(self, x: Any, prefix: str = "") -> Rows:
        """Features alone."""
        rows, numeric, categorical, name, fields = self._features(x, prefix)
        return Rows(rows, numeric, categorical, names=[name, f'{prefix}`x["categorical"]`'], fields=fields)

    def feature_batches(self, x: Any) -> Iterator[Rows]:
        """Features of anything that can be predicted for: the targets of tuples and batches are left aside."""
        x = sources.columned(sources.opened(x, "x", 4096))
        if isinstance(x, TensorDataset):
            x = x.tensors
        if isinstance(x, Dataset):
            x = Batches(x, 4096, False, 0)
        x = self._framed(x)
        if self._are_kinds(x):
            yield self.features(x)
            return
        if self._in_order(x):
            yield self.features(x)
            return
        if self.inputs.text and texts.in_tuples(x):
            yield self.features(list(x))
            return
        if isinstance(x, tuple) or forms.is_features(x):
            yield self.features(forms.first(x) if isinstance(x, tuple) else forms.features(x))
            return
        for number, batch in enumerate(x):
            batch = self._gathered(batch)
            yield self.features(batch if self._in_order(batch) else forms.first(batch), f"batch {number}: ")

    @property
    def _columns(self) -> list[str]:
        """Names of the columns that are features, where they are known."""
        return self.inputs.names or self.names.known.get("x", [])

    def _framed(self, data: Any) -> Any:
        """What has columns by name as a frame, and the parts of a tuple; anything else as it is. A list of features by
        name and something else, as a loader collates them, is a tuple.
        """
        if isinstance(data, list) and len(data) > 1 and self._by_name(data[0]) and not self._by_name(data[1]):
            data = tuple(data)
        if isinstance(data, tuple):
            return tuple(part.collect() if frames.is_lazy(part) else part for part in data)
        data = self._gathered(sources.columned(data))
        if self._are_kinds(data):
            return data
        columns = self._columns
        if frames.is_row(data, columns):
            return frames.framed(dict(zip(data.index, data.tolist(), strict=True)))
        first = data[0] if frames.are_records(data) else data
        if isinstance(first, Mapping) and not (columns and all(name in first for name in columns)):
            targets = {name for task in self.tasks for name in (task.name, *task.columns)}
            if forms.is_batch(first) or targets.issuperset(first):
                return data
        return frames.framed(data)

    def _gathered(self, data: Any) -> Any:
        """A batch that has arrays or features of positions, by name, beside targets: with the features as its `x`."""
        if not isinstance(data, Mapping) or any(name in data for name in forms.FEATURES):
            return data
        if self.inputs.tabular is not None:
            return data
        names = [task.name for task in self.tasks]
        features = {name: data[name] for name in self.inputs.kinds if name in data and name not in names}
        if not any(name in self.inputs.named for name in features):
            return data
        rest = {name: value for name, value in data.items() if name not in features}
        beside = any(name in rest for name in (*names, *forms.LABELS))
        return {"x": features, **rest} if beside else data

    def _are_kinds(self, x: Any) -> bool:
        """Whether it is arrays or features of positions, and of rows beside them, by the names that the model's inputs
        have.
        """
        if not isinstance(x, Mapping) or not self.inputs.named:
            return False
        if self.inputs.tabular is not None:
            return set(x) <= set(self.inputs.kinds)
        return set(x) <= set(self.inputs.kinds) or not forms.is_batch(x)

    def _by_name(self, x: Any) -> bool:
        """Whether it is features by the names that the model's inputs have, and nothing else."""
        return isinstance(x, Mapping) and bool(self.inputs.named) and set(x) <= set(self.inputs.kinds)

    def _in_order(self, x: Any) -> bool:
        """Whether it is the several arrays of the model's inputs, in their order."""
        names = self.inputs.kinds
        several = len(names) > 1 and names == list(self.inputs.arrays)
        return several and isinstance(x, tuple | list) and len(x) == len(names) and all(map(forms.is_array, x))

    def _parts(self, data: Any, prefix: str) -> tuple[Any, Mapping[str, Any], Any]:
        if forms.is_batch(data):
            return self._keyed(data, prefix)
        if not isinstance(data, tuple | list) or len(data) < 2:
            got = f"{len(data)} element(s)" if isinstance(data, tuple | list) else type(data).__name__
            raise ValueError(f"{prefix}data should be {self._form()}; got {got}")
        x, *rest = data
        if frames.is_frame(rest[0]) and len(rest) < 3 and (found := self._beside_in(rest[0], prefix)):
            return x, found, rest[1] if len(rest) == 2 else None
        if isinstance(rest[0], Mapping) or (len(rest) < 3 and forms.are_targets(rest[0], len(self.tasks))):
            if len(rest) > 2:
                raise ValueError(f"{prefix}data should be (x, targets, weights); got {len(data)} elements")
            return x, self._by_task(rest[0], prefix), rest[1] if len(rest) == 2 else None
        return x, self._by_task(rest, prefix), None

    def _by_task(self, targets: Any, prefix: str) -> Mapping[str, Any]:
        """Targets by task, or in the tasks' order."""
        if isinstance(targets, Mapping):
            return self._known(targets, f"{prefix}the targets")
        if len(targets) == 1 and len(self.tasks) > 1:
            return self._matrix(targets[0], prefix)
        if len(targets) != len(self.tasks):
            raise ValueError(f"{prefix}data should be {self._form()}; got {len(targets) + 1} elements")
        return {task.name: y for task, y in zip(self.tasks, targets, strict=True)}

    def _matrix(self, targets: Any, prefix: str) -> Mapping[str, Any]:
        """The targets of several tasks as the columns of one array, in the tasks' order."""
        wide = sum(task.outputs for task in self.tasks)
        if frames.is_frame(targets) or not forms.is_array(targets) or np.shape(targets)[1:] != (wide,):
            raise ValueError(f"{prefix}data should be {self._form()}, or (x, targets [rows, {wide}]); got 2 elements")
        ends = np.cumsum([task.outputs for task in self.tasks])
        array, mask = arrays.unwrap(targets, f"{prefix}the targets")

        def part(whole: np.ndarray, end: int, outputs: int) -> np.ndarray:
            return whole[:, end - 1] if outputs == 1 else whole[:, end - outputs : end]

        found: dict[str, Any] = {}
        for task, end in zip(self.tasks, ends, strict=True):
            y = part(array, end, task.outputs)
            found[task.name] = y if mask is None else np.ma.masked_array(y, part(mask, end, task.outputs))
        return found

    def _keyed(self, batch: Mapping[str, Any], prefix: str) -> tuple[Any, Mapping[str, Any], Any]:
        """The parts of a batch that is a dict."""
        names = [task.name for task in self.tasks]
        x, targets, weights = forms.parts(batch, names, prefix)
        several = isinstance(targets, Mapping) or forms.are_targets(targets, len(names))
        return x, self._by_task(targets if several else [targets], prefix), weights

    def _known(self, mapping: Mapping[str, Any], what: str) -> Mapping[str, Any]:
        names = [task.name for task in self.tasks]
        unknown = [name for name in mapping if name not in names]
        if unknown:
            raise ValueError(f"{what}: unknown task {none_of(unknown[0], names, 'the model has')}")
        return mapping

    def _form(self) -> str:
        names = [task.name for task in self.tasks]
        shown = names if len(names) <= 6 else [*names[:5], "..."]
        return f"(x, {', '.join(shown)}), (x, {{task: targets}}) or (x, {{task: targets}}, weights)"

    def _beside_in(self, frame: Any, prefix: str) -> dict[str, Any]:
        """The targets of the tasks whose columns a frame of targets has."""
        have = frames.names(frame)
        return self._targets_of(frame, prefix, [t for t in self.tasks if all(name in have for name in t.columns)])

    def _targets_of(self, frame: Any, prefix: str, tasks: Sequence["Task"] | None = None) -> dict[str, Any]:
        def target(task: "Task") -> Any:
            if task.per is not None:
                return frames.stored(frame, task.columns[0], f"{prefix}the frame")
            if task.outputs == 1:
                return frames.column(frame, task.columns[0], f"{prefix}the frame")
            return frames.table(frame, task.columns, f"{prefix}the frame")

        return {task.name: target(task) for task in (self.tasks if tasks is None else tasks)}

    def _make(self, x: Any, targets: Mapping[str, Any], weights: Any, prefix: str, learn: bool) -> Rows:
        rows, numeric, categorical, name, fields = self._features(x, prefix, forms.columns_of(weights), learn)
        each: list[np.ndarray | Ragged | None] = []
        masks: list[np.ndarray | None] = []
        for task, kind in zip(self.tasks, self.kinds, strict=True):
            y = targets.get(task.name)
            called = f"{prefix}the targets of task `{task.name}`"
            if y is not None and task.per is not None:
                of_positions = labels.of_pairs if task.pairs else labels.of_positions
                each.append(of_positions(y, task, kind, called, _of_position(task.per, fields)))
                masks.append(None)
                continue
            if frames.is_frame(y):
                y = self._ordered(task.name, y, task.columns, called, learn, frames.table)
            elif y is not None and self.inputs.positions:
                label_lists.refuse_positions(y, task, called, self.inputs.per)
            array, mask = (None, None) if y is None else labels.read(y, task, kind, called)
            _check_dimensions(array, called)
            each.append(array)
            masks.append(mask)
        names = [name, f'{prefix}`x["categorical"]`']
        names += [f"{prefix}the targets of task `{task.name}`" for task in self.tasks]
        names += [f"{prefix}the row weights of task `{task.name}`" for task in self.tasks]
        read = Rows(rows, numeric, categorical, each, masks, self._weights(weights, x, prefix), names, (), fields)
        self.scales.apply(read)
        return read

    def _ordered(
        self,
        place: str,
        frame: Any,
        columns: Sequence[str],
        argument: str,
        learn: bool,
        read: Callable[[Any, Sequence[str], str], np.ndarray] = frames.matrix,
    ) -> np.ndarray:
        """The values of a frame that stands where an array may: by the names that are known, else as it is."""
        have = frames.names(frame)
        declared = len(columns) == len(have) and set(columns) == set(have)
        names = columns if declared else self.names.select(place, have, argument)
        matrix = read(frame, names, argument)
        if learn and not declared:
            self.names.learn(place, have)
        return matrix

    def _weights(self, weights: Any, frame: Any, prefix: str) -> list[np.ndarray | None]:
        if weights is None:
            return [None] * len(self.tasks)
        if isinstance(weights, Mapping):
            each = {name: self._weight(w, frame, prefix) for name, w in self._known(weights, "`weights`").items()}
            return [each.get(task.name) for task in self.tasks]
        return [self._weight(weights, frame, prefix)] * len(self.tasks)

    def _weight(self, weights: Any, frame: Any, prefix: str) -> np.ndarray | None:
        if weights is None:
            return None
        if isinstance(weights, str):
            if not frames.is_frame(frame):
                raise TypeError(f"{prefix}`weights` of {weights!r} names a column, but x is no frame")
            weights = frames.column(frame, weights, f"{prefix}the frame")
        array, mask = arrays.to_numpy(weights, f"{prefix}`weights`")
        if mask is not None and mask.any():
            raise ValueError(f"{prefix}`weights` should not be masked: a row without weight has weight 0")
        _check_dimensions(array, f"{prefix}`weights`")
        return array

    def _features(self, x: Any, prefix: str, apart: Sequence[str] = (), learn: bool = False) -> Features:
        x = self._framed(forms.inner(x, [*self.inputs.kinds, *self._columns]))
        if frames.is_frame(x) and self.inputs.named:
            x = self._columns_by_name(x, f"{prefix}the frame", apart, learn)
        if frames.is_frame(x):
            numeric, categorical = self._of_frame(x, f"{prefix}the frame", apart, learn)
            return len(x), numeric, categorical, f"{prefix}the numeric columns of the frame", {}
        if x is None:
            raise TypeError(f"{prefix}`x` should be features; got None")
        if self._in_order(x):
            x = array_inputs.by_name(x, self.inputs.kinds, f"{prefix}`x`")
        parts = x if isinstance(x, Mapping) else {self.inputs.only(f"{prefix}`x`", x): x}
        unknown = [key for key in parts if key not in self.inputs.kinds]
        if unknown:
            raise ValueError(f"{prefix}`x` should have the keys {_and(self.inputs.kinds)}; got {unknown[0]!r}")
        keyed = isinstance(x, Mapping)
        name = f'{prefix}`x["numeric"]`' if keyed else f"{prefix}`x`"
        names = {"numeric": name, "categorical": f'{prefix}`x["categorical"]`' if keyed else name}
        given = {
            key: self._ordered(f"x[{key}]", part, (), names[key], learn) if frames.is_frame(part) else part
            for key, part in parts.items()
            if key not in self.inputs.positions
        }
        fields: dict[str, Ragged | np.ndarray] = {}
        for key in self.inputs.arrays:
            if key in given:
                called = f'{prefix}`x["{key}"]`' if keyed else name
                fields[key] = array = _array(given[key], called)
                array_inputs.check_rows(array, self.inputs.arrays[key], called)
                array_inputs.check_truths(array, self.inputs.arrays[key], key, called)
        for key in self.inputs.positions:
            if key in parts:
                fields |= self._of_positions(key, parts[key], f'{prefix}`x["{key}"]`' if keyed else name)
        numeric = _unmasked(given.get("numeric"), names["numeric"])
        categorical = _unmasked(given.get("categorical"), names["categorical"])
        there = [part for part in (numeric, categorical, *fields.values()) if part is not None]
        if not there:
            raise ValueError(f"{prefix}`x` should have the keys {_and(self.inputs.kinds)}; got none of them")
        return len(there[0]), numeric, categorical, name, fields

    def _columns_by_name(self, frame: Any, argument: str, apart: Sequence[str], learn: bool) -> dict[str, Any]:
        """Columns of lists, by the names of the model's inputs, and beside them what was learned of others."""
        beside = [kind for kind in self.inputs.kinds if kind not in self.inputs.named]
        named = {name: frames.stored(frame, name, argument) for name in self.inputs.named}
        if self.inputs.tabular is not None:
            kinds = zip(forms.INPUTS, self._of_frame(frame, argument, apart, learn), strict=True)
            return {**{kind: part for kind, part in kinds if part is not None}, **named}
        if beside:
            raise TypeError(f"{argument} should be a dict with the keys {_and(self.inputs.kinds)}: which of its "
                            f"columns are {_and(beside)} is not known")  # fmt: skip
        return named

    def _of_positions(self, name: str, value: Any, called: str) -> dict[str, Ragged]:
        """Numbers and codes of positions."""
        if name in self.inputs.text:
            return {f"{name}/categorical": self.inputs.text[name].read(value, called)}
        inner = self.inputs.positions[name]
        parts = value if isinstance(value, Mapping) else {inner.only(called, value): value}
        unknown = [key for key in parts if key not in inner.kinds]
        if unknown:
            raise ValueError(f"{called} should have the keys {_and(inner.kinds)}; got {unknown[0]!r}")
        return {f"{name}/{key}": ragged.numbers(part, called) for key, part in parts.items()}

    def _of_frame(self, frame: Any, argument: str, apart: Sequence[str], learn: bool) -> tuple[np.ndarray | None, ...]:
        """A frame's features: the columns that were learned, or all but targets and row weights."""
        if self.inputs.tabular is not None:
            feature = next((name for name in apart if name in self.inputs.names), None)
            if feature is not None:
                raise ValueError(f"`weights`: column `{feature}` is a feature of this model; leave it out of the "
                                 f'features with pt.Inputs.from_frame(frame, weights="{feature}")')  # fmt: skip
            return self.inputs.tabular.transform(frame, argument)
        others = {*apart, *(name for task in (*self.tasks, *self._beside) for name in task.columns)}
        have = [name for name in frames.names(frame) if name not in others]
        names = self.names.select("x", have, argument)
        features = self.inputs.plain(frame, names, argument)
        if learn:
            self.names.learn("x", names)
        return features


def _of_position(per: str, fields: Mapping[str, Ragged | np.ndarray]) -> Ragged:
    """One of the features of these positions."""
    return next(part for key, part in fields.items() if isinstance(part, Ragged) and key.startswith(f"{per}/"))


def _and(names: Sequence[str]) -> str:
    *most, last = [f"`{name}`" for name in names]
    return f"{', '.join(most)} and {last}" if most else last


def _kind(data: Any) -> str:
    if not isinstance(data, Mapping):
        return type(data).__name__
    return f"a dict of {listed(data)}, whose keys are no tasks with data sets and that has no features as `x`"


def _unmasked(value: Any, name: str) -> np.ndarray | None:
    if value is None:
        return None
    array = _array(value, name)
    _check_dimensions(array, name)
    return array


def _array(value: Any, name: str) -> np.ndarray:
    array, mask = arrays.to_numpy(value, name)
    if mask is not None and mask.any():
        raise ValueError(f"{name} should have no masked features: only labels can be missing")
    return array


def _check_dimensions(array: np.ndarray | None, name: str) -> None:
    if array is not None and array.ndim not in (1, 2):
        raise ValueError(f"{name} should have shape [rows] or [rows, columns]; got {list(array.shape)}")
