"""Batches from outside: loaders, data sets, any iterable."""

import io
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from ..process import randomness
from .rows import Rows


class Stream:
    """Batches, each read as rows when its turn comes."""

    def __init__(self, source: Iterable[Any], read: Callable[[Any, str], Rows], argument: str) -> None:
        self.source = source
        self._read = read
        self.argument = argument
        #: What is left of the running epoch's pass; None behind its last batch.
        self._pass: Iterator[Any] | None = None
        #: What the random generators were when that pass began, of a source that says where it is.
        self._start: dict[str, Any] | None = None

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

    @property
    def _placed(self) -> Any:
        """What says where it is, and can be put there: the loader, or a data set whose batches are made here."""
        said = self.source.dataset if isinstance(self.source, Batches) else self.source
        methods = (getattr(said, name, None) for name in ("state_dict", "load_state_dict"))
        return said if not self.numbered and all(map(callable, methods)) else None

    @property
    def numbered(self) -> bool:
        """Whether its batches are made here, and can begin with any of them."""
        return isinstance(self.source, Batches) and self.source.numbered

    @property
    def resumable(self) -> bool:
        """Whether one can go on in the middle of a pass."""
        return self.numbered or self._placed is not None

    @property
    def goes_on(self) -> bool:
        """Whether an epoch that began before a checkpoint goes on behind its last batch, and not from its first."""
        return self.numbered or self._start is not None

    def said(self) -> str | None:
        """Where the source says that it is; `None` of one that says nothing.

        Raises:
            TypeError: it says more than numbers, tensors and lists and dicts of them.
        """
        if self._placed is None:
            return None
        kept = io.BytesIO()
        torch.save(self._placed.state_dict(), kept)
        try:
            _loaded(kept.getvalue())
        except pickle.UnpicklingError as error:
            called = f"`{self.argument}`: `state_dict` of {type(self._placed).__name__}"
            raise TypeError(f"{called} should give numbers, strings and tensors, in dicts and lists, for a checkpoint "
                            f"to keep ({error})") from None  # fmt: skip
        return kept.getvalue().hex()

    def put(self, said: str | None) -> None:
        """Takes the source to where it said that it was."""
        if said is not None and self._placed is not None:
            self._placed.load_state_dict(_loaded(bytes.fromhex(said)))

    def state(self) -> dict[str, Any] | None:
        """Where the source is and how its pass began, for a checkpoint; `None` of one that says nothing."""
        said = self.said()
        return None if said is None else {"said": said, "start": self._start, "left": self._pass is not None}

    def restore(self, state: dict[str, Any] | str | None) -> None:
        """Takes the source to where it was. The random generators are then for the caller to put where they were."""
        self._pass = self._start = None
        if state is None or self._placed is None:
            return
        if isinstance(state, str):  # of a pass that had ended is all that was kept at first
            state = {"said": state, "start": None, "left": False}
        start = state["start"]
        if start is not None:
            # What a loader skips, or draws for its processes, it draws as it did when the pass began.
            randomness.restore(start, self.generator)
        self.put(state["said"])
        if state["left"]:
            self._pass = iter(self.source)
        elif start is not None:
            # note: for a pass that has ended torchdata's loader draws once more, unless it does so here.
            self._placed.state_dict()
        self._start = start

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Rows]:
        """The batches of an epoch, in its own order where the order is ours to choose, but for so many that it had
        before a checkpoint.
        """
        if isinstance(self.source, Batches):
            self.source.begin(epoch, first if self.numbered else 0)
        if first == 0 or self._start is None:
            self._start = None if self._placed is None else randomness.capture(self.generator)
            self._pass = iter(self.source)
        for number, batch in enumerate(() if self._pass is None else self._pass, first):
            yield self.read(batch, number)
        self._pass = None


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
