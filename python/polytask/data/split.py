"""Holds out some of the rows: at random, by the shares of labels, by groups, or by time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    TensorDataset,
)

from ..arguments.keywords import checked
from ..arguments.messages import none_of
from ..components.component import plain
from ..values import frames, measures
from ..values.known import is_missing
from . import forms, sources, strings
from .finder import Finder
from .mix import Mix
from .strata import hold_out_by_label, hold_out_groups, strata


@dataclass(frozen=True, eq=False)
class Split:
    """Which rows to hold out: `fit(data, validation=pt.data.Split(0.2, stratify="income"))`.

    Arguments:
        fraction: of the rows, between 0 and 1.
        stratify: targets whose labels have the same shares in both parts: the name of a task (of a column, in a frame),
            several names, True for all targets, or arrays `[rows]` or `[rows, labels]`. Several at once, and rare
            labels, are dealt out by iterative stratification (Sechidis, Tsoumakas & Vlahavas, On the Stratification of
            Multi-Label Data, ECML PKDD 2011): the rarest label first, each row to the part that lacks it most. What is
            missing counts as a label; numbers that are no whole ones are cut at their deciles.
        groups: rows of one group (a user, a patient) stay on one side: a name or an array `[rows]`. `fraction` is met
            as nearly as the groups allow.
        time: the latest rows are held out: a name or an array `[rows]` of numbers, dates or whatever can be sorted.
            Rows of the same time stay on one side. Strings are sorted as such, but for dates as ISO 8601 writes
            them; those that begin with the day or the month are refused.
        seed: of the choice; by default 0, in `fit` the trainer's.
    """

    fraction: float
    stratify: Any = None
    groups: Any = None
    time: Any = None
    seed: int | None = None

    def __post_init__(self) -> None:
        fraction = plain(self.fraction, "`fraction`")
        if isinstance(fraction, bool) or not isinstance(fraction, int | float):
            raise TypeError(f"`fraction` should be a number between 0 and 1; got {self.fraction!r}")
        if not 0 < fraction < 1:
            raise ValueError(f"`fraction` should be a number between 0 and 1; got {self.fraction!r}")
        if self.stratify is False:
            raise ValueError("`stratify` should be names of tasks, True for all, or arrays; got False")
        if self.time is not None and (self.stratify is not None or self.groups is not None):
            other = "stratify" if self.stratify is not None else "groups"
            raise ValueError(f"`time` holds out the latest rows, which leaves no choice to `{other}`; pass one of them")

    def rows(self, count: int, find: Finder, targets: Sequence[str] | None, seed: int) -> np.ndarray:
        """The rows to hold out, in their order; `targets` are what `stratify=True` stands for.

        Raises:
            ValueError, TypeError: a name that there is not, an array of another length, or one part would be empty.
        """
        seed = seed if self.seed is None else self.seed
        if self.time is not None:
            held = _latest(_one(self.time, "`time`", count, find), self.fraction)
        else:
            groups = None if self.groups is None else strata(_one(self.groups, "`groups`", count, find), False)
            wanted = self.stratify if self.stratify is not True else _all(targets)
            columns = [] if wanted is None else _several(wanted, "`stratify`", count, find)
            rng = np.random.default_rng(seed)
            if not columns and groups is None:
                held = rng.permutation(count)[: round(count * self.fraction)]
            elif not columns and groups is not None:
                held = hold_out_groups(groups, self.fraction, rng)
            else:
                held = hold_out_by_label(
                    [strata(column, True) for column in columns], groups, count, self.fraction, rng
                )
        if not 0 < len(held) < count:
            why = "" if self.groups is None else ": rows of one group stay together"
            why = why if self.time is None else ": rows of the same time stay together"
            raise ValueError(f"a fraction of {self.fraction} leaves {len(held)} of {count} rows for validation{why}")
        return np.sort(held)


@checked
def split(
    data: Any, fraction: float, *, stratify: Any = None, groups: Any = None, time: Any = None, seed: int = 0
) -> tuple[Any, Any]:
    """Two parts of data in any form that `fit` takes, in the same form, the second with the given fraction of the rows.

    The same seed gives the same parts; rows keep their order. Of several data sets each is split. A torch `Dataset`
    gives two that read from it, a `DataLoader` two loaders with its settings. What has no numbered rows (batches, an
    iterable data set, a loader with a sampler of its own) cannot be split.

    Arguments:
        data: the data.
        fraction, stratify, groups, time, seed: as for `pt.data.Split`. Targets that have a place instead of a name,
            as in `(x, y1, y2)`, are given as arrays: `stratify=y1`.

    Raises:
        ValueError, TypeError: what is wrong, what was expected and what came.
    """
    return divide(data, Split(fraction, stratify, groups, time, seed), None, seed)


def divide(data: Any, how: Split, tasks: Mapping[str, Sequence[str]] | None, seed: int) -> tuple[Any, Any]:
    """As `split`; `tasks` are the columns of the tasks whose targets may have a place instead of a name."""
    if isinstance(data, Mix):
        each = _divide_sets(data.sets, how, tasks, seed)
        parts = [part if data.named else list(part.values()) for part in each]
        sampling = (
            data.sampling
            if isinstance(data.sampling, str) or not data.named
            else dict(zip(data.sets, data.sampling, strict=True))
        )
        temperature = data.temperature if data.sampling == "temperature" else None
        first, second = (Mix(part, sampling, temperature=temperature, length=data.length) for part in parts)
        return first, second
    if isinstance(data, Mapping) and not forms.is_batch(data) and all(map(forms.is_data_set, data.values())):
        return _divide_sets(data, how, tasks, seed)
    if isinstance(data, DataLoader):
        return _divide_loader(data, how, tasks, seed)
    data = sources.columned(data)
    count = _count(data)
    places = list(tasks) if tasks is not None else None
    find = Finder(data, places, tasks)
    held = how.rows(count, find, places or _named(data), seed)
    rest = np.setdiff1d(np.arange(count), held)
    return take(data, rest), take(data, held)


def set_apart(
    data: Any, fraction: float, how: Split, tasks: Mapping[str, Sequence[str]], seed: int
) -> tuple[Any, Any, Split]:
    """Two parts of data, the second held out as another split would, and that split for the first part."""
    first = replace(how, fraction=fraction)
    if all(map(_is_named, (how.stratify, how.groups, how.time))):
        return *divide(data, first, tasks, seed), how
    source = sources.columned(data.dataset if isinstance(data, DataLoader) else data)
    count = _count(source)
    rest = np.setdiff1d(np.arange(count), rows_of(source, count, first, tasks, seed))
    parts = divide(data, first, tasks, seed)
    kept = {name: _kept(getattr(how, name), rest, count) for name in ("stratify", "groups", "time")}
    return *parts, replace(how, **kept)


def _is_named(value: Any) -> bool:
    return (
        value is None
        or value is True
        or isinstance(value, str)
        or (isinstance(value, list | tuple) and all(isinstance(each, str) for each in value))
    )


def _kept(value: Any, rows: np.ndarray, count: int) -> Any:
    """What a split goes by, of some rows."""
    if _is_named(value):
        return value
    if isinstance(value, list | tuple) and len(value) != count:
        return [_kept(each, rows, count) for each in value]
    return _array(value, "a split")[rows]


def take(data: Any, index: np.ndarray) -> Any:
    """Some rows, in the same form."""
    if isinstance(data, TensorDataset):
        return TensorDataset(*(_take(tensor, index, len(data)) for tensor in data.tensors))
    if isinstance(data, Dataset):
        return Subset(data, index.tolist())
    return _take(data, index, _count(data))


def _take(part: Any, index: np.ndarray, count: int) -> Any:
    if part is None or isinstance(part, str):
        return part
    if isinstance(part, Mapping):
        return {name: _take_column(each, index, count) for name, each in part.items()}
    if _is_structure(part, count):
        taken = [_take(each, index, count) for each in part]
        return type(part)(*taken) if hasattr(part, "_fields") else type(part)(taken)
    if len(part) != count:
        raise ValueError(f"`data` should have {count} rows in every part; got one of {len(part)}")
    if isinstance(part, torch.Tensor):
        return part[torch.from_numpy(index)]
    if isinstance(part, list | tuple):
        return type(part)(part[i] for i in index)
    if hasattr(part, "iloc"):
        return part.iloc[index]
    if isinstance(part, np.ndarray) or frames.is_frame(part) or frames.is_series(part):
        return part[index]
    return (np.asarray(part) if hasattr(part, "__array__") else np.from_dlpack(part))[index]


def _take_column(part: Any, index: np.ndarray, count: int) -> Any:
    """What stands under a name: a list of one thing a row is rows, be they arrays themselves."""
    if isinstance(part, list | tuple) and len(part) == count and not hasattr(part, "_fields"):
        return type(part)(part[i] for i in index)
    return _take(part, index, count)


def _is_structure(part: Any, count: int) -> bool:
    """Whether a tuple or list holds several columns, and not one value a row."""
    if not isinstance(part, tuple | list):
        return False
    arrays = [each for each in part if forms.is_array(each) and getattr(each, "ndim", 1) > 0]
    nested = any(isinstance(each, Mapping) or frames.is_frame(each) for each in part)
    return bool(arrays) or nested or len(part) != count


def _count(data: Any) -> int:
    """How many rows there are."""
    if isinstance(data, IterableDataset) or (isinstance(data, Dataset) and not hasattr(data, "__len__")):
        raise ValueError("batches cannot be split by a fraction: an iterable data set has no numbered rows")
    if isinstance(data, Dataset) or frames.is_frame(data):
        return len(data)
    if isinstance(data, Mapping):
        parts = [data[name] for name in (*forms.FEATURES, *forms.INPUTS) if name in data] or list(data.values())
        return _first(parts)
    if isinstance(data, tuple | list) and len(data) > 1 and not _are_batches(data):
        return _first(list(data))
    if isinstance(data, tuple | list) or hasattr(data, "__iter__") or forms.is_function(data):
        raise ValueError("batches cannot be split by a fraction: pass rows, a Dataset, or a DataLoader over one; "
                         f"got {type(data).__name__}")  # fmt: skip
    raise TypeError(f"`data` should be rows, a frame, a Dataset or a DataLoader; got {type(data).__name__}")


def _are_batches(data: Any) -> bool:
    return isinstance(data, list) and all(
        isinstance(each, tuple) or frames.is_frame(each) or forms.is_batch(each) for each in data
    )


def _first(parts: list[Any]) -> int:
    part = parts[0]
    while isinstance(part, Mapping):
        part = next(iter(part.values()))
    if not hasattr(part, "__len__"):
        raise TypeError(f"`data` should have features first; got {type(part).__name__}")
    return len(part)


def _divide_sets(
    sets: Mapping[Any, Any], how: Split, tasks: Mapping[str, Sequence[str]] | None, seed: int
) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Each data set by itself; names count where a data set has them."""
    names = [value for value in (how.groups, how.time) if value is not None]
    wanted = how.stratify if isinstance(how.stratify, list | tuple) else [how.stratify]
    if not all(isinstance(name, str) for name in names) or not all(
        each is None or each is True or isinstance(each, str) for each in wanted
    ):
        raise TypeError("`stratify`, `groups` and `time` should be names where there are several data sets")
    found: set[str] = set()
    finders: list[Finder] = []
    parts: tuple[dict[Any, Any], dict[Any, Any]] = {}, {}
    for key, data in sets.items():
        own = {name: (tasks or {}).get(name, [name]) for name in forms.keys(key) if isinstance(name, str)}
        columns = own if own else tasks
        find = _finder_of(data, columns)
        finders.append(find)
        here = [name for name in wanted if isinstance(name, str) and find(name) is not None]
        found.update(here)
        stratify = True if how.stratify is True else here or None
        each = Split(how.fraction, stratify, how.groups, how.time, how.seed)
        parts[0][key], parts[1][key] = divide(data, each, columns, seed)
    if unknown := [name for name in wanted if isinstance(name, str) and name not in found]:
        known = dict.fromkeys(name for find in finders for name in find.names())
        raise ValueError(f"`stratify`: no data set has {none_of(unknown[0], known, 'they have')}")
    return parts


