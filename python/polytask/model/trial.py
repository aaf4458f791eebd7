"""What of a model a module of the caller's own is, and whether it can be that, found out by running it once."""

import copy
import inspect
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from ..components.own_module import Output, outputs, picked
from .buffers import described
from .calling import Calling, Part, plainest, tried, unsure

_log = logging.getLogger("polytask")


class Role(NamedTuple):
    """What of a model a module is."""

    #: What errors call the argument.
    argument: str
    #: Numbers a row that it is given.
    features: int
    #: Numbers a row that it should give; any if none.
    outputs: int | None = None
    #: Whether it is given rows of positions.
    positions: bool = False
    #: Its inputs, one after the other, if they are not just features.
    inputs: tuple[Part, ...] = ()
    #: Which of several outputs is meant.
    output: Output | None = None
    #: Numbers a row of that, where the caller says it.
    width: int | None = None

    @property
    def parts(self) -> tuple[Part, ...]:
        """Its inputs."""
        return self.inputs or (Part(None, (self.features,)),)

    @property
    def takes(self) -> str:
        """The shape of what it is given, in words."""
        if self.positions:
            return f"features [rows, longest, {self.features}]"
        if self.inputs and self.inputs[0].name is not None:
            return ", ".join(part.described for part in self.inputs)
        return f"features {self.parts[0].described}"

    @property
    def gives(self) -> str:
        """The shape of what it should give, in words."""
        width = self.width or "width" if self.outputs is None else self.outputs
        return f"[rows, longest, {width}]" if self.positions else f"[rows, {width}]"


class Trial(NamedTuple):
    """What running it once said of a module.

    Attributes:
        calling: what it is called with.
        masked: whether it is given where positions are.
        width: numbers a row of its output.
        unsure: inputs that it is given as floats, and of which it would make something else if they were truths.
    """

    calling: Calling
    masked: bool
    width: int
    unsure: list[str]


def trial(module: nn.Module, role: Role, named: str) -> Trial:
    """Runs it; lazy modules learn their sizes by that. Of others a copy runs: what they keep of it is not of the data.

    Arguments:
        module: the module.
        role: what of a model it is to be.
        named: how errors call it.

    Raises:
        ValueError: it cannot be that; says what was expected and what came.
    """
    masked = role.positions and _takes_mask(module)
    lazy = any(nn.parameter.is_lazy(x) for x in (*module.parameters(), *module.buffers()))
    module = module if lazy else copied(module, named)
    # Two rows, and if they have positions three and one.
    shape = [2, 3] if role.positions else [2]
    mask = torch.tensor([[True, True, True], [True, False, False]])
    sizes = " and ".join(f"zeros of {[*shape, *part.shape]}" for part in role.parts)

    def run(calling: Calling) -> Any:
        if not role.positions:
            return calling.all(module, calling.trial())
        x = torch.zeros([*shape, role.features], dtype=torch.float32, device="cpu")
        return module(x, mask) if masked else module(x)

    training = module.training
    module.train(False)
    with torch.random.fork_rng(devices=[]), torch.set_grad_enabled(not lazy):
        try:
            calling, y = tried(module, role.parts, run)
        except Exception as error:
            if role.width is not None and not lazy:
                _log.info("%s is first run on data: on %s it raised %s: %s", named, sizes, type(error).__name__, error)
                calling = plainest(module, role.parts)._replace(output=role.output)
                return Trial(calling, masked, role.width, [])
            what = f"on {sizes} it raised {type(error).__name__}: {error}"
            raise ValueError(f"{named} should take {role.takes}; {what}") from error
        finally:
            module.train(training)
        # With a graph, as what was tried; a function of the caller's may compute.
        y = _picked(y, role, named)
    if not isinstance(y, torch.Tensor) or y.dtype != torch.float32 or not _fits(role, y.shape, shape):
        raise ValueError(f"{named} should give a float32 tensor {role.gives}; for {sizes} it gave "
                         f"{_gave(y, role)}")  # fmt: skip
    calling = calling._replace(output=role.output)
    _check_parameters(module, y, named)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        module.train(False)
        doubts = [] if role.positions else unsure(module, calling)
        module.train(training)
    return Trial(calling, masked, y.shape[-1], doubts)


def _picked(y: Any, role: Role, named: str) -> Any:
    """Which of its outputs is meant."""
    try:
        return picked(y, role.output)
    except Exception as error:
        if not callable(role.output):
            raise ValueError(f"{named}: {error}") from None
        what = f"it raised {type(error).__name__}: {error}"
        raise ValueError(f"{named}: `output` should be a function of {outputs(y)}; {what}") from error


def _gave(y: Any, role: Role) -> str:
    """What it gave in place of a tensor, and how to say which of several is meant."""
    if isinstance(y, torch.Tensor):
        return described(y)
    family = "encoder" if role.outputs is None else "head"
    several = isinstance(y, Mapping | tuple | list)
    return outputs(y) + (f": say which, pt.{family}.Torch(module, output=...)" if several else "")


def copied(module: nn.Module, named: str) -> nn.Module:
    """A copy.

    Raises:
        ValueError: there can be none.
    """
    try:
        return copy.deepcopy(module)
    except Exception as error:
        raise ValueError(f"{named} cannot be copied ({error})") from error


def _fits(role: Role, found: torch.Size, given: list[int]) -> bool:
    width = role.width or found[-1:].numel() if role.outputs is None else role.outputs
    return width > 0 and list(found) == [*given, width]


def _check_parameters(module: nn.Module, y: torch.Tensor, named: str) -> None:
    leaves = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not leaves or not y.requires_grad:
        return
    found = torch.autograd.grad(y, leaves, torch.ones_like(y), allow_unused=True)
    if all(gradient is None for gradient in found):
        raise ValueError(f"{named} should compute with its own parameters, and its output depends on none of them: a "
                         "model has a copy of the module, and what functions hold that it was given is no part of the "
                         "copy")  # fmt: skip


def _takes_mask(module: nn.Module) -> bool:
    """Whether it must be given a second argument."""
    try:
        taken = list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):
        return False
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return len(taken) > 1 and taken[1].kind in by_place and taken[1].default is inspect.Parameter.empty
