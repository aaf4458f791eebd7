"""The `encoder` components; written by `python -m polytask._stubs`."""

from collections.abc import Sequence

from .components.component import Component
from .components.own_module import OfEncoder

class MLP(Component):
    """Multi-layer perceptron: layers of linear, normalisation, activation, dropout.

    Weights and biases start uniform in plus or minus `1/sqrt(inputs)`, as `torch.nn.Linear` does.
    With `residual=True` a layer whose input has its own width adds that input to its result.
    """

    hidden: int | Sequence[int]
    activation: str | None
    dropout: float
    norm: str | None
    residual: bool
    def __init__(
        self,
        hidden: int | Sequence[int] = [128],
        activation: str | None = "relu",
        dropout: float = 0.0,
        norm: str | None = None,
        residual: bool = False,
    ) -> None: ...

class Window(Component):
    """Each position together with its neighbours within the row, through layers of linear and activation (the window approach
    of Collobert et al., JMLR 2011). Tasks of positions read what comes out, tasks of rows pool it.

    The first layer sees `2 * radius + 1` positions, zeros beyond the ends of a row.
    """

    hidden: int | Sequence[int]
    radius: int
    activation: str | None
    dropout: float
    pool: str
    def __init__(
        self,
        hidden: int | Sequence[int] = [128],
        radius: int = 1,
        activation: str | None = "relu",
        dropout: float = 0.0,
        pool: str = "mean",
    ) -> None: ...

Torch = OfEncoder