def _finder_of(data: Any, tasks: Mapping[str, Sequence[str]] | None) -> Finder:
    source = data.dataset if isinstance(data, DataLoader) else data
    return Finder(source, list(tasks) if tasks else None, tasks)


def _divide_loader(loader: Any, how: Split, tasks: Mapping[str, Sequence[str]] | None, seed: int) -> tuple[Any, Any]:
    """Two loaders like it over parts of its data set; the second does not shuffle and leaves nothing out."""
    ordered = isinstance(loader.sampler, RandomSampler | SequentialSampler)
    if loader.batch_size is None or not ordered or isinstance(loader.dataset, IterableDataset):
        raise ValueError("batches cannot be split by a fraction: this DataLoader has a sampler or an order of its own; "
                         "split its data set")  # fmt: skip
    names = ("batch_size", "num_workers", "collate_fn", "pin_memory", "timeout", "worker_init_fn", "generator",
             "prefetch_factor", "persistent_workers", "multiprocessing_context")  # fmt: skip
    kept = {name: getattr(loader, name) for name in names}
    first, second = divide(loader.dataset, how, tasks, seed)
    shuffle = isinstance(loader.sampler, RandomSampler)
    return DataLoader(first, shuffle=shuffle, drop_last=loader.drop_last, **kept), DataLoader(second, **kept)


