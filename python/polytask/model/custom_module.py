"""A PyTorch module as part of a model: it runs on the core's own memory, and the core sees numbers."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..components import own_module
from ..process import randomness
from ..values import memory
from . import linking, trial
from .buffers import Buffers, described, dtype
from .layout import Layout
from .linking import Place, owners
from .trial import Role

#: Memory of inputs, how many positions each row has, output, parameters and buffers, as the core lends it.
Lent = tuple[Sequence[Any], Any, Any, Sequence[Any], Sequence[Any]]


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
            self.module = trial.copied(module, self.named) if copied else module
            self.calling, self.masked, self.width, self.unsure = trial.trial(self.module, role, self.named)
            self._buffers = Buffers(self.module, role.argument)
        self._layout = Layout(self.module)
        self._linked = linking.Parameters(self.module, self.named)
        #: What the caller has put in it while the numbers were this model's, since when another model had it.
        self._put_by: dict[str, torch.Tensor] = {}
        self._relearned: dict[str, bool] = {}
        self._displace()
        self._linked.note(self)
        for name, parameter in self.parameters.items():
            if parameter.dtype != torch.float32:
                raise TypeError(f"{role.argument}: parameter `{name}` of the module `{self.called}` should be float32, "
                                f"as `module.float()` makes it; got {dtype(parameter)}")  # fmt: skip
        self._mode: tuple[bool, tuple[bool, ...]] | None = None
        #: Of each part, whether that mode has it train.
        self._modes: list[bool] = []
        #: Whether each parameter requires a gradient, as far as it is known to the core.
        self._learning = self._learn
        self._switching = threading.Lock()
        #: How many runs of it each thread is in.
        self._runs: dict[int, int] = {}
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
        """Its buffers that a state dict has, by name, as they are now."""
        return self._buffers.each

    @property
    def settings(self) -> Any:
        """What its parts are, and what their attributes say; equal as long as a copy of it is as good as the module."""
        return self._layout.settings

    @property
    def names(self) -> list[str]:
        """Of both."""
        return [*self.parameters, *self.buffers]

    def describe(self) -> dict[str, Any]:
        """What the core reads, and files keep."""
        parameters, buffers = (
            [[name, list(tensor.shape)] for name, tensor in tensors]
            for tensors in (self.parameters.items(), self.buffers.items())
        )
        described = {"name": "custom", "class": self.called, "width": self.width}
        if self.role.output is not None:
            described["output"] = own_module.kept(self.role.output)
        if self.role.width is not None:
            described["said"] = ["width"]
        if self._stacks:
            described["stacks"] = True
        return {**described, "parameters": parameters, "buffers": buffers}

    @property
    def _stacks(self) -> bool:
        """Whether what it gives may be what another one of it takes."""
        (first, *others), types, *_ = self.calling
        row = not others and first.shape == (self.width,) and types[0] == torch.float32
        return row and self.role.outputs is None and not self.role.positions

    def starts(self) -> dict[str, torch.Tensor]:
        """Parameters and buffers as they were given, by name."""
        return {name: x.detach().to("cpu", torch.float32) for name, x in {**self.parameters, **self.buffers}.items()}

    def start_from(self, numbers: Mapping[str, np.ndarray]) -> None:
        """Takes over parameters and buffers, by name, until it is tied to the memory where they are."""
        with torch.no_grad():
            for name, tensor in {**self.parameters, **self.buffers}.items():
                tensor.copy_(torch.from_numpy(numbers[name]))
        self._linked.note(self)
        self._buffers.note()

    def still(self) -> list[str]:
        """Names of parameters that are not to learn."""
        return [name for name, parameter in self.parameters.items() if not parameter.requires_grad]

    def tie(self, lent: Lent, alone: bool, wanted: Sequence[bool], frozen: Sequence[bool]) -> "Tied":
        """The module at work on memory of the core, as the core asks for it once a plan."""
        return Tied(self, lent, alone, wanted, frozen)

    def give(self, memory: Callable[[str], torch.Tensor]) -> dict[str, bool]:
        """Brings to memory of the core, by name, what the caller has put in the module since it ran; gives which
        parameters the caller has had learn since, or not learn.

        Raises:
            ValueError: the module has other parameters or buffers, or other shapes of them.
        """
        with owners.lock:
            if self._runs or self.trains_in is not None:
                return {}
            relearned, self._relearned = self._relearned, {}
            if self._put_by:
                numbers, self._put_by = self._put_by, {}
                with torch.no_grad():
                    for name, x in numbers.items():
                        kept = memory(name)
                        self.check(name, x, kept.shape)
                        kept.copy_(x)
            if not self._linked.mine(self):
                return relearned
            self._look_again()
            self._linked.give(lambda: [memory(name) for name in self.parameters], self)
            if self._buffers.changed:
                with torch.no_grad():
                    for name, buffer in self.buffers.items():
                        kept = memory(name)
                        self.check(name, buffer, kept.shape)
                        kept.copy_(buffer)
                self._buffers.note()
            before, self._learning = self._learning, self._learn
            each = zip(self.parameters, before, self._learning, strict=True)
            return relearned | {name: now for name, was, now in each if now != was}

    def _look_again(self) -> None:
        """Finds parameters and buffers where they are, if parts were put in the place of others."""
        if self._layout.changed:
            self._linked.read()
            self._read_buffers()
            self._layout.read()
            self._mode = None

    def _displace(self) -> None:
        """Before it is this model's: lets the others that have it keep what the caller has done to it as theirs."""
        for other in self._others():
            other._keep()

    def _keep(self) -> None:
        """Keeps for this model what the caller has put in the module since it ran, until it is given to the core."""
        if self._runs or self.trains_in is not None:
            return
        self._look_again()
        self._put_by |= self._linked.taken(self)
        if self._buffers.changed:
            self._put_by |= {name: buffer.detach().clone() for name, buffer in self.buffers.items()}
        before, self._learning = self._learning, self._learn
        each = zip(self.parameters, before, self._learning, strict=True)
        self._relearned |= {name: now for name, was, now in each if now != was}

    def enter(self, memory: Sequence[torch.Tensor], place: Place) -> ExitStack | None:
        """Before a run: makes memory of the core that of the module's parameters. Another model that has this module is
        waited for if it runs it in another thread, and if it is in the middle of a step in this one lends it until
        `leave` is given what this gives.

        Raises:
            RuntimeError: another model is in the middle of a step in another thread.
        """
        here = threading.get_ident()
        with owners.lock:
            mine = self._linked.mine(self)
            lent = None if mine else self._lent(here)
            if not mine:
                self._displace()
                self._look_again()
            if self._linked.link(memory, place, self):
                self._mode = None
            self._runs[here] = self._runs.get(here, 0) + 1
        return lent

    def leave(self, lent: ExitStack | None) -> None:
        """After it, however it ended: what it did to its buffers is its own doing."""
        here = threading.get_ident()
        with owners.lock:
            self._buffers.note()
            if lent is not None:
                lent.close()
            self._runs[here] -= 1
            if not self._runs[here]:
                del self._runs[here]
            owners.turns.notify_all()

    def _lent(self, thread: int) -> ExitStack:
        while any(other._runs_beside(thread) for other in self._others()):
            owners.turns.wait()
        stack = ExitStack()
        for other in self._others():
            if other.trains_in is not None or other._runs:
                stack.enter_context(other.lent())
        return stack

    def _others(self) -> list["Module"]:
        return [other for other in self._linked.others(self) if isinstance(other, Module)]

    def _runs_beside(self, thread: int) -> bool:
        """Whether it runs in another thread.

        Raises:
            RuntimeError: it trains there, which may take long.
        """
        if self.trains_in not in (None, thread):
            raise RuntimeError(f"{self.named} is in the middle of a step of another model, in another thread: give "
                               "each a copy of its own, `copy.deepcopy(module)`")  # fmt: skip
        return any(other != thread for other in self._runs)

    def rest(self) -> None:
        """Ends a step that failed."""
        if self.trains_in == threading.get_ident():
            self.trains_in = None

    @contextmanager
    def lent(self) -> Iterator[None]:
        """In the middle of a step: leaves parameters, mode and buffers as they were."""
        kept = self._linked.kept()
        with self.aside():
            try:
                yield
            finally:
                self._linked.put_back(kept)
                self._linked.note(self)
                self._mode = None

    def touched(self) -> None:
        """Says that the core has made a step since it ran last."""
        self._linked.touched()

    def record(self, learning: tuple[bool, ...]) -> None:
        """Says which parameters learn, before a forward that is recorded."""
        if self._learn != learning:
            for parameter, learns in zip(self.parameters.values(), learning, strict=True):
                parameter.requires_grad_(learns)
        self._learning = learning

    @property
    def _learn(self) -> tuple[bool, ...]:
        return tuple(parameter.requires_grad for parameter in self.parameters.values())

    def switch(self, training: bool, frozen: tuple[bool, ...]) -> None:
        """Turns it to training or evaluation; what has buffers that are all frozen evaluates in both."""
        with self._switching:
            if self._mode == (training, frozen) and self._modes == self._layout.modes:
                return
            self.module.train(training)
            if training and any(frozen):
                for part in self._layout.parts:
                    own = self._buffers.of(part)
                    if own and all(frozen[place] for place in own):
                        part.train(False)
            self._mode, self._modes = (training, frozen), self._layout.modes

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
        self._buffers.put(numbers)
        self._buffers.note()

    def check(self, name: str, buffer: Any, shape: torch.Size) -> None:
        """Refuses what it has put in a buffer's place, where it is no such tensor."""
        self._buffers.check(name, buffer, shape)

    def _read_buffers(self) -> None:
        """Finds them in other places."""
        before = {name: buffer.shape for name, buffer in self.buffers.items()}
        with torch.inference_mode(False), torch.no_grad():
            new = self._buffers.moved()
        after = {name: buffer.shape for name, buffer in new.each.items()}
        if after != before:
            name = next(name for name in [*before, *after] if before.get(name) != after.get(name))
            shapes = [list(found[name]) if name in found else None for found in (before, after)]
            raise ValueError(f"{self.named} should have the buffers with which the model was made; `{name}` was "
                             f"{shapes[0]} and is {shapes[1]}: make another model of it")  # fmt: skip
        self._buffers = new

    @property
    def named(self) -> str:
        """How errors call it."""
        return f"{self.role.argument}: the module `{self.called}`"

    def _check_kind(self, module: nn.Module) -> None:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            raise TypeError(f"{self.role.argument}: pass the module inside, `module.module`, not its {self.called}")
        if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
            raise TypeError(f"{self.role.argument}: `{self.called}` is of TorchScript, whose parameters cannot lie "
                            "in a model's memory: pass the module that it was made of")  # fmt: skip

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
        lent = module.enter(self._parameters, self._place)
        try:
            self._turn(training, seed)
        finally:
            module.leave(lent)

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
        y = own_module.picked(y, self._module.role.output)
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
            raise ValueError(f"{called} should give a float32 tensor {list(shape)}; it gave {described(y)}")
        if y.device != self._y.device:
            raise ValueError(f"{called} should compute on {self._y.device}; it gave a tensor on {y.device}")
        if self._records and not y.requires_grad:
            raise ValueError(f"{called} should be differentiable; it gives a tensor without a gradient")
