"""What data are: one batch, a data set a task, a table of columns, or batches; and the parts of a batch."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.utils.data import DataLoader, Dataset

from ..arguments.messages import listed
from ..values import frames

#: What features are called in a batch that is a dict, unless they go by the model's names of inputs.
FEATURES = ("x", "features", "inputs")
INPUTS = ("numeric", "categorical")
LABELS = ("labels", "targets", "y")
WEIGHTS = ("weights", "sample_weight", "weight")


def is_array(value: Any) -> bool:
    """Whether it knows how to become an array."""
    return hasattr(value, "__array__") or hasattr(value, "__dlpack__") or frames.is_lazy(value)


def is_batch(data: Any) -> bool:
    """Whether it is a dict with features under a name."""
    return isinstance(data, Mapping) and any(name in data for name in (*FEATURES, *INPUTS))


def is_data_set(value: Any) -> bool:
    """Whether it is features with targets, or what gives batches of them: what a task can have of its own."""
    if isinstance(value, Mapping):
        return is_batch(value)
    if isinstance(value, tuple | list):
        return len(value) > 0 and (_is_columns(value) if isinstance(value, tuple) else _is_list(value))
    if frames.is_frame(value) or isinstance(value, Dataset) or names_columns(value) or is_function(value):
        return True
    return isinstance(value, Iterable) and not isinstance(value, str | bytes) and not is_array(value)


def names_columns(value: Any) -> bool:
    """Whether it is another library's table or stream, which says what its columns are called."""
    if isinstance(value, Mapping) or frames.is_frame(value) or frames.is_lazy(value):
        return False
    return isinstance(getattr(value, "column_names", 0), list | tuple | None)


def is_function(value: Any) -> bool:
    """Whether it is something to call that may make batches."""
    return callable(value) and not isinstance(value, Iterable | type | nn.Module) and not is_array(value)


def are_data_sets(data: Any, tasks: Sequence[str], argument: str) -> bool:
    """Whether it is a dict of one data set a task, or for several; the keys may be wrong then.

    Raises:
        ValueError: it could be a batch too.
        TypeError: a data set beside something that is none.
    """
    if not isinstance(data, Mapping) or not data:
        return False
    sets = [is_data_set(value) for value in data.values()]
    named = all(name in tasks for key in data for name in keys(key))
    if is_batch(data):
        both = next((key for key in data if key in (*FEATURES, *INPUTS)), None)
        if not named or not any(sets):
            if both in tasks:
                raise ValueError(f"`{argument}` can be read in two ways: {both!r} is a task, and what features "
                                 "are called in a batch; pass (x, {task: targets})")  # fmt: skip
            return False
        raise ValueError(f"`{argument}` can be read in two ways, since {both!r} is a task: a data set a task, or a "
                         "batch with such features; pass pt.data.Mix(...), or (x, {task: targets})")  # fmt: skip
    if not any(sets) or not (named or all(sets)):
        return False
    if not all(sets):
        key = next(key for key, fits in zip(data, sets, strict=True) if not fits)
        raise TypeError(f"`{argument}[{key!r}]` should be (x, y), a frame, a Dataset, a DataLoader or batches, as the "
                        f"others are; got {type(data[key]).__name__}")  # fmt: skip
    return True


def keys(key: Any) -> tuple[Any, ...]:
    """The tasks that a key of a dict of data sets names."""
    return key if isinstance(key, tuple) else (key,)


def parts(batch: Mapping[str, Any], tasks: Sequence[str], prefix: str) -> tuple[Any, Any, Any]:
    """Features, targets (by task, or in the tasks' order) and row weights of a batch that is a dict.

    Raises:
        ValueError: the same thing under two names, or a name that is none while a task lacks its targets.
    """
    own = [name for name in tasks if name in batch]
    x = _only(batch, [name for name in FEATURES if name in batch], prefix)
    inputs = {name: batch[name] for name in INPUTS if name in batch}
    if x and inputs:
        raise ValueError(f"{prefix}features should be given once; got {listed([*x, *inputs])}")
    grouped = _only(batch, [name for name in LABELS if name in batch and name not in tasks], prefix)
    if grouped and own:
        raise ValueError(f"{prefix}targets should be given once; got {listed([*grouped, *own])}")
    weights = _only(batch, [name for name in WEIGHTS if name in batch and name not in tasks], prefix)
    known = {*x, *inputs, *grouped, *own, *weights}
    other = [name for name in batch if name not in known]
    # What else a loader gives (an index, a name of a file) is left aside, but not what may be a task's mistyped name.
    if other and not grouped and len(own) < len(tasks):
        lacking = [name for name in tasks if name not in own]
        raise ValueError(f"{prefix}data have no targets of {listed(lacking)}, and no task is called {other[0]!r}; the "
                         f"model has {listed(tasks)}")  # fmt: skip
    targets = next(iter(grouped.values())) if grouped else {name: batch[name] for name in own}
    return next(iter(x.values())) if x else inputs, targets, next(iter(weights.values()), None)