def _named(data: Any) -> list[str] | None:
    """Names of the targets, where the data say them."""
    if isinstance(data, tuple | list) and len(data) > 1 and isinstance(data[1], Mapping):
        return list(data[1])
    if forms.is_batch(data):
        grouped = next((data[name] for name in forms.LABELS if name in data), None)
        if isinstance(grouped, Mapping):
            return list(grouped)
        return [name for name in data if name not in (*forms.FEATURES, *forms.INPUTS, *forms.WEIGHTS)]
    return None


def _all(targets: Sequence[str] | None) -> list[str]:
    if not targets:
        raise ValueError(
            "`stratify=True` stands for all targets, which these data do not name: pass their names or arrays"
        )
    return list(targets)


def _one(value: Any, argument: str, count: int, find: Finder) -> np.ndarray:
    columns = _several(value, argument, count, find)
    if len(columns) != 1 or columns[0].ndim != 1:
        raise ValueError(f"{argument} should be one name or an array [rows]; got {value!r}")
    return columns[0]


def _several(value: Any, argument: str, count: int, find: Finder) -> list[np.ndarray]:
    """The columns that names or arrays stand for."""
    if isinstance(value, str):
        found = find(value)
        if found is None:
            raise ValueError(f"{argument}: the data have nothing called {none_of(value, find.names(), 'they have')}")
        return [column for each in found for column in _several(each, f"{argument} {value!r}", count, find)]
    several = isinstance(value, list | tuple) and value and len(value) != count
    if several and all(isinstance(each, str) or forms.is_array(each) for each in value):
        return [column for each in value for column in _several(each, argument, count, find)]
    column = _array(value, argument)
    if len(column) != count:
        raise ValueError(f"{argument} should have {count} rows; got {len(column)}")
    return [column]


