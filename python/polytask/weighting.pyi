"""The `weighting` components; written by `python -m polytask._stubs`."""

from collections.abc import Mapping, Sequence

from .standalone import Weighting

class Equal(Weighting):
    """The sum of the tasks' losses, each times its task's own `weight`: `L = sum_j lambda_j L_j`."""

    def __init__(self) -> None: ...

class Static(Weighting):
    """The weights given: `L = sum_j w_j lambda_j L_j`, where `lambda_j` is the task's own `weight`."""

    task_weights: Sequence[float] | Mapping[str, float]
    def __init__(
        self,
        task_weights: Sequence[float] | Mapping[str, float] = {},
    ) -> None: ...
