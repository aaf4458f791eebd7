"""Batches from outside: loaders, data sets, any iterable."""

import io
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
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
        self.argument = argument

    def __iter__(self) -> Iterator[Rows]:
        for number, batch in enumerate(self.source):
            yield self.read(batch, number)

    def read(self, batch: Any, number: int) -> Rows:
        """One batch of the source, as rows."""
        return self._read(batch, f"`{self.argument}` batch {number}: ")

    def spread(self, at: Sequence[int], tasks: int) -> "Stream":
        """The same batches with targets for so many tasks, these ones standing there."""
        return Stream(self.source, lambda batch, prefix: self._read(batch, prefix).spread(at, tasks), self.argument)

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
        """The generator a loader, or its sampler, draws its order from, if it has one of its own."""
        batches = getattr(self.source, "batch_sampler", None)
        owners = [self.source, getattr(self.source, "sampler", None), batches, getattr(batches, "sampler", None)]
        found = (getattr(each, "generator", None) for each in owners)
        return next((each for each in found if isinstance(each, torch.Generator)), None)

    def state(self) -> str | None:
        """Where a loader says that it is, for a checkpoint; `None` of one that says nothing.

        Raises:
            TypeError: it says more than numbers, tensors and lists and dicts of them.
        """
        if not callable(getattr(self.source, "state_dict", None)):
            return None
        kept = io.BytesIO()
        torch.save(self.source.state_dict(), kept)  # type: ignore[attr-defined]
        try:
            _loaded(kept.getvalue())
        except pickle.UnpicklingError as error:
            called = f"`{self.argument}`: `state_dict` of {type(self.source).__name__}"
            raise TypeError(f"{called} should give numbers, strings and tensors, in dicts and lists, for a checkpoint "
                            f"to keep ({error})") from None  # fmt: skip
        return kept.getvalue().hex()

    def restore(self, state: str | None) -> None:
        """Takes a loader to where it was."""
        if state is not None:
            self.source.load_state_dict(_loaded(bytes.fromhex(state)))  # type: ignore[attr-defined]

    def epoch(self, epoch: int) -> Iterator[Rows]:
        """The batches of an epoch, in its own order where the order is ours to choose."""
        if isinstance(self.source, Batches):
            self.source.begin(epoch)
        return iter(self)


def _loaded(kept: bytes) -> Any:
    # note: files are not believed; so nothing but plain values is made of what they hold.
    return torch.load(io.BytesIO(kept), weights_only=True)


class Batches:
    """A torch data set in batches; the order of an epoch depends on the seed and the epoch only."""

    def __init__(self, dataset: Any, batch_size: int, shuffle: bool, seed: int) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle and not isinstance(dataset, IterableDataset)
        self.seed = seed
        self.begin(0)

    def begin(self, epoch: int, batch: int = 0) -> None:
        """Chooses an epoch, and the batch of it that comes first."""
        self.epoch = epoch
        self.first = batch

    @property
    def numbered(self) -> bool:
        """Whether one can begin at any batch."""
        return not isinstance(self.dataset, IterableDataset)

    def __iter__(self) -> Iterator[Any]:
        # note: without a generator of its own a loader would consume torch's global one.
        generator = torch.Generator().manual_seed(self.seed)
        sampler = None
        if self.shuffle or self.first:
            count = len(self.dataset)
            order = (
                np.random.default_rng([self.seed, self.epoch]).permutation(count) if self.shuffle else np.arange(count)
            )
            sampler = order[self.first * self.batch_size :].tolist()
        return iter(DataLoader(self.dataset, self.batch_size, sampler=sampler, generator=generator))

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)