def _array(value: Any, argument: str) -> np.ndarray:
    if isinstance(value, np.ma.MaskedArray):
        hidden = np.ma.getmaskarray(value)
        whole = np.asarray(value.data).astype(object)
        whole[hidden] = None
        return whole
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    elif frames.is_series(value):
        value = frames.values(value)
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"{argument} should be of rows; got rows of different lengths") from None
    if array.ndim not in (1, 2):
        raise ValueError(f"{argument} should be names, or arrays [rows] or [rows, labels]; got {type(value).__name__}")
    return array


def _latest(times: np.ndarray, fraction: float) -> np.ndarray:
    """The rows after the moment that comes nearest to the fraction."""
    if times.dtype.kind in "OU" and measures.unit(times.astype(object)) == measures.DATES:
        # Strings of dates too, which may have zones.
        read = measures.read(times.astype(object), measures.DATES)
        times = times if read is None else read
    values = [None if is_missing(value) else value for value in times.tolist()]
    if times.dtype.kind in "mM":
        values = [None if np.isnat(value) else value for value in times]
    if None in values:
        raise ValueError(f"`time` should be known for each row; it is missing at row {values.index(None)}")
    if values and all(isinstance(value, str) and strings.is_day_first(value) for value in values):
        raise ValueError(f"`time` has strings such as {values[0]!r}, which do not sort as dates follow: make "
                         "dates of them, or write 2024-01-31")  # fmt: skip
    distinct, place = np.unique(np.array(values, dtype=times.dtype), return_inverse=True)
    after = np.cumsum(np.bincount(place, minlength=len(distinct))[::-1])[::-1]
    first = int(np.argmin(np.abs(after[1:] - len(values) * fraction))) + 1 if len(distinct) > 1 else 0
    if first == 0:
        raise ValueError("`time` should have at least two different moments; got one")
    return np.flatnonzero(place >= first)


def rows_of(data: Any, count: int, how: Split, tasks: Mapping[str, Sequence[str]], seed: int) -> np.ndarray:
    """The rows to hold out of data that were read as rows."""
    return how.rows(count, Finder(data, list(tasks), tasks), list(tasks), seed)
