"""A callback that averages a model's parameters over the steps of its training."""

import copy
import math
from typing import Any

import numpy as np
import torch

from ..arguments.keywords import checked
from ..arguments.numbers import whole
from ..components.component import plain
from ..model.model import MultiTaskModel
from .callback import Callback
from .run import Run


class EMA(Callback):
    """Keeps an exponential moving average of the model's parameters and batch statistics over the steps; the training
    goes on as it would.

    Averaging (Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, SIAM Journal on Control and
    Optimization 1992) takes out the noise of single steps. With the parameters `p_t` after step `t` the average is
    `a_t = decay a_{t-1} + (1 - decay) p_t`, which reaches about `1 / (1 - decay)` steps back; without a decay it is the
    mean of all of them, which is theirs. With `bias_correction` there is no `a_0`: as in Adam (Kingma and Ba, ICLR
    2015) the weights of all `p_t` are divided by their sum `1 - decay^t`. Without it `a_0` is what the model had when
    training began.

    `ema.model` is a copy of the model with the averages. Averages are kept in checkpoints, go on over several calls of
    `fit`, and begin anew with another model. An average takes a pass over all parameters, tables of categories
    included, where steps may touch few of their rows.

    Arguments:
        decay: between 0 and 1, or None for the mean.
        every: batches from one average to the next; `decay` is then of one average, not of one batch.
        bias_correction: whether the first parameters weigh nothing.

    Attributes:
        updates: how many times it was averaged.
    """

    @checked
    def __init__(self, decay: float | None = 0.99, *, every: int = 1, bias_correction: bool = True) -> None:
        self.decay = _decay(decay)
        self.every_steps = whole(every, "`every`")
        self.bias_correction = bool(bias_correction)
        self.updates = 0
        self._averages: dict[str, np.ndarray] = {}
        self._source: MultiTaskModel | None = None

    @property
    def model(self) -> MultiTaskModel:
        """A new copy of the model with the averages in place of its parameters and statistics.

        Raises:
            ValueError: nothing was averaged yet.
        """
        if self._source is None or not self._averages or (self.bias_correction and self.updates == 0):
            raise ValueError("`ema.model`: nothing was averaged yet; pass pt.Trainer(callbacks=[ema]) and call `fit`")
        model = copy.deepcopy(self._source)
        model.load_state_dict(self._averages)
        return model

    def on_fit_start(self, trainer: Run) -> None:
        if self._source is not trainer.model:
            self._source = trainer.model
            self._averages = dict(trainer.model.state_dict())
            self.updates = 0

    def on_steps(self, trainer: Run) -> None:
        now = trainer.model.state_dict()
        weight = self._weight(self.updates + 1)
        averages, values = ([torch.from_numpy(each[name]) for name in now] for each in (self._averages, now))
        torch._foreach_lerp_(averages, values, weight)
        self.updates += 1

    def _weight(self, update: int) -> float:
        """What the parameters weigh in the average with this number."""
        if self.decay is None:
            return 1 / update
        if not self.bias_correction:
            return 1 - self.decay
        # The sum of so many weights as a difference loses digits where the decay is nearly 1.
        return (1 - self.decay) / -math.expm1(update * math.log(self.decay)) if self.decay > 0 else 1.0

    def state(self) -> dict[str, Any]:
        return {"updates": self.updates}

    def arrays(self) -> dict[str, np.ndarray]:
        return self._averages

    def restore(self, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        updates = int(state["updates"])
        shapes = {name: array.shape for name, array in arrays.items()}
        if {name: array.shape for name, array in self._averages.items()} not in ({}, shapes):
            raise ValueError("its averages are of another model")
        self.updates = updates
        self._averages = {name: np.array(array, np.float32) for name, array in arrays.items()}

    def __repr__(self) -> str:
        return f"EMA(decay={self.decay!r}, every={self.every_steps}, bias_correction={self.bias_correction})"


def _decay(value: Any) -> float | None:
    value = plain(value, "`decay`")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"`decay` should be a number from 0 to below 1, or None; got {value!r}")
    if not 0 <= value < 1:
        raise ValueError(f"`decay` should be a number from 0 to below 1, or None; got {value!r}")
    return float(value)
