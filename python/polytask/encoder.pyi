"""The `encoder` components; written by `python -m polytask._stubs`."""

from collections.abc import Sequence

from .components.component import Component

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
