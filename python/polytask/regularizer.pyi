"""The `regularizer` components; written by `python -m polytask._stubs`."""

from .component import Component

class L1(Component):
    """`R = sum of |w|` (Tibshirani, Regression Shrinkage and Selection via the Lasso, JRSS B 1996)
    over all weights; biases and the parameters of norms are left out.
    """

    strength: float
    def __init__(
        self,
        strength: float = 0.0001,
    ) -> None: ...

class L2(Component):
    """`R = sum of w^2` (Hoerl and Kennard, Ridge Regression, Technometrics 1970)
    over all weights; biases and the parameters of norms are left out.
    """

    strength: float
    def __init__(
        self,
        strength: float = 0.0001,
    ) -> None: ...
