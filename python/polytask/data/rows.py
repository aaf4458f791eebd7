"""Some rows in memory: features, targets, masks and row weights, borrowed from whoever owns them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import _core
from ..values.ragged import Ragged

Optional = np.ndarray | None
#: Bytes that a fingerprint reads.
_READ = 1 << 24


@dataclass
class Rows:
    """Arrays of equally many rows; the lists have one entry a task."""

    rows: int
    numeric: Optional = None
    categorical: Optional = None
    targets: Sequence[np.ndarray | Ragged | None] = ()
    masks: Sequence[Optional] = ()
    weights: Sequence[Optional] = ()
    names: Sequence[str] = field(default=())
    #: Targets that train in another scale; none of a task that does not.
    scaled: Sequence[Optional] = ()
    #: Features of positions, and arrays, by name.
    fields: Mapping[str, Ragged | np.ndarray] = field(default_factory=dict)
    _made: _core.Data | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return self.rows

    def core(self) -> _core.Data:
        """What the core takes; the arrays are borrowed, not copied."""
        if self._made is None:
            self._made = _core.Data(
                self.rows,
                numeric=self.numeric,
                categorical=self.categorical,
                fields=[(name, _parts(part)) for name, part in self.fields.items()],
                targets=[_parts(y) for y in self._trained()],
                masks=self.masks,
                weights=self.weights,
                names=self.names,
            )
        return self._made

    def fingerprint(self) -> str:
        """Differs where other rows would train another model, by all numbers up to 16 MiB and a sample of more.

        Numbers count, not how they are stored: the core narrows them to `float32`.
        """
        given = [self.numeric, self.categorical, *self.fields.values(), *self.targets, *self.masks, *self.weights]
        arrays = [part for each in given for part in (_laid(each) if isinstance(each, Ragged) else [each])]
        digest = hashlib.blake2b(digest_size=8)
        size = 4 * max(1, sum(array[:1].size for array in arrays if array is not None))
        step = -(-self.rows * size // _READ) if self.rows else 1
        for array in arrays:
            digest.update(b"none" if array is None else repr(array.shape).encode())
            if array is not None:
                with np.errstate(all="ignore"):
                    # Zeros of both signs are one number.
                    digest.update((np.asarray(array[::step], np.float32, order="C") + 0.0).tobytes())
        return f"fingerprint {digest.hexdigest()}"

    def scale(self, scaled: Sequence[Optional]) -> None:
        """Says what trains in another scale."""
        self.scaled = scaled
        self._made = None

    def _trained(self) -> Sequence[np.ndarray | Ragged | None]:
        if not self.scaled:
            return self.targets
        pairs = zip(self.targets, self.scaled, strict=True)
        return [target if scaled is None else scaled for target, scaled in pairs]

    def take(self, index: np.ndarray) -> "Rows":
        """A copy of some rows."""
        return self._at(index, len(index))

    def part(self, start: int, stop: int) -> "Rows":
        """Neighbouring rows; nothing is copied."""
        start, stop, _ = slice(start, stop).indices(self.rows)
        return self._at(slice(start, stop), stop - start)

    def _at(self, index: np.ndarray | slice, count: int) -> "Rows":
        def part(array: Any) -> Any:
            if isinstance(array, Ragged):
                return array.part(index.start, index.stop) if isinstance(index, slice) else array.take(index)
            return None if array is None else array[index]

        return Rows(
            count,
            part(self.numeric),
            part(self.categorical),
            [part(array) for array in self.targets],
            [part(array) for array in self.masks],
            [part(array) for array in self.weights],
            self.names,
            [part(array) for array in self.scaled],
            {name: part(of) for name, of in self.fields.items()},
        )

    def spread(self, at: Sequence[int], tasks: int) -> "Rows":
        """The same rows with targets for so many tasks, these ones standing there."""

        def each(parts: Sequence[Any], missing: Any) -> list[Any]:
            spread = [missing] * tasks
            for j, part in zip(at, parts, strict=False):
                spread[j] = part
            return spread

        known = len(at)
        names = [*self.names[:2], *each(self.names[2 : 2 + known], ""), *each(self.names[2 + known :], "")]
        targets, masks, weights = (each(part, None) for part in (self.targets, self.masks, self.weights))
        scaled = each(self.scaled, None) if self.scaled else ()
        return Rows(self.rows, self.numeric, self.categorical, targets, masks, weights, names, scaled, self.fields)

    def of(self, places: Sequence[int]) -> "Rows":
        """The same rows with the targets of these tasks alone; nothing is copied."""

        def some(parts: Sequence[Any]) -> list[Any]:
            return [parts[j] for j in places] if parts else []

        known = len(self.targets)
        names = [*self.names[:2], *some(self.names[2 : 2 + known]), *some(self.names[2 + known :])]
        targets, masks, weights, scaled = map(some, (self.targets, self.masks, self.weights, self.scaled))
        return Rows(self.rows, self.numeric, self.categorical, targets, masks, weights, names, scaled, self.fields)

    def labels(self, index: np.ndarray) -> "Rows":
        """Targets and weights of some rows, without their features."""
        return Rows(0, None, None, self.targets, self.masks, self.weights).take(index)


class Parts(tuple[Rows, ...]):
    """Features that were read for one model, part by part, and serve others that read alike."""

    __slots__ = ()


def _parts(part: np.ndarray | Ragged | None) -> Any:
    """Values, with offsets if they are of positions."""
    return (part.values, part.offsets) if isinstance(part, Ragged) else part


def _laid(ragged: Ragged) -> list[np.ndarray]:
    """Values of positions, and how many each row has."""
    return [ragged.values[ragged.offsets[0] : ragged.offsets[-1]], ragged.lengths]
