"""The parameters of a module of the caller's own as memory of the core, which other hands may put elsewhere."""

import logging
import weakref
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.weak import WeakIdKeyDictionary

from ..arguments.messages import listed

_log = logging.getLogger("polytask")

#: The device, and where each parameter is.
Place = tuple[torch.device, tuple[int, ...]]


class Owners:
    """Whose memory parameters are: each model that has one ties it to its own memory before it runs it."""

    def __init__(self) -> None:
        self._each: Any = WeakIdKeyDictionary()
        #: How often anything changed hands.
        self.changes = 0

    def of(self, parameter: nn.Parameter) -> object | None:
        """The last to claim it, if it is still there."""
        known = self._each.get(parameter)
        return None if known is None else known()

    def claim(self, parameters: Iterable[nn.Parameter], owner: object) -> None:
        """Says whose they are now."""
        for parameter in parameters:
            self._each[parameter] = weakref.ref(owner)
        self.changes += 1


owners = Owners()


class Seen(NamedTuple):
    """A parameter as it was when it was linked."""

    parameter: nn.Parameter
    address: int
    version: int


class Parameters:
    """The parameters of a module, by name.

    Arguments:
        module: the module; what is tied in it is one parameter.
        named: how errors call it.
    """

    def __init__(self, module: nn.Module, named: str) -> None:
        self.each = dict(module.named_parameters())
        self._module = module
        self._named = named
        self._places: dict[str, list[tuple[nn.Module, str]]] = {name: [] for name in self.each}
        names = {id(parameter): name for name, parameter in self.each.items()}
        for part in module.modules():
            for own, parameter in part.named_parameters(recurse=False, remove_duplicate=False):
                self._places[names[id(parameter)]].append((part, own))
        buffers = ((part, own, x.dtype) for part in module.modules() for own, x in part.named_buffers(recurse=False))
        self._buffers = list(buffers)
        self._place: Place | None = None
        #: How often anything had changed hands when these were looked at.
        self._changes = -1
        self._seen: list[Seen] = []

    def link(self, memory: Sequence[torch.Tensor], place: Place, owner: object) -> bool:
        """Makes memory of the core that of the parameters, and brings buffers to its device; gives whether anything
        changed. What was put in the parameters' places since this owner ran the module last goes to the core.

        Raises:
            ValueError: what was put there has another shape.
        """
        if not self._taken_from(owner):
            moved = [name for name, seen in zip(self.each, self._seen, strict=True) if self._moved(name, seen)]
            if self._place == place and not moved:
                return False
            if moved:
                self._take_back(moved, memory)
        for name, new in zip(self.each, memory, strict=True):
            parameter = self._now(name)
            parameter.data = new
            self.each[name] = parameter
            for part, own in self._places[name]:
                if part._parameters.get(own) is not parameter:
                    setattr(part, own, parameter)
        for part, own, dtype in self._buffers:
            if isinstance(buffer := part._buffers.get(own), torch.Tensor):
                part._buffers[own] = buffer.to(place[0], dtype)
        self._place = place
        self.note(owner)
        return True

    def note(self, owner: object) -> None:
        """Takes the parameters as they are for this owner's."""
        self._seen = [Seen(parameter, parameter.data_ptr(), parameter._version) for parameter in self.each.values()]
        owners.claim(self.each.values(), owner)
        self._changes = owners.changes

    def others(self, owner: object) -> list[object]:
        """Who else has had some of them since this owner ran last."""
        if self._changes == owners.changes:
            return []
        each = {id(one): one for one in map(owners.of, self.each.values()) if one is not None and one is not owner}
        return list(each.values())

    def _taken_from(self, owner: object) -> bool:
        """Whether another model has had some of them, whose numbers are none of this one's."""
        taken = self._changes != owners.changes and any(owners.of(p) is not owner for p in self.each.values())
        self._changes = owners.changes
        return taken

    def _moved(self, name: str, seen: Seen) -> bool:
        """Whether there is something else in a parameter's place; before it is linked, also other numbers."""
        part, own = self._places[name][0]
        parameter, address, version = seen
        if part._parameters.get(own) is not parameter or parameter.data_ptr() != address:
            return True
        return self._place is None and parameter._version != version

    def _now(self, name: str) -> nn.Parameter:
        """What is in a parameter's place."""
        part, own = self._places[name][0]
        found = part._parameters.get(own)
        return found if isinstance(found, nn.Parameter) else self.each[name]

    def _take_back(self, moved: Sequence[str], memory: Sequence[torch.Tensor]) -> None:
        """Numbers that `.to()`, `.half()` or `load_state_dict(assign=True)` left elsewhere, or that came early."""
        for name, mine in zip(self.each, memory, strict=True):
            if name not in moved:
                continue
            new = self._now(name)
            if new.shape != mine.shape:
                raise ValueError(f"{self._named}: parameter `{name}` should keep the shape {list(mine.shape)}; it was "
                                 f"given {list(new.shape)}")  # fmt: skip
            with torch.no_grad():
                mine.copy_(new.detach())
        _log.warning("%s: parameters were changed outside of the model's memory; their numbers are taken back into it: "
                     "%s", self._named, listed(moved))  # fmt: skip

    def touched(self) -> None:
        """Says to autograd that the core has changed them: a graph of somebody else's that read them is stale."""
        torch.autograd.graph.increment_version(tuple(self.each.values()))

    def kept(self) -> list[tuple[nn.Parameter, torch.Tensor, bool]]:
        """Each with its memory and whether it learns, for `put_back`."""
        return [(parameter, parameter.data, parameter.requires_grad) for parameter in self.each.values()]

    @staticmethod
    def put_back(kept: list[tuple[nn.Parameter, torch.Tensor, bool]]) -> None:
        """Brings back what another model changed."""
        for parameter, data, learns in kept:
            parameter.data = data
            parameter.requires_grad_(learns)
