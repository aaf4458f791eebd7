"""A PyTorch module as part of a model: it runs on the core's own memory, and the core sees numbers."""

import copy
import inspect
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..arguments.messages import listed
from ..process import randomness
from ..values import memory
from . import linking
from .calling import Calling, Part, tried
from .linking import Place

#: Memory of inputs, how many positions each row has, output, parameters and buffers, as the core lends it.
Lent = tuple[Sequence[Any], Any, Any, Sequence[Any], Sequence[Any]]


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
        width = "width" if self.outputs is None else self.outputs
        return f"[rows, longest, {width}]" if self.positions else f"[rows, {width}]"


class Module:
    """A module whose parameters are the core's memory.

    Several models may have one module. Each has numbers of its own; the module holds those of the one that ran it last.

    Arguments:
        module: from features `[rows, features]` to `[rows, width]`, float32; of positions with the longest row's
            positions as the second axis.
        role: what of a model it is.
        copied: whether to work on a copy.

    Raises:
        TypeError, ValueError: a module that cannot be that; says what was expected and what came.
    """

    def __init__(self, module: nn.Module, role: Role, copied: bool) -> None:
        self.called = type(module).__name__
        self.role = role
        self._check_kind(module)
        with torch.inference_mode(False), torch.no_grad():
            self.module = self._copied(module) if copied else module
            self.masked = role.positions and _takes_mask(self.module)
            self.calling, self.width = self._tried()
            self._lay_out()
        self._linked = linking.Parameters(self.module, self.named)
        self._linked.note(self)
        self._owners = self._owners_of_buffers()
        for name, parameter in self.parameters.items():
            if parameter.dtype != torch.float32:
                raise TypeError(f"{role.argument}: parameter `{name}` of the module `{self.called}` should be float32, "
                                f"as `module.float()` makes it; got {_dtype(parameter)}")  # fmt: skip
        self._mode: tuple[bool, tuple[bool, ...]] | None = None
        self._learning: tuple[bool, ...] | None = None
        self._switching = threading.Lock()
        #: The thread in which a step is on its way, from its forward to its last backward.
        self.trains_in: int | None = None
        #: The gradients of the last backward, until the next one.
        self.found: tuple[torch.Tensor | None, ...] = ()

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Its parameters by name; what is tied is one."""
        return self._linked.each

    @property
    def buffers(self) -> dict[str, torch.Tensor]:
        """Its buffers that a state dict has, by name, as they are now: a module may put new tensors in their places."""
        return {name: owner[own] for name, (owner, own) in self._owners.items()}

    def describe(self) -> dict[str, Any]:
        """What the core reads, and files keep."""
        parameters, buffers = (
            [[name, list(tensor.shape)] for name, tensor in tensors]
            for tensors in (self.parameters.items(), self.buffers.items())
        )
        described = {"name": "custom", "class": self.called, "width": self.width}
        return {**described, "parameters": parameters, "buffers": buffers}

    def starts(self) -> dict[str, torch.Tensor]:
        """Parameters and buffers as they were given, by name."""
        return {name: x.detach().to("cpu", torch.float32) for name, x in {**self.parameters, **self.buffers}.items()}

    def start_from(self, numbers: Mapping[str, np.ndarray]) -> None:
        """Takes over parameters and buffers, by name, until it is tied to the memory where they are."""
        with torch.no_grad():
            for name, tensor in {**self.parameters, **self.buffers}.items():
                tensor.copy_(torch.from_numpy(numbers[name]))
        self._linked.note(self)

    def still(self) -> list[str]:
        """Names of parameters that are not to learn."""
        return [name for name, parameter in self.parameters.items() if not parameter.requires_grad]

    def tie(self, lent: Lent, alone: bool, wanted: Sequence[bool], frozen: Sequence[bool]) -> "Tied":
        """The module at work on memory of the core, as the core asks for it once a plan."""
        return Tied(self, lent, alone, wanted, frozen)

    def link(self, memory: Sequence[torch.Tensor], place: Place) -> None:
        """Makes memory of the core that of the module's parameters."""
        with self._switching:
            if self._linked.link(memory, place, self):
                self._mode = self._learning = None

    def others(self) -> AbstractContextManager[Any]:
        """Around a run: another model that has this module may be in the middle of a step, and finds it as it was.

        Raises:
            RuntimeError: it is in another thread.
        """
        others = self._linked.others(self)
        busy = [other for other in others if isinstance(other, Module) and other.trains_in is not None]
        if not busy:
            return nullcontext()
        if any(other.trains_in != threading.get_ident() for other in busy):
            raise RuntimeError(f"{self.named} is in the middle of a step of another model, in another thread: give "
                               "each a copy of its own, `copy.deepcopy(module)`")  # fmt: skip
        stack = ExitStack()
        for other in busy:
            stack.enter_context(other.lent())
        return stack

    @contextmanager
    def lent(self) -> Iterator[None]:
        """In the middle of a step: leaves parameters, mode and buffers as they were."""
        kept, learning = self._linked.kept(), self._learning
        with self.aside():
            try:
                yield
            finally:
                self._linked.put_back(kept)
                self._linked.note(self)
                self._mode, self._learning = None, learning

    def touched(self) -> None:
        """Says that the core has made a step since it ran last."""
        self._linked.touched()

    def record(self, learning: tuple[bool, ...]) -> None:
        """Says which parameters learn, before a forward that is recorded."""
        if self._learning != learning:
            for parameter, learns in zip(self.parameters.values(), learning, strict=True):
                parameter.requires_grad_(learns)
            self._learning = learning

    def switch(self, training: bool, frozen: tuple[bool, ...]) -> None:
        """Turns it to training or evaluation; what has buffers that are all frozen evaluates in both."""
        with self._switching:
            if self._mode == (training, frozen):
                return
            self.module.train(training)
            if training and any(frozen):
                each = list(zip(self._owners.values(), frozen, strict=True))
                for part in self.module.modules():
                    own = [still for (owner, _), still in each if owner is part._buffers]
                    if own and all(own):
                        part.train(False)
            self._mode = (training, frozen)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """In the middle of a step, whose code asks for a prediction: leaves mode and buffers as they were."""
        mode = self._mode
        saved = [buffer.clone() for buffer in self.buffers.values()]
        try:
            yield
        finally:
            self.put(saved)
            if mode is not None:
                self.switch(*mode)

    def put(self, numbers: Sequence[torch.Tensor]) -> None:
        """Fills the buffers; a graph that has seen them takes no notice."""
        for (name, buffer), new in zip(self.buffers.items(), numbers, strict=True):
            self.check(name, buffer, new.shape)
            buffer.data.copy_(new)

    def check(self, name: str, buffer: Any, shape: torch.Size) -> None:
        """Refuses what a module has put in a buffer's place, where it is no such tensor."""
        if not isinstance(buffer, torch.Tensor) or buffer.shape != shape:
            found = _described(buffer) if isinstance(buffer, torch.Tensor) else repr(buffer)
            raise ValueError(f"{self.role.argument}: buffer `{name}` of the module `{self.called}` should stay a "
                             f"tensor {list(shape)}; the module made it {found}")  # fmt: skip

    def _lay_out(self) -> None:
        """Gives each number of a buffer memory of its own, which expanded ones lack; what is tied stays so."""
        whole: dict[torch.Tensor, torch.Tensor] = {}
        for part in self.module.modules():
            for own, buffer in part.named_buffers(recurse=False):
                if any(size > 1 and stride == 0 for size, stride in zip(buffer.shape, buffer.stride(), strict=True)):
                    part._buffers[own] = whole.setdefault(buffer, buffer.contiguous())

    @property
    def named(self) -> str:
        """How errors call it."""
        return f"{self.role.argument}: the module `{self.called}`"

    def _check_kind(self, module: nn.Module) -> None:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            raise TypeError(f"{self.role.argument}: pass the module inside, `module.module`, not its {self.called}")

    def _copied(self, module: nn.Module) -> nn.Module:
        try:
            return copy.deepcopy(module)
        except Exception as error:
            raise ValueError(f"{self.named} cannot be copied ({error})") from error

    def _tried(self) -> tuple[Calling, int]:
        """What it is called with, and numbers a row of its output, found by running it once; lazy modules learn their
        sizes by that. Of others a copy runs: what they keep of it is not of the data.
        """
        lazy = any(nn.parameter.is_lazy(x) for x in (*self.module.parameters(), *self.module.buffers()))
        module = self.module if lazy else self._copied(self.module)
        # Two rows, and if they have positions three and one.
        shape = [2, 3] if self.role.positions else [2]
        mask = torch.tensor([[True, True, True], [True, False, False]])

        def run(calling: Calling) -> Any:
            if not self.role.positions:
                return calling.call(module, calling.trial())
            x = torch.zeros([*shape, self.role.features], dtype=torch.float32, device="cpu")
            return module(x, mask) if self.masked else module(x)

        training = module.training
        module.train(False)
        with torch.random.fork_rng(devices=[]), torch.set_grad_enabled(not lazy):
            try:
                calling, y = tried(module, self.role.parts, run)
            except Exception as error:
                what = f"on {self._sizes(shape)} it raised {type(error).__name__}: {error}"
                raise ValueError(f"{self.named} should take {self.role.takes}; {what}") from error
            finally:
                module.train(training)
        if not isinstance(y, torch.Tensor) or y.dtype != torch.float32 or not self._fits(y.shape, shape):
            raise ValueError(f"{self.named} should give a float32 tensor {self.role.gives}; for {self._sizes(shape)} "
                             f"it gave {_described(y)}")  # fmt: skip
        self._check_parameters(module, y)
        return calling, y.shape[-1]

    def _sizes(self, rows: list[int]) -> str:
        """The sizes of what is tried, in words."""
        return " and ".join(f"zeros of {[*rows, *part.shape]}" for part in self.role.parts)

    def _fits(self, found: torch.Size, given: list[int]) -> bool:
        width = found[-1:].numel() if self.role.outputs is None else self.role.outputs
        return width > 0 and list(found) == [*given, width]

    def _check_parameters(self, module: nn.Module, y: torch.Tensor) -> None:
        leaves = [parameter for parameter in module.parameters() if parameter.requires_grad]
        if not leaves or not y.requires_grad:
            return
        found = torch.autograd.grad(y, leaves, torch.ones_like(y), allow_unused=True)
        if all(gradient is None for gradient in found):
            raise ValueError(f"{self.named} should compute with its own parameters, and its output depends on none of "
                             "them: a model has a copy of the module, and what functions hold that it was given is no "
                             "part of the copy")  # fmt: skip

    def _owners_of_buffers(self) -> dict[str, tuple[dict[str, Any], str]]:
        """Where the buffers are that a state dict has, and what they are called there; others are constants."""
        state = self.module.state_dict()
        strange = [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
        if strange:
            raise ValueError(f"{self.role.argument}: what the module `{self.called}` keeps beside tensors cannot be "
                             f"kept with the model: {listed(strange)}")  # fmt: skip
        owners: dict[str, tuple[dict[str, Any], str]] = {}
        for name, buffer in self.module.named_buffers():
            if name not in state:
                continue
            path, _, own = name.rpartition(".")
            owners[name] = (self.module.get_submodule(path)._buffers, own)
            same = buffer.to(torch.float32).to(buffer.dtype)
            if not torch.equal(torch.nan_to_num(same), torch.nan_to_num(buffer)):
                raise ValueError(f"{self.role.argument}: buffer `{name}` of the module `{self.called}` should hold "
                                 f"numbers that float32 has too; it is {_dtype(buffer)} of others")  # fmt: skip
        return owners

    def __repr__(self) -> str:
        return f"{self.called}(...)"


class Tied:
    """The module at work on the memory of one plan."""

    def __init__(self, module: Module, lent: Lent, alone: bool, wanted: Sequence[bool], frozen: Sequence[bool]) -> None:
        inputs, lengths, output, parameters, buffers = lent
        self._module = module
        (self._x,) = [memory.tensor(x) for x in inputs]
        self._alone = alone
        self._lengths = None if lengths is None else memory.tensor(lengths)
        self._y = memory.tensor(output)
        self._parameters = [memory.tensor(parameter) for parameter in parameters]
        self._place = (self._y.device, tuple(parameter.data_ptr() for parameter in self._parameters))
        self._buffers = [memory.tensor(buffer) for buffer in buffers]
        self._frozen = tuple(frozen)
        self._learns = wanted[0]
        self._wanted = tuple(wanted[1:])
        self._records = any(wanted)
        self._leaves: list[torch.Tensor] = []
        self._output: torch.Tensor | None = None

    def forward(self, training: bool, seed: int) -> None:
        """Fills the output; while training it moves the buffers, and draws at random what follows from the seed."""
        module = self._module
        self._output = None  # or two graphs would live at once
        with module.others():
            module.link(self._parameters, self._place)
            self._turn(training, seed)

    def _turn(self, training: bool, seed: int) -> None:
        module = self._module
        if training:
            module.touched()
            module.trains_in = threading.get_ident()
            with randomness.drawing(seed, self._y.device):
                self._run(training)
        elif module.trains_in == threading.get_ident():
            with module.aside():
                self._run(training)
        else:
            self._run(training)

    def _run(self, training: bool) -> None:
        module = self._module
        module.switch(training, self._frozen)
        module.put(self._buffers)
        torch.clear_autocast_cache()  # which does not see that the core moves the parameters
        x = self._x.detach()
        with torch.set_grad_enabled(self._records):
            if self._records:
                x.requires_grad_(self._learns)
                module.record(self._wanted)
            y = self._of_rows(x) if self._lengths is None else self._of_positions(x, self._lengths)
        with torch.no_grad():
            self._y.copy_(y)
            if training:
                self._keep_buffers()
        if self._records:
            learning = zip(module.parameters.values(), self._wanted, strict=True)
            self._leaves = [x] * self._learns + [parameter for parameter, learns in learning if learns]
            self._output = y

    def _of_rows(self, x: torch.Tensor) -> torch.Tensor:
        # A module may write on what it is given, which neither a leaf that learns nor others that read it would bear.
        x = x.clone() if x.requires_grad or not self._alone else x
        y: torch.Tensor = self._module.calling(self._module.module, x)
        self._check(y, self._y.shape)
        return y

    def _of_positions(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Of positions that lie end to end: by rows of the longest one's length, those without any left out."""
        lengths = lengths[lengths > 0]
        if len(lengths) == 0:
            return torch.zeros_like(self._y).requires_grad_(self._records)
        longest = int(lengths.max())
        there = torch.arange(longest, device=x.device) < lengths[:, None]
        positions = x[: int(lengths.sum())]
        rows = x.new_zeros(len(lengths), longest, x.shape[1]).index_put((there,), positions)
        y = self._module.module(rows, there) if self._module.masked else self._module.module(rows)
        self._check(y, torch.Size([len(lengths), longest, self._y.shape[1]]))
        return functional.pad(y[there], (0, 0, 0, len(x) - len(positions)))

    def _keep_buffers(self) -> None:
        for (name, buffer), kept, still in zip(self._module.buffers.items(), self._buffers, self._frozen, strict=True):
            if not still:
                self._module.check(name, buffer, kept.shape)
                kept.copy_(buffer)

    def backward(self, along: Any, last: bool) -> list[tuple[torch.Tensor, int, torch.Size, tuple[int, ...]]]:
        """The gradients of what learns along one of the output, `last` of this forward."""
        if self._output is None:
            raise RuntimeError("a backward needs a forward before it")
        output = self._output
        # Kept until here, as `grad` of a plain loop's parameters is: freed together with the graph, they let the
        # allocator give memory back to the system, and a step of a large module faulted on a thousand pages to get it
        # again.
        module = self._module
        module.found = ()
        module.found = torch.autograd.grad(
            output, self._leaves, memory.tensor(along), retain_graph=not last, allow_unused=True
        )
        gradients = []
        for gradient, leaf in zip(module.found, self._leaves, strict=True):
            dense = torch.zeros_like(leaf) if gradient is None else gradient
            gradients.append(memory.sent(dense.to_dense() if dense.layout != torch.strided else dense))
        if last:
            self._output = None
            module.trains_in = None
        return gradients

    def _check(self, y: Any, shape: torch.Size) -> None:
        called = self._module.named
        if not isinstance(y, torch.Tensor) or y.shape != shape or y.dtype != torch.float32:
            raise ValueError(f"{called} should give a float32 tensor {list(shape)}; it gave {_described(y)}")
        if y.device != self._y.device:
            raise ValueError(f"{called} should compute on {self._y.device}; it gave a tensor on {y.device}")
        if self._records and not y.requires_grad:
            raise ValueError(f"{called} should be differentiable; it gives a tensor without a gradient")


def _takes_mask(module: nn.Module) -> bool:
    """Whether it must be given a second argument."""
    try:
        taken = list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):
        return False
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return len(taken) > 1 and taken[1].kind in by_place and taken[1].default is inspect.Parameter.empty


def _dtype(x: torch.Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


def _described(y: Any) -> str:
    if not isinstance(y, torch.Tensor):
        return f"a {type(y).__name__}"
    return f"{_dtype(y)} {list(y.shape)}"
