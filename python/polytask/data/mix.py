"""Several data sets in one training: whose batch is next, and how many of each make an epoch."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .. import _core
from ..arguments.messages import listed
from ..components.component import plain
from ..process import randomness
from .rows import Rows
from .stream import Batches, Stream

_SAMPLINGS = ("proportional", "temperature", "round_robin")


class Mix:
    """Several data sets, of one or more tasks each, in one training.

    A batch has rows of one data set, as many as `batch_size` says or its loader gives; the tasks of the others have no
    labels in it, and take no part in its step. `pt.Trainer(accumulate=n)` makes one step of `n` batches, which is what
    weightings need that compare tasks with each other: with `sampling="round_robin"` and `accumulate` as many as there
    are data sets, each step has one batch of each.

    An epoch has so many batches of each data set:

    - `"proportional"`: all of them, so that an epoch is each row once;
    - `"temperature"`: of all batches together a share proportional to `n^(1 / temperature)`, where `n` is how many
      batches the data set has: 1 is proportional, and the higher the more alike (Aharoni, Johnson & Firat, Massively
      Multilingual Neural Machine Translation, NAACL 2019);
    - `"round_robin"`: as many as the longest has, in turn;
    - weights, `{key: weight}` or a list: of all batches together a share proportional to these.

    `length` is another number of batches an epoch. Each data set has at least one in it. But for `"round_robin"` they
    come in an order of the epoch's own, by the trainer's seed, in which each data set is spread evenly. A data set is
    gone through before it begins anew, over the ends of epochs. Validation and evaluation take each data set once.

    A run over a mix resumes with the same bits: of rows in memory, torch data sets and what has `state_dict` and
    `load_state_dict` after any batch; with other loaders between epochs, whose batches up to there are then read once
    more.

    Arguments:
        data: `{task: data set}` or `{(task, task): data set}`, where a data set has the targets of these tasks and any
            form that `fit` takes; or a list of data sets with the targets of all tasks, or some by name.
        sampling: `"proportional"`, `"temperature"`, `"round_robin"`, or weights.
        temperature: of `"temperature"`; 2 by default.
        length: batches an epoch; needed where a data set does not know its own length.
    """

    def __init__(
        self,
        data: Mapping[Any, Any] | Sequence[Any],
        sampling: str | Mapping[Any, float] | Sequence[float] = "proportional",
        *,
        temperature: float | None = None,
        length: int | None = None,
    ) -> None:
        if not isinstance(data, Mapping | list | tuple):
            raise TypeError(f"`data` should be {{task: data set}} or a list of data sets; got {type(data).__name__}")
        self.named = isinstance(data, Mapping)
        self.sets: dict[Any, Any] = dict(data) if isinstance(data, Mapping) else dict(enumerate(data))
        if not self.sets:
            raise ValueError("`data` should have at least one data set; got none")
        self.sampling = sampling if isinstance(sampling, str) else _weights(sampling, list(self.sets), self.named)
        if isinstance(sampling, str) and sampling not in _SAMPLINGS:
            raise ValueError(f"`sampling` should be {', '.join(map(repr, _SAMPLINGS))} or weights; got {sampling!r}")
        if temperature is not None and sampling != "temperature":
            raise ValueError(f'`temperature` belongs to sampling="temperature"; got it with {sampling!r}')
        self.temperature = _positive(2.0 if temperature is None else temperature, "`temperature`")
        if length is not None and (isinstance(length, bool) or not isinstance(length, int | np.integer)):
            raise TypeError(f"`length` should be a whole number of batches; got {length!r}")
        if length is not None and length < len(self.sets):
            raise ValueError(f"`length` should be at least {len(self.sets)}, a batch of each data set; got {length}")
        self.length = None if length is None else int(length)

    def counts(self, batches: Sequence[int | None]) -> list[int]:
        """How many batches of each data set make an epoch, where each has so many; `None` if that is not known.

        Raises:
            ValueError: a length is not known and needed.
        """
        lengths = [count for count in batches if count is not None]
        known = len(lengths) == len(batches)
        by_length = self.sampling in ("proportional", "temperature")
        if not known and (by_length or self.length is None):
            key = list(self.sets)[next(i for i, count in enumerate(batches) if count is None)]
            raise ValueError(f"the data set {key!r} does not know its length: say `length`, the batches an epoch, and "
                             'a sampling that needs no other: "round_robin" or weights, in pt.data.Mix')  # fmt: skip
        if self.length is None and self.sampling == "proportional":
            return lengths
        if self.length is None and self.sampling == "round_robin":
            return [max(lengths)] * len(batches)
        power = 1 / self.temperature if self.sampling == "temperature" else 1.0
        shares = [count**power for count in lengths] if by_length else [1.0] * len(batches)
        if not isinstance(self.sampling, str):
            shares = self.sampling
        return _apportion(sum(lengths) if self.length is None else self.length, shares)

    def __repr__(self) -> str:
        keys = ", ".join(map(repr, self.sets))
        sampling = (
            dict(zip(self.sets, self.sampling, strict=True)) if isinstance(self.sampling, list) else self.sampling
        )
        length = "" if self.length is None else f", length={self.length}"
        return f"Mix({keys}, sampling={sampling!r}{length})"


class Mixed:
    """A mix that was read: each data set as rows in memory or a stream of batches."""

    def __init__(
        self, mix: Mix, parts: Sequence[Rows | Stream], argument: str, *, batch_size: int, shuffle: bool, seed: int
    ) -> None:
        self.mix = mix
        self.parts = parts
        self.argument = argument
        self.order: dict[str, Any] = {"batch_size": batch_size, "shuffle": shuffle, "seed": seed}
        self._each = [_batches(part, batch_size) for part in parts]
        self._counts: list[int] | None = None
        self._streams = [_EndlessStream(part) if isinstance(part, Stream) else None for part in parts]
        self._made: _core.Mix | None = None
        once = next((part for part in parts if isinstance(part, Stream) and part.once), None)
        if once is not None:
            raise ValueError(f"`{once.argument}` can be read only once, but a data set of a mix may begin anew: pass a "
                             "list, a DataLoader or an object whose `__iter__` starts again")  # fmt: skip

    @property
    def counts(self) -> list[int]:
        """Batches of each data set in an epoch."""
        if self._counts is None:
            self._counts = self.mix.counts(self._each)
        return self._counts

    @property
    def batches(self) -> int:
        """Batches an epoch."""
        return sum(self.counts)

    @property
    def in_turn(self) -> bool:
        """Whether the data sets take turns."""
        return self.mix.sampling == "round_robin"

    @property
    def in_memory(self) -> list[Rows] | None:
        """All data sets, if they are rows in memory."""
        rows = [part for part in self.parts if isinstance(part, Rows)]
        return rows if len(rows) == len(self.parts) else None

    def core(self) -> _core.Mix:
        """What the core takes, of rows in memory."""
        if self._made is None:
            self._made = _core.Mix([part.core() for part in self.in_memory or []], self.counts, self.in_turn)
        return self._made

    def __iter__(self) -> Iterator[Rows]:
        """All data sets once, one behind the other."""
        for part in self.parts:
            yield from [part] if isinstance(part, Rows) else part

    @property
    def resumable(self) -> bool:
        """Whether one can go on in the middle of an epoch without reading what it had before."""
        return all(isinstance(part, Rows) or part.resumable for part in self.parts)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Rows]:
        """The batches of an epoch, in its order, but for so many that it had before a checkpoint."""
        rows = [len(part) if isinstance(part, Rows) else 0 for part in self.parts]
        course = _core.course(rows, self.counts, self.in_turn, **self.order, epoch=epoch)
        had = Counter(number for number, _ in course[:first])
        for number, (stream, count) in enumerate(zip(self._streams, self.counts, strict=True)):
            if stream is not None:
                stream.begin(epoch * count + had[number])
        for number, index in course[first:]:
            part = self.parts[number]
            stream = self._streams[number]
            if stream is not None:
                yield next(stream)
            elif isinstance(part, Rows):
                yield part.take(index)

    def describe(self) -> list[Any]:
        """What a resumed run must have in common: each data set, its rows, and its batches an epoch."""
        rows = [len(part) if isinstance(part, Rows) else None for part in self.parts]
        keys = [list(key) if isinstance(key, tuple) else key for key in self.mix.sets]
        return [[key, count, batches] for key, count, batches in zip(keys, rows, self.counts, strict=True)]

    def state(self) -> list[Any]:
        """Where each stream is, as JSON."""
        return [None if stream is None else stream.state() for stream in self._streams]

    def restore(self, state: Sequence[Any] | None) -> None:
        """Goes on where the streams were, or with passes that begin."""
        for stream, each in zip(self._streams, state or [None] * len(self.parts), strict=True):
            if stream is not None:
                stream.restore(each)


def in_memory(data: Any) -> list[Rows] | None:
    """The data sets of what was read, if all of them are rows in memory."""
    return [data] if isinstance(data, Rows) else data.in_memory if isinstance(data, Mixed) else None


class _EndlessStream:
    """The batches of one stream without end, from pass to pass."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._iterator: Iterator[Any] | None = None
        self._taken = 0
        #: What the random generators were when the pass began: whoever puts them back gets the same pass again.
        self._start: dict[str, Any] | None = None
        #: Batches so far, of a data set whose order is ours.
        self._place = -1

    @property
    def _own(self) -> Batches | None:
        source = self._stream.source
        return source if isinstance(source, Batches) and source.numbered else None

    def begin(self, place: int) -> None:
        """An epoch begins at this batch, counted over all passes; a loader simply goes on."""
        if self._own is not None and place != self._place:
            self._place = place
            self._iterator = None

    def __next__(self) -> Rows:
        if self._iterator is None:
            self._iterator = self._open()
        try:
            batch = next(self._iterator)
        except StopIteration:
            if self._taken == 0:
                raise ValueError(f"`{self._stream.argument}` has no batch") from None
            self._iterator = None
            return next(self)
        self._taken += 1
        self._place += 1
        return self._stream.read(batch, self._taken - 1)

    def _open(self) -> Iterator[Any]:
        own = self._own
        self._taken = 0
        if own is None:
            self._start = randomness.capture(self._stream.generator)
        else:
            passes, self._taken = divmod(self._place, len(own))
            own.begin(passes, self._taken)
        return iter(self._stream.source)

    def state(self) -> dict[str, Any] | None:
        if self._own is not None:
            return None
        now = randomness.capture(self._stream.generator)
        start, taken = (None, 0) if self._iterator is None else (self._start, self._taken)
        return {"start": start, "taken": taken, "now": now, "said": self._stream.said()}

    def restore(self, state: dict[str, Any] | None) -> None:
        self._iterator = None
        self._place = -1
        if state is None:
            return
        start = state["start"]
        # Of earlier versions, and of a loader that does not say where it is, batches are read once more.
        said = state.get("said")
        if start is not None:
            randomness.restore(start, self._stream.generator)
        self._stream.put(said)
        if start is not None:
            self._iterator = self._open()
            for _ in range(state["taken"] if said is None else 0):
                next(self._iterator, None)
            self._start, self._taken = start, state["taken"]
        randomness.restore(state["now"], self._stream.generator)


