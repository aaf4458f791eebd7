"""The `schedule` components; written by `python -m polytask._stubs`."""

from .components.component import Component

class Constant(Component):
    """The learning rate as given, at every step."""

    def __init__(self) -> None: ...

class Step(Component):
    """Multiplies the learning rate by `gamma` every `step_size` epochs, as `torch.optim.lr_scheduler.StepLR`."""

    step_size: int
    gamma: float
    def __init__(
        self,
        step_size: int = 10,
        gamma: float = 0.1,
    ) -> None: ...

class Exponential(Component):
    """Multiplies the learning rate by `gamma` every epoch, as `torch.optim.lr_scheduler.ExponentialLR`."""

    gamma: float
    def __init__(
        self,
        gamma: float = 0.95,
    ) -> None: ...

class Cosine(Component):
    """A linear warm-up, then half a cosine down to `minimum` at the end of the run (Loshchilov and Hutter, SGDR:
    Stochastic Gradient Descent with Warm Restarts, ICLR 2017, without restarts).

    Step `t`, counted from 0, has the factor `(t + 1) / (warmup + 1)` while `t < warmup`, then
    `minimum + (1 - minimum) (1 + cos(pi (t - warmup) / (steps - warmup))) / 2`: PyTorch's `LinearLR` followed by
    `CosineAnnealingLR`. After the run it stays at `minimum`.
    """

    warmup: int
    minimum: float
    def __init__(
        self,
        warmup: int = 0,
        minimum: float = 0.0,
    ) -> None: ...

class OneCycle(Component):
    """Smith and Topin, Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates (2018), as
    `torch.optim.lr_scheduler.OneCycleLR` with cosine annealing and without cycling the momentum.

    The optimizer's learning rate is the maximum. It starts at `1 / div_factor` of it, rises during `pct_start` of
    the run and falls to `1 / (div_factor final_div_factor)` at its last step.
    """

    pct_start: float
    div_factor: float
    final_div_factor: float
    def __init__(
        self,
        pct_start: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 10000.0,
    ) -> None: ...

class Plateau(Component):
    """Multiplies the learning rate by `factor` when the watched quantity has not improved for more than `patience`
    epochs, as `torch.optim.lr_scheduler.ReduceLROnPlateau` with a relative threshold, which here lies on the better
    side of a negative value too.
    """

    factor: float
    patience: int
    threshold: float
    cooldown: int
    minimum: float
    mode: str
    monitor: str
    def __init__(
        self,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 0.0001,
        cooldown: int = 0,
        minimum: float = 0.0,
        mode: str = "auto",
        monitor: str = "loss",
    ) -> None: ...
