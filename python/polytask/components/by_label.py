"""Losses whose weights are given by label, as a dict, before a task says which labels there are."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..arguments.messages import listed, meant
from ..values.known import Known
from .component import Component, plain

#: Most classes that a dict may have weights for.
_MOST = 1 << 24


class Loss(Component):
    """A loss. Where an argument is a list with a number a class or output, it may be a dict by label instead."""

    def _check(self, given: dict[str, Any]) -> None:
        super()._check({key: list(value.values()) if _by_label(value) else value for key, value in given.items()})

    @staticmethod
    def _plain(value: Any, argument: str) -> Any:
        if not _by_label(value):
            return plain(value, argument)
        return {key: plain(number, argument) for key, number in value.items()}

    def listed(self, labels: Sequence[Any]) -> "Loss":
        """This loss with lists in the order of these labels; what a dict leaves out counts 1.

        Raises:
            ValueError: a key that is none of the labels.
        """
        arguments = vars(self)
        if not any(map(_by_label, arguments.values())):
            return self
        return type(self)(**{k: self._list(v, labels, k) if _by_label(v) else v for k, v in arguments.items()})

    def _list(self, weights: Mapping[Any, float], labels: Sequence[Any], argument: str) -> list[float]:
        called = f"{type(self).__name__}: argument `{argument}`"
        if len(labels) > _MOST:
            raise ValueError(
                f"{called} should be a list, or a dict for at most {_MOST} classes; there are {len(labels)}"
            )
        known = Known(labels)
        each = [1.0] * len(labels)
        for label, weight in weights.items():
            place = known.place(label, called)
            if place is None:
                raise ValueError(
                    f"{called}: unknown label {label!r}; {meant(label, labels)}there are {listed(map(repr, labels))}"
                )
            each[place] = weight
        return each

    def __hash__(self) -> int:
        return hash((type(self), repr(self)))


def _by_label(value: Any) -> bool:
    return isinstance(value, Mapping)
