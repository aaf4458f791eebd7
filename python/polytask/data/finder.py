"""What names stand for in data of any form."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset, TensorDataset

from ..values import frames
from . import forms, sources


class Finder:
    """Looks names up in data: tasks by name or place, columns of frames, keys of dicts."""

    def __init__(
        self, data: Any, places: Sequence[str] | None = None, columns: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self._data = data
        self._places = places
        self._columns = columns or {}
        self._looked = False

    def __call__(self, name: str) -> list[Any] | None:
        """What a name stands for, one array or several; `None` if there is no such name."""
        return _look_up(self._labels(), name, self._places, self._columns)

    def names(self) -> list[str]:
        """All names that it knows."""
        known = [*_names(self._labels()), *(self._places or ()), *self._columns]
        return [name for name in dict.fromkeys(known) if self(name) is not None]

    def _labels(self) -> Any:
        if not self._looked:
            data = sources.columned(self._data)
            if isinstance(data, TensorDataset):
                data = data.tensors
            self._data = _labels_of(data) if isinstance(data, Dataset) else data
            self._looked = True
        return self._data


def _names(data: Any) -> list[str]:
    """Columns, keys and fields, and those within."""
    if frames.is_frame(data):
        return list(frames.names(data))
    if isinstance(data, Mapping):
        inner = [data[key] for key in (*forms.LABELS, *forms.FEATURES) if key in data]
        return [*(name for name in data if isinstance(name, str)), *(name for each in inner for name in _inner(each))]
    if not isinstance(data, tuple | list):
        return []
    return [*getattr(data, "_fields", ()), *(name for each in data[:2] for name in _inner(each))]


def _inner(data: Any) -> list[str]:
    return _names(data) if isinstance(data, Mapping) or frames.is_frame(data) else []


def _look_up(
    data: Any, name: str, places: Sequence[str] | None, columns: Mapping[str, Sequence[str]]
) -> list[Any] | None:
    if frames.is_frame(data):
        have = frames.names(data)
        names = [name] if name in have else list(columns.get(name, [name]))
        there = all(each in have for each in names)
        return [frames.column(data, each, "the frame") for each in names] if there else None
    if isinstance(data, Mapping):
        if name in data:
            return [data[name]]
        inner = [data[key] for key in (*forms.LABELS, *forms.FEATURES) if key in data]
        found = (
            _look_up(each, name, None, columns) for each in inner if isinstance(each, Mapping) or frames.is_frame(each)
        )
        return next((each for each in found if each is not None), None)
    if not isinstance(data, tuple | list):
        return None
    if name in getattr(data, "_fields", ()):
        return [getattr(data, name)]
    for each in data[:2]:
        found_here = _look_up(each, name, None, columns) if isinstance(each, Mapping) or frames.is_frame(each) else None
        if found_here is not None:
            return found_here
    if places is None or name not in places or len(data) < 2 or isinstance(data[1], Mapping):
        return None
    targets = (
        data[1]
        if forms.are_targets(data[1], len(places)) and len(data) < 4 and len(places) != len(data) - 1
        else data[1:]
    )
    return [targets[list(places).index(name)]] if len(targets) >= len(places) else None


def _labels_of(dataset: Any) -> Any:
    """All items of a data set without their features."""
    items = [_without_features(dataset[i]) for i in range(len(dataset))]
    return torch.utils.data.default_collate(items) if items else ()


def _without_features(item: Any) -> Any:
    if isinstance(item, Mapping):
        return {name: value for name, value in item.items() if name not in (*forms.FEATURES, *forms.INPUTS)}
    return (0, *item[1:]) if isinstance(item, tuple | list) else item
