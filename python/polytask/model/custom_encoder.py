"""An encoder that is a PyTorch module: it runs on the core's own memory, and the core sees numbers."""

import copy
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from .. import _core
from ..arguments.messages import listed
from ..process import randomness
from ..values import memory

#: Memory of inputs, output, parameters and buffers, as the core lends it.
Lent = tuple[Sequence[Any], Any, Sequence[Any], Sequence[Any]]

#: The device, and where each parameter is.
Place = tuple[torch.device, tuple[int, ...]]


class Encoder:
    """A copy of a module whose parameters are the core's memory.

    Arguments:
        module: from features `[rows, width]` to `[rows, any width]`, float32.
        features: numbers a row that it is given.

    Raises:
        TypeError, ValueError: a module that cannot be an encoder; says what was expected and what came.
    """

    def __init__(self, module: nn.Module, features: int) -> None:
        self.called = type(module).__name__
        self.features = features
        with torch.inference_mode(False), torch.no_grad():
            self.module = _copied(module, self.called)
            self.width = self._width(features)
            self._lay_out()
        self.parameters = dict(self.module.named_parameters())
        self._owners = self._owners_of_buffers()
        for name, parameter in self.parameters.items():
            if parameter.dtype != torch.float32:
                raise TypeError(f"`encoder`: parameter `{name}` of the module `{self.called}` should be float32, as "
                                f"`module.float()` makes it; got {_dtype(parameter)}")  # fmt: skip
        self._place: Place | None = None
        self._mode: tuple[bool, tuple[bool, ...]] | None = None
        self._learning: tuple[bool, ...] | None = None
        self._switching = threading.Lock()
        #: The thread in which a step is on its way, from its forward to its last backward.
        self.trains_in: int | None = None

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

    def still(self) -> list[str]:
        """Names of parameters that are not to learn."""
        return [name for name, parameter in self.parameters.items() if not parameter.requires_grad]

    def tie(self, lent: Lent, wanted: Sequence[bool], frozen: Sequence[bool]) -> "Tied":
        """The module at work on memory of the core, as the core asks for it once a plan."""
        return Tied(self, lent, wanted, frozen)

    def link(self, parameters: Sequence[torch.Tensor], place: Place) -> None:
        """Makes memory of the core that of the module's parameters, and brings its buffers to that device."""
        with self._switching:
            if self._place == place:
                return
            for parameter, new in zip(self.parameters.values(), parameters, strict=True):
                parameter.data = new
            for part in self.module.modules():
                for own, buffer in part.named_buffers(recurse=False):
                    part._buffers[own] = buffer.to(place[0])
            self._place = place

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
            raise ValueError(f"`encoder`: buffer `{name}` of the module `{self.called}` should stay a tensor "
                             f"{list(shape)}; the module made it {found}")  # fmt: skip

    def _lay_out(self) -> None:
        """Gives each number of a buffer memory of its own, which expanded ones lack; what is tied stays so."""
        whole: dict[torch.Tensor, torch.Tensor] = {}
        for part in self.module.modules():
            for own, buffer in part.named_buffers(recurse=False):
                if any(size > 1 and stride == 0 for size, stride in zip(buffer.shape, buffer.stride(), strict=True)):
                    part._buffers[own] = whole.setdefault(buffer, buffer.contiguous())

    def _width(self, features: int) -> int:
        """Numbers a row of its output, found by running it once; lazy modules learn their sizes by that. Of others a
        copy runs: what they keep of it is not of the data.
        """
        lazy = any(nn.parameter.is_lazy(x) for x in (*self.module.parameters(), *self.module.buffers()))
        module = self.module if lazy else _copied(self.module, self.called)
        x = torch.zeros(2, features, dtype=torch.float32, device="cpu")
        module.train(False)
        with torch.random.fork_rng(devices=[]), torch.set_grad_enabled(not lazy):
            try:
                y = module(x)
            except Exception as error:
                what = f"on zeros of [2, {features}] it raised {type(error).__name__}: {error}"
                expected = f"should take features [rows, {features}]"
                raise ValueError(f"`encoder`: the module `{self.called}` {expected}; {what}") from error
        if not isinstance(y, torch.Tensor) or y.dtype != torch.float32 or y.ndim != 2 or len(y) != 2 or y.shape[1] == 0:
            raise ValueError(f"`encoder`: the module `{self.called}` should give a float32 tensor [rows, width]; for "
                             f"zeros of [2, {features}] it gave {_described(y)}")  # fmt: skip
        self._check_parameters(module, y)
        return y.shape[1]

    def _check_parameters(self, module: nn.Module, y: torch.Tensor) -> None:
        leaves = [parameter for parameter in module.parameters() if parameter.requires_grad]
        if not leaves or not y.requires_grad:
            return
        found = torch.autograd.grad(y, leaves, torch.ones_like(y), allow_unused=True)
        if all(gradient is None for gradient in found):
            raise ValueError(f"`encoder`: the module `{self.called}` should compute with its own parameters, and its "
                             "output depends on none of them: a model has a copy of the module, and what functions "
                             "hold that it was given is no part of the copy")  # fmt: skip

    def _owners_of_buffers(self) -> dict[str, tuple[dict[str, Any], str]]:
        """Where the buffers are that a state dict has, and what they are called there; others are constants."""
        state = self.module.state_dict()
        strange = [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
        if strange:
            raise ValueError(f"`encoder`: what the module `{self.called}` keeps beside tensors cannot be kept with the "
                             f"model: {listed(strange)}")  # fmt: skip
        owners: dict[str, tuple[dict[str, Any], str]] = {}
        for name, buffer in self.module.named_buffers():
            if name not in state:
                continue
            path, _, own = name.rpartition(".")
            owners[name] = (self.module.get_submodule(path)._buffers, own)
            same = buffer.to(torch.float32).to(buffer.dtype)
            if not torch.equal(torch.nan_to_num(same), torch.nan_to_num(buffer)):
                raise ValueError(f"`encoder`: buffer `{name}` of the module `{self.called}` should hold numbers that "
                                 f"float32 has too; it is {_dtype(buffer)} of others")  # fmt: skip
        return owners

    def __repr__(self) -> str:
        return f"{self.called}(...)"


class Missing:
    """Stands for a module that a model was made with and loaded without."""

    def __init__(self, called: str) -> None:
        self.called = called

    def __repr__(self) -> str:
        return f"{self.called}(...)"


class Tied:
    """The module at work on the memory of one plan."""

    def __init__(self, encoder: Encoder, lent: Lent, wanted: Sequence[bool], frozen: Sequence[bool]) -> None:
        inputs, output, parameters, buffers = lent
        self._encoder = encoder
        (self._x,) = [memory.tensor(x) for x in inputs]
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
        encoder = self._encoder
        self._output = None  # or two graphs would live at once
        encoder.link(self._parameters, self._place)
        if training:
            encoder.trains_in = threading.get_ident()
            with randomness.drawing(seed, self._y.device):
                self._run(training)
        elif encoder.trains_in == threading.get_ident():
            with encoder.aside():
                self._run(training)
        else:
            self._run(training)

    def _run(self, training: bool) -> None:
        encoder = self._encoder
        encoder.switch(training, self._frozen)
        encoder.put(self._buffers)
        torch.clear_autocast_cache()  # which does not see that the core moves the parameters
        x = self._x.detach()
        with torch.set_grad_enabled(self._records):
            if self._records:
                x.requires_grad_(self._learns)
                encoder.record(self._wanted)
            # A module may write on what it is given, which a leaf that learns would not bear.
            y = encoder.module(x.clone() if x.requires_grad else x)
        self._check(y)
        with torch.no_grad():
            self._y.copy_(y)
            if training:
                self._keep_buffers()
        if self._records:
            learning = zip(encoder.parameters.values(), self._wanted, strict=True)
            self._leaves = [x] * self._learns + [parameter for parameter, learns in learning if learns]
            self._output = y

    def _keep_buffers(self) -> None:
        for (name, buffer), kept, still in zip(self._encoder.buffers.items(), self._buffers, self._frozen, strict=True):
            if not still:
                self._encoder.check(name, buffer, kept.shape)
                kept.copy_(buffer)

    def backward(self, along: Any, last: bool) -> list[tuple[torch.Tensor, int, torch.Size, tuple[int, ...]]]:
        """The gradients of what learns along one of the output, `last` of this forward."""
        if self._output is None:
            raise RuntimeError("a backward needs a forward before it")
        output = self._output
        found = torch.autograd.grad(
            output, self._leaves, memory.tensor(along), retain_graph=not last, allow_unused=True
        )
        gradients = []
        for gradient, leaf in zip(found, self._leaves, strict=True):
            dense = torch.zeros_like(leaf) if gradient is None else gradient
            gradients.append(memory.sent(dense.to_dense() if dense.layout != torch.strided else dense))
        if last:
            self._output = None
            self._encoder.trains_in = None
        return gradients

    def _check(self, y: Any) -> None:
        if not isinstance(y, torch.Tensor) or y.shape != self._y.shape or y.dtype != torch.float32:
            raise ValueError(f"`encoder`: the module `{self._encoder.called}` should give a float32 tensor "
                             f"{list(self._y.shape)}; it gave {_described(y)}")  # fmt: skip
        if y.device != self._y.device:
            raise ValueError(f"`encoder`: the module `{self._encoder.called}` should compute on {self._y.device}; it "
                             f"gave a tensor on {y.device}")  # fmt: skip
        if self._records and not y.requires_grad:
            raise ValueError(f"`encoder`: the module `{self._encoder.called}` should be differentiable; it gives a "
                             f"tensor without a gradient")  # fmt: skip


def _copied(module: nn.Module, called: str) -> nn.Module:
    wrapped = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    if isinstance(module, wrapped):
        raise TypeError(f"`encoder`: pass the module inside, `module.module`, not its {called}")
    try:
        return copy.deepcopy(module)
    except Exception as error:
        raise ValueError(f"`encoder`: the module `{called}` cannot be copied ({error})") from error


def _difference(stored: Any, ours: Any) -> str:
    if not isinstance(stored, list):
        return f"{stored} there, {ours} here"
    lacking = [each for each in stored if each not in ours]
    name, shape = (lacking or [each for each in ours if each not in stored] or stored)[0]
    if not lacking:
        return f"`{name}` {shape} is not there"
    found = dict(map(tuple, ours)).get(name)
    return f"`{name}` is {shape} there and {'missing' if found is None else found} here"


def _dtype(x: torch.Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


def _described(y: Any) -> str:
    if not isinstance(y, torch.Tensor):
        return f"a {type(y).__name__}"
    return f"{_dtype(y)} {list(y.shape)}"


def again(module: nn.Module, description: Mapping[str, Any]) -> Encoder:
    """The module with which a model was made, for the description in its file.

    Raises:
        ValueError: the model has no encoder of the caller's own, or another one.
    """
    stored = description["encoder"]
    if stored["name"] != "custom":
        raise ValueError(f"`encoder`: the model's encoder is {stored['name']!r}, which needs no module; leave it out")
    encoder = Encoder(module, _core.features(description["inputs"]))
    ours = encoder.describe()
    for key in ("parameters", "buffers", "width"):
        if ours[key] != stored[key]:
            raise ValueError(f"`encoder`: the model was made with a module `{stored['class']}` of other {key}: "
                             f"{_difference(stored[key], ours[key])}")  # fmt: skip
    return encoder
