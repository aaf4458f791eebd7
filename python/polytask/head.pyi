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

class Biaffine(Component):
    """Scores of pairs of positions for a task of pairs (`per="pair"`): `a_i^T U_k b_j + u_k^T a_i + v_k^T b_j + w_k` for the
    kind `k` of the pair `(i, j)`, where `a` and `b` are a layer each over what the task sees of a position (Dozat &
    Manning, Deep Biaffine Attention for Neural Dependency Parsing, ICLR 2017). Where positions are attached as a tree,
    arcs have a form of their own. It is the head of a task of pairs where no other is named.
    """

    width: int
    arcs: int
    activation: str | None
    dropout: float
    def __init__(
        self,
        width: int = 64,
        arcs: int = 128,
        activation: str | None = "leaky_relu",
        dropout: float = 0.0,
    ) -> None: ...

Torch = OfHead
