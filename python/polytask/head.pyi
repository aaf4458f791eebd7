"""The `head` components; written by `python -m polytask._stubs`."""

from collections.abc import Sequence

from .components.component import Component
from .components.own_module import OfHead

class Linear(Component):
    """One linear layer per task; heads that read the same features are one matrix product, others of one shape a batched one.
    Over members of an ensemble (`pt.encoder.TabM`) each member has one of its own.
    """

    def __init__(self) -> None: ...

class Tower(Component):
    """A tower per task: hidden layers, then a linear layer.

    Towers over the same features run side by side, as batched matrix products. Over members of an ensemble
    (`pt.encoder.TabM`) the last layer is each member's own.
    """

    hidden: int | Sequence[int]
    activation: str | None
    dropout: float
    def __init__(
        self,
        hidden: int | Sequence[int] = [32],
        activation: str | None = "relu",
        dropout: float = 0.0,
    ) -> None: ...

Torch = OfHead