def features(batch: Any) -> Any:
    """The features of a batch that is a dict, what else it has left aside; anything else as it is."""
    if not is_batch(batch):
        return batch
    name = next((name for name in FEATURES if name in batch), None)
    return batch[name] if name else {name: batch[name] for name in INPUTS if name in batch}


def inner(x: Any, kinds: Iterable[str]) -> Any:
    """Features under a name of their own within features, `{"inputs": {"x": x}}`, unless the model's inputs have it."""
    name = next(iter(x)) if isinstance(x, Mapping) and len(x) == 1 else None
    return x[name] if name in FEATURES and name not in kinds else x


def are_targets(value: Any, tasks: int) -> bool:
    """Whether it is the targets of all tasks in their order, `(a, b)` in `x, (a, b)`, and not one array."""
    if not isinstance(value, tuple | list) or len(value) != tasks:
        return False
    if tasks == 1 and isinstance(value, list):
        return _is_columns(value) and not isinstance(value[0], list)
    return _is_columns(value)


def name_columns(weights: Any) -> bool:
    """Whether all row weights are named by columns."""
    each = weights.values() if isinstance(weights, Mapping) else [weights]
    return all(isinstance(weight, str) for weight in each)


def has_columns(data: Any) -> bool:
    """Whether it is a frame, or features in one and targets, without row weights of its own."""
    if not isinstance(data, tuple | list) or len(data) < 2:
        return frames.is_frame(data)
    return frames.is_frame(data[0]) and not (isinstance(data[1], Mapping) and len(data) > 2)


def columns_of(weights: Any) -> list[str]:
    """The columns that row weights are in."""
    each = weights.values() if isinstance(weights, Mapping) else [weights]
    return [weight for weight in each if isinstance(weight, str)]


def are_rows(data: Any) -> bool:
    """A tuple or a frame is rows; a list is rows unless it is a list of batches."""
    if not isinstance(data, list) or not data:
        return isinstance(data, tuple) or frames.is_frame(data)
    if isinstance(data[0], Dataset | DataLoader):
        raise TypeError("a list of data sets does not say whose they are: pass {task: data set}, or pt.data.Mix([...]) "
                        "of data sets that each have targets by name, (x, {task: targets})")  # fmt: skip
    return not isinstance(data[0], tuple | list) and not frames.is_frame(data[0]) and not is_batch(data[0])


def is_features(x: Any) -> bool:
    """Whether it is features of rows in memory, and no iterable of batches."""
    if isinstance(x, list):
        return not x or (not isinstance(x[0], tuple) and (not is_array(x[0]) or getattr(x[0], "ndim", 2) < 2))
    return isinstance(x, Mapping | str | bytes) or is_array(x) or frames.is_frame(x) or not isinstance(x, Iterable)


def first(batch: Any) -> Any:
    """The features of a batch."""
    if isinstance(batch, Mapping):
        return features(batch)
    if isinstance(batch, tuple) and not batch:
        raise ValueError("`x` should be features; got an empty tuple")
    if isinstance(batch, tuple):
        return batch[0]
    if isinstance(batch, list) and len(batch) > 0:
        # As a loader collates (x, ...), of which x may be several arrays.
        several = isinstance(batch[0], Mapping | list | tuple) and len(batch) > 1 and is_array(batch[1])
        return batch[0] if several or is_array(batch[0]) else batch
    return batch


def _only(batch: Mapping[str, Any], names: list[str], prefix: str) -> dict[str, Any]:
    if len(names) > 1:
        raise ValueError(f"{prefix}data can be read in two ways: they have both {listed(names)}")
    return {name: batch[name] for name in names}


def _is_columns(values: Sequence[Any]) -> bool:
    """Whether each is an array of at least one dimension, or what can become one."""

    def fits(value: Any) -> bool:
        if value is None or isinstance(value, Mapping | list | tuple) or frames.is_frame(value):
            return True
        return is_array(value) and getattr(value, "ndim", 1) > 0

    return all(map(fits, values))


def _is_list(values: list[Any]) -> bool:
    """Whether a list is batches, or features and targets: not one array."""
    first = values[0]
    if isinstance(first, tuple | Mapping) or frames.is_frame(first):
        return True
    if isinstance(first, list):
        return len(first) > 1 and is_array(first[0])
    return len(values) > 1 and is_array(first) and getattr(first, "ndim", 1) > 0 and _is_columns(values)
