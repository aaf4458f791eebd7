"""Batches from outside: loaders, data sets, any iterable."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from .rows import Rows


class Stream:
    """Batches, each read as rows when its turn comes."""

    def __init__(self, source: Iterable[Any], read: Callable[[Any, str], Rows], argument: str) -> None:
        self.source = source
        self._read = read
        self._argument = argument

    def __iter__(self) -> Iterator[Rows]:
        for number, batch in enumerate(self.source):
            yield self._read(batch, f"`{self._argument}` batch {number}: ")

    @property
    def batches(self) -> int | None:
        """Batches an epoch, if that is known."""
        try:
            return len(self.source)  # type: ignore[arg-type]
        except (TypeError, NotImplementedError):  # torch's IterableDataset and some loaders raise the second
            return None

    @property
    def once(self) -> bool:
        """Whether it can be read only once."""
        return isinstance(self.source, Iterator)

    @property
    def generator(self) -> torch.Generator | None:
        """The generator a loader draws its order from, if it has one of its own."""
        return getattr(self.source, "generator", None)

    def begin(self, epoch: int) -> None:
        """Chooses the order of an epoch, where the order is ours to choose."""
        if isinstance(self.source, Batches):
            self.source.epoch = epoch


class Batches:
    """A torch data set in batches; the order of an epoch depends on the seed and the epoch only."""

    def __init__(self, dataset: Any, batch_size: int, shuffle: bool, seed: int) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle and not isinstance(dataset, IterableDataset)
        self.seed = seed
        self.epoch = 0

    def __iter__(self) -> Iterator[Any]:
        # note: without a generator of its own a loader would consume torch's global one.
        generator = torch.Generator().manual_seed(self.seed)
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.dataset)) if self.shuffle else None
        sampler = None if order is None else order.tolist()
        return iter(DataLoader(self.dataset, self.batch_size, sampler=sampler, generator=generator))

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)
