"""Optimizers and schedulers of PyTorch in the trainer: they step on the core's own memory."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from ..arguments.messages import listed
from ..components.component import Component
from ..values import memory

#: What makes an optimizer of a list of parameters.
Maker: TypeAlias = Callable[..., Optimizer]
#: What makes a scheduler of an optimizer.
SchedulerMaker: TypeAlias = Callable[[Optimizer], Any]
#: Path, memory of numbers and gradients, and whether it learns.
Lent: TypeAlias = tuple[str, Any, Any, bool]

#: Of an argument that asks for pairs of a name and a parameter.
_NAMED = "named_parameters"


class OwnOptimizer:
    """An optimizer of PyTorch's, and perhaps a scheduler, which are made once the parameters are there.

    Arguments:
        make: what makes the optimizer.
        schedule: what makes the scheduler.
    """

    def __init__(self, make: Maker, schedule: SchedulerMaker | None = None) -> None:
        self._make = make
        self._make_schedule = schedule
        self._parameters: dict[str, nn.Parameter] = {}
        self._gradients: dict[str, torch.Tensor] = {}
        self._views: dict[str, torch.Tensor] = {}
        self._optimizer: Optimizer | None = None
        self._scheduler: Any = None
        #: Learning rates that a schedule of ours multiplies, a group each, once one does.
        self._base: list[float] | None = None
        self._waiting: dict[str, Any] | None = None

    @property
    def schedules(self) -> bool:
        """Whether it has a scheduler of its own."""
        return self._make_schedule is not None

    def describe(self) -> dict[str, Any]:
        """What the core reads."""
        schedule = None if self._make_schedule is None else _called(self._make_schedule)
        return {"name": "custom", "class": _called(self._make), "schedule": schedule}

    def fresh(self) -> OwnOptimizer:
        """The same for another model, without what this one has learned."""
        return OwnOptimizer(copy.deepcopy(self._make), copy.deepcopy(self._make_schedule))

    def tie(self, lent: Sequence[Lent]) -> float:
        """Has it work on memory of the core, as the core asks for it; gives the learning rate."""
        with torch.inference_mode(False):
            self._views = {name: memory.tensor(numbers) for name, numbers, _, _ in lent}
            self._gradients = {name: memory.tensor(gradient) for name, _, gradient, learns in lent if learns}
            if self._optimizer is not None:
                self._move()
            elif self._waiting:
                state, self._waiting = self._waiting, None
                self.restore(state)
                self._move()
            elif self._gradients:
                self._begin(list(self._gradients))
        return self._lr

    def step(self, factor: float) -> float:
        """One step, with a schedule's factor; gives the learning rate it had."""
        optimizer = self._optimizer
        assert optimizer is not None, "something learns"
        if self._base is None and factor != 1.0:
            self._base = [float(group["lr"]) for group in optimizer.param_groups]
        for group, base in zip(optimizer.param_groups, self._base or (), strict=False):
            group["lr"] = base * factor
        lr = self._lr
        for name, parameter in self._parameters.items():
            parameter.grad = self._gradients.get(name)
        optimizer.step()
        for name, parameter in self._parameters.items():
            # Some put a new tensor in the place of the old one.
            view = self._views[name]
            if parameter.data_ptr() != view.data_ptr():
                view.copy_(parameter.data)
                parameter.data = view
        if self._scheduler is not None:
            self._scheduler.step()
        return lr

    def state(self) -> dict[str, Any]:
        """What both have learned, by the parameters' names."""
        if self._optimizer is None:
            return self._waiting or {}
        schedule = None if self._scheduler is None else self._scheduler.state_dict()
        optimizer = self._optimizer.state_dict()
        return {"names": list(self._parameters), "optimizer": optimizer, "schedule": schedule, "base": self._base}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from what `state` gave.

        Raises:
            ValueError: it is of other parameters.
        """
        if not self._views or not state:
            self._waiting = state
            return
        names = state["names"]
        if self._optimizer is None or names != list(self._parameters):
            # Another part was frozen when that was made.
            if unknown := [name for name in names if name not in self._views]:
                raise ValueError(f"its optimizer was made of {listed(names)}; there are no {listed(unknown)}")
            self._begin(names)
        assert self._optimizer is not None, "it has begun"
        self._optimizer.load_state_dict(state["optimizer"])
        if self._scheduler is not None:
            self._scheduler.load_state_dict(state["schedule"])
        self._base = state["base"]

    @property
    def forgets(self) -> bool:
        """Nothing that it has learned is left out of its state."""
        return False

    def _begin(self, names: Sequence[str]) -> None:
        """Makes it, of these parameters."""
        self._parameters = {name: nn.Parameter(self._views[name]) for name in names}
        wants_names = next(iter(_arguments(self._make)), None) == _NAMED
        given = list(self._parameters.items()) if wants_names else list(self._parameters.values())
        optimizer = self._make(given)
        called = _called(self._make)
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"`optimizer`: `{called}` should make a torch.optim.Optimizer of a list of parameters; got "
                            f"{type(optimizer).__name__}")  # fmt: skip
        ours = {id(parameter) for parameter in self._parameters.values()}
        theirs = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if not theirs or any(id(parameter) not in ours for parameter in theirs):
            raise ValueError(f"`optimizer`: `{called}` should make an optimizer of the parameters it is given, and "
                             "of no others")  # fmt: skip
        if any(each.default is each.empty for each in _arguments(optimizer.step).values() if each.name == "closure"):
            raise ValueError(f"`optimizer`: {type(optimizer).__name__} evaluates the model several times a step, by a "
                             "closure; a step here has one gradient")  # fmt: skip
        self._optimizer = optimizer
        if self._make_schedule is not None:
            self._scheduler = _scheduler(self._make_schedule, optimizer)

    def _move(self) -> None:
        """To other memory, and to what learns now."""
        assert self._optimizer is not None
        new = [name for name in self._gradients if name not in self._parameters]
        if new:
            raise ValueError(f"`optimizer`: {listed(new)} were frozen when `{_called(self._make)}` was made, which "
                             "knows nothing of them: unfreeze before the trainer is made, or make another")  # fmt: skip
        moved = False
        for name, parameter in self._parameters.items():
            moved |= parameter.device != self._views[name].device
            parameter.grad = None
            parameter.data = self._views[name]
        if moved:
            # Which brings its state to where the parameters are.
            self._optimizer.load_state_dict(self._optimizer.state_dict())

    @property
    def _lr(self) -> float:
        return 0.0 if self._optimizer is None else float(self._optimizer.param_groups[0].get("lr", float("nan")))

    def __getstate__(self) -> dict[str, Any]:
        return {"make": self._make, "schedule": self._make_schedule, "state": self.state()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        OwnOptimizer.__init__(self, state["make"], state["schedule"])
        self._waiting = state["state"]

    def __str__(self) -> str:
        return _called(self._make)


def read(optimizer: Any, lr: Any, schedule: Any) -> OwnOptimizer | None:
    """What is made of an optimizer of PyTorch's, if it is that.

    Raises:
        TypeError: an optimizer or scheduler that was made already; a scheduler of torch's beside an optimizer of ours.
    """
    if isinstance(optimizer, Optimizer):
        name = type(optimizer).__name__
        way = f"functools.partial({_home(optimizer)}{name}, lr={optimizer.param_groups[0].get('lr', 1e-3)})"
        raise TypeError(f"`optimizer` should be what makes one of the model's parameters, such as `{way}`; got a "
                        f"{name}, which was made of others")  # fmt: skip
    if isinstance(schedule, LRScheduler | ReduceLROnPlateau):
        name = type(schedule).__name__
        raise TypeError(f"`schedule` should be what makes a scheduler of the trainer's optimizer, such as "
                        f"`functools.partial(torch.optim.lr_scheduler.{name}, ...)`; got a {name}")  # fmt: skip
    theirs = _makes(optimizer, "optimizer")
    makes_schedule = _makes(schedule, "schedule")
    if not theirs:
        if makes_schedule:
            raise TypeError(f"`schedule`: `{_called(schedule)}` is for an optimizer of torch's, such as `optimizer="
                            "functools.partial(torch.optim.SGD, lr=0.05)`; with one of pt.optim goes one of "
                            "pt.schedule")  # fmt: skip
        return None
    if lr is not None:
        if isinstance(lr, Mapping):
            raise TypeError(f"`lr` by group is for pt.optim; got {lr!r}: an optimizer of torch's has groups of its "
                            "own, which a function of `named_parameters` may make")  # fmt: skip
        if isinstance(optimizer, functools.partial) and "lr" in optimizer.keywords:
            raise TypeError(f"`lr` is given twice: {lr!r} and in `optimizer`, {optimizer.keywords['lr']!r}")
        optimizer = functools.partial(optimizer, lr=lr)
    return OwnOptimizer(optimizer, schedule if makes_schedule else None)


def _makes(value: Any, argument: str) -> bool:
    """Whether it is a function or class of the caller's own, and no component of ours."""
    if isinstance(value, type) and issubclass(value, Component):
        raise TypeError(f"`{argument}` should be an instance, {value.__name__}(...); got the class {value.__name__}")
    return callable(value) and not isinstance(value, Component)


def _scheduler(make: SchedulerMaker, optimizer: Optimizer) -> Any:
    scheduler = make(optimizer)
    called = _called(make)
    if isinstance(scheduler, ReduceLROnPlateau):
        raise TypeError(f"`schedule`: `{called}` waits for a number an epoch; pt.schedule.Plateau is the same for a "
                        "column of the history, and goes with an optimizer of torch's")  # fmt: skip
    if not callable(getattr(scheduler, "step", None)) or not callable(getattr(scheduler, "state_dict", None)):
        raise TypeError(f"`schedule`: `{called}` should make a scheduler of an optimizer, one of "
                        f"torch.optim.lr_scheduler; got {type(scheduler).__name__}")  # fmt: skip
    return scheduler


def _called(make: Any) -> str:
    """The name of a class or function."""
    if isinstance(make, functools.partial):
        return _called(make.func)
    return getattr(make, "__name__", type(make).__name__)


def _home(optimizer: Optimizer) -> str:
    return "torch.optim." if type(optimizer).__module__.startswith("torch.optim") else ""


def _arguments(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return {}