def _batches(part: Rows | Stream, size: int) -> int | None:
    return -(-len(part) // size) if isinstance(part, Rows) else part.batches


def _apportion(total: int, shares: Sequence[float]) -> list[int]:
    """So many batches in these shares, at least one each (largest remainders)."""
    free = total - len(shares)
    if free <= 0:
        return [1] * len(shares)
    exact = np.array(shares, float) / sum(shares) * total
    counts = np.maximum(np.floor(exact), 1).astype(int)
    for j in np.argsort(-(exact - counts), kind="stable")[: max(total - counts.sum(), 0)]:
        counts[j] += 1
    while counts.sum() > total:  # of those that were lifted to one batch somebody pays
        counts[np.argmax(np.where(counts > 1, counts - exact, -np.inf))] -= 1
    return [int(count) for count in counts]


def _weights(weights: Any, keys: list[Any], named: bool) -> list[float]:
    if isinstance(weights, Mapping) and named:
        odd = [key for key in weights if key not in keys] or [key for key in keys if key not in weights]
        if odd:
            raise ValueError(
                f"`sampling` should have a weight for each of {listed(map(repr, keys))}; got {dict(weights)}"
            )
        weights = [weights[key] for key in keys]
    if isinstance(weights, str) or not isinstance(weights, Sequence | np.ndarray) or len(weights) != len(keys):
        raise ValueError(f"`sampling` should have a weight for each of {len(keys)} data sets; got {weights!r}")
    return [_positive(weight, "`sampling`") for weight in weights]


def _positive(value: Any, argument: str) -> float:
    number = plain(value, argument)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise TypeError(f"{argument} should be a number above 0; got {value!r}")
    if not 0 < number < float("inf"):
        raise ValueError(f"{argument} should be a number above 0; got {value!r}")
    return float(number)
