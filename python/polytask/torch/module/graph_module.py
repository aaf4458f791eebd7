"""The module that a network becomes: a graph of torch.fx that goes on saying what it was made of."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.fx import Graph, GraphModule


class MultiTaskModule(GraphModule):
    """A `torch.fx.GraphModule`, copies and pickles of which are such modules too.

    Attributes:
        made_of: what it was made of.
        renamed: paths of its parameters that are not the network's, with the network's, which its state dict has.
    """

    made_of: Any
    renamed: dict[str, str]

    @classmethod
    def of(cls, root: nn.Module, graph: Graph, made_of: Any, renamed: Mapping[str, str]) -> "MultiTaskModule":
        """Of a graph over the parts of another module."""
        module = cls(root, graph, cls.__name__)
        module.made_of = made_of
        module.renamed = dict(renamed)
        if renamed:
            module.register_state_dict_post_hook(_given)  # type: ignore[no-untyped-call]
        module.register_load_state_dict_pre_hook(_taken)  # type: ignore[no-untyped-call]
        return module

    def __deepcopy__(self, memo: dict[int, Any]) -> "MultiTaskModule":
        module = cast(MultiTaskModule, super().__deepcopy__(memo))
        module.made_of = copy.deepcopy(self.made_of, memo)
        module.renamed = dict(self.renamed)
        return module

    def __reduce__(self) -> tuple[Any, ...]:
        make, arguments = super().__reduce__()
        return _restored, (make, arguments, self.made_of, self.renamed)


def _restored(make: Callable[..., GraphModule], arguments: Any, made_of: Any, renamed: Any) -> MultiTaskModule:
    module = make(*arguments)
    return MultiTaskModule.of(module, module.graph, made_of, renamed)


def _given(module: MultiTaskModule, state: dict[str, Any], prefix: str, _: Any) -> None:
    """After a state dict was made."""
    for place, path in module.renamed.items():
        if prefix + place in state:
            state[prefix + path] = state.pop(prefix + place)


def _taken(module: MultiTaskModule, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Before a state dict is read, which may hold arrays of NumPy, as that of the model does."""
    for path, value in state.items():
        if path.startswith(prefix) and isinstance(value, np.ndarray):
            state[path] = torch.from_numpy(value)
    for place, path in module.renamed.items():
        if prefix + path in state:
            state[prefix + place] = state.pop(prefix + path)
