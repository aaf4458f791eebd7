"""The buffers of a module of the caller's own, whose numbers are copied from and to the core's memory."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..arguments.messages import listed


class Buffers:
    """Those that a state dict has, by name; others are constants.

    Arguments:
        module: the module.
        argument: what errors call the argument that it was.

    Raises:
        ValueError: what the core cannot keep; says what.
    """

    def __init__(self, module: nn.Module, argument: str) -> None:
        self._module = module
        self._argument = argument
        self._called = type(module).__name__
        self._lay_out()
        self._places = self._found()
        self.note()

    def moved(self) -> "Buffers":
        """Those of the module as it is now, of which what is in the place of another is changed."""
        now = Buffers(self._module, self._argument)
        now._noted = self._noted
        return now

    @property
    def each(self) -> dict[str, torch.Tensor]:
        """As they are now: a module may put new tensors in their places."""
        return {name: owner[own] for name, (owner, own) in self._places.items()}

    def of(self, part: nn.Module) -> list[int]:
        """Which of them are a part's own."""
        return [place for place, (owner, _) in enumerate(self._places.values()) if owner is part._buffers]

    def put(self, numbers: Sequence[torch.Tensor]) -> None:
        """Fills them; a graph that has seen them takes no notice."""
        for (name, buffer), new in zip(self.each.items(), numbers, strict=True):
            self.check(name, buffer, new.shape)
            buffer.data.copy_(new)

    def note(self) -> None:
        """Takes them for what the core has."""
        self._noted = {name: (buffer, _version(buffer)) for name, buffer in self.each.items()}

    @property
    def changed(self) -> bool:
        """Whether somebody has put anything there since they were noted; of a batch norm's its count says it."""
        pairs = ((now, *self._noted[name]) for name, now in self.each.items())
        return any(now is not before or _version(now) != version for now, before, version in pairs)

    def check(self, name: str, buffer: Any, shape: torch.Size) -> None:
        """Refuses what a module has put in a buffer's place, where it is no such tensor."""
        if not isinstance(buffer, torch.Tensor) or buffer.shape != shape:
            found = described(buffer) if isinstance(buffer, torch.Tensor) else repr(buffer)
            raise ValueError(f"{self._argument}: buffer `{name}` of the module `{self._called}` should stay a "
                             f"tensor {list(shape)}; the module made it {found}")  # fmt: skip

    def _lay_out(self) -> None:
        """Gives each number of a buffer memory of its own, which expanded ones lack; what is tied stays so."""
        whole: dict[torch.Tensor, torch.Tensor] = {}
        for part in self._module.modules():
            for own, buffer in part.named_buffers(recurse=False):
                if any(size > 1 and stride == 0 for size, stride in zip(buffer.shape, buffer.stride(), strict=True)):
                    part._buffers[own] = whole.setdefault(buffer, buffer.contiguous())

    def _found(self) -> dict[str, tuple[dict[str, Any], str]]:
        """Where they are, and what they are called there."""
        state = self._module.state_dict()
        strange = [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
        if strange:
            raise ValueError(f"{self._argument}: what the module `{self._called}` keeps beside tensors cannot be "
                             f"kept with the model: {listed(strange)}")  # fmt: skip
        places: dict[str, tuple[dict[str, Any], str]] = {}
        for name, buffer in self._module.named_buffers():
            if name not in state:
                continue
            path, _, own = name.rpartition(".")
            places[name] = (self._module.get_submodule(path)._buffers, own)
            same = buffer.to(torch.float32).to(buffer.dtype)
            if not torch.equal(torch.nan_to_num(same), torch.nan_to_num(buffer)):
                raise ValueError(f"{self._argument}: buffer `{name}` of the module `{self._called}` should hold "
                                 f"numbers that float32 has too; it is {dtype(buffer)} of others")  # fmt: skip
        return places


def dtype(x: torch.Tensor) -> str:
    """Its type in words."""
    return str(x.dtype).removeprefix("torch.")


def described(y: Any) -> str:
    """What a module gave, in words."""
    if not isinstance(y, torch.Tensor):
        return f"a {type(y).__name__}"
    return f"{dtype(y)} {list(y.shape)}"


def _version(buffer: Any) -> int:
    """How often something was written there; tensors of inference mode do not count it."""
    return buffer._version if isinstance(buffer, torch.Tensor) and not buffer.is_inference() else 0
