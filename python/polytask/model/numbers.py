"""The numbers of a model by path, as NumPy arrays for who looks at them and as tensors where torch asks for tensors."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn


class Parameters(dict[str, np.ndarray]):
    """NumPy arrays by path; iterated over, as optimizers of torch do, the same parameters as tensors of torch.

    Arguments:
        views: the arrays.
        tensors: gives the tensors, in their order.
    """

    def __init__(self, views: dict[str, np.ndarray], tensors: Callable[[], Iterable[nn.Parameter]]) -> None:
        super().__init__(views)
        self._tensors = tensors

    def __iter__(self) -> Iterator[Any]:
        return iter(self._tensors())

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self.items()),)


class State(dict[str, np.ndarray]):
    """NumPy arrays by path; pickled, as `torch.save` does, the same numbers as tensors, which `torch.load` reads by
    default.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        tensors = ((path, torch.from_numpy(array)) for path, array in self.items())
        return OrderedDict, (), None, None, tensors

    def __copy__(self) -> "State":
        return State(self)

    def __deepcopy__(self, _: Any) -> "State":
        return State({path: array.copy() for path, array in self.items()})
