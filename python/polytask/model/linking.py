"""The parameters of a module of the caller's own as memory of the core, which other hands may put elsewhere."""

import logging
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.weak import WeakIdKeyDictionary

from ..arguments.messages import listed

_log = logging.getLogger("polytask")

#: By what it is known whose a module is: a parameter, or a part that has buffers.
Key = nn.Parameter | nn.Module
#: The device, and where each parameter is.
Place = tuple[torch.device, tuple[int, ...]]


class Owners:
    """Whose parameters and parts with buffers are: each model that has one ties it to its own memory before it runs
    it.
    """

    def __init__(self) -> None:
        self._each: Any = WeakIdKeyDictionary()
        #: Held while they change hands.
        self.lock = threading.RLock()
        #: Where a model waits until another one has run what both have.
        self.turns = threading.Condition(self.lock)
        #: How often anything changed hands.
        self.changes = 0

    def of(self, key: Key) -> object | None:
        """The last to claim it, if it is still there."""
        known = self._each.get(key)
        return None if known is None else known()

    def claim(self, keys: Iterable[Key], owner: object) -> None:
        """Says whose they are now."""
        for key in keys:
            self._each[key] = weakref.ref(owner)
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
        self.read()
        self._place: Place | None = None
        #: How often anything had changed hands when these were looked at, and whether all were the owner's then.
        self._changes = -1
        self._were_mine = False
        self._seen: list[Seen] = []

    def read(self) -> None:
        """Looks for them in the module as it is now.

        Raises:
            ValueError: it has others.
        """
        now = dict(self._module.named_parameters())
        if now.keys() != self.each.keys():
            gone = [name for name in self.each if name not in now]
            new = [name for name in now if name not in self.each]
            which = " and ".join([*([f"{listed(gone)} are gone"] if gone else []), *([f"{listed(new)} are new"] if new
                                 else [])])  # fmt: skip
            raise ValueError(f"{self._named} should have the parameters with which the model was made; {which}: make "
                             "another model of it")  # fmt: skip
        self._places: dict[str, list[tuple[nn.Module, str]]] = {name: [] for name in self.each}
        names = {id(parameter): name for name, parameter in now.items()}
        parts = list(self._module.modules())
        for part in parts:
            for own, parameter in part.named_parameters(recurse=False, remove_duplicate=False):
                self._places[names[id(parameter)]].append((part, own))
        self._buffers = [(part, own, x.dtype) for part in parts for own, x in part.named_buffers(recurse=False)]
        #: Whose they are is known by these: the parameters, and the parts that have buffers.
        self._keys: list[Key] = [*self.each.values(), *{id(part): part for part, _, _ in self._buffers}.values()]

    def link(self, memory: Sequence[torch.Tensor], place: Place, owner: object) -> bool:
        """Makes memory of the core that of the parameters, and brings buffers to its device; gives whether anything
        changed. What was put in the parameters' places since this owner ran the module last goes to the core.

        Raises:
            ValueError: what was put there has another shape.
        """
        if self.mine(owner):
            moved = self._all_moved()
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
        self._keys[: len(self.each)] = self.each.values()
        owners.claim(self._keys, owner)
        self._changes, self._were_mine = owners.changes, True

    def mine(self, owner: object) -> bool:
        """Whether no other model has had some of them since this owner ran: their numbers are then this one's."""
        if self._changes != owners.changes:
            self._were_mine = all(owners.of(key) is owner for key in self._keys)
            self._changes = owners.changes
        return self._were_mine

    def give(self, memory: Callable[[], Sequence[torch.Tensor]], owner: object) -> None:
        """Brings to memory of the core what was put in the parameters' places.

        Raises:
            ValueError: it has another shape.
        """
        if self._all_moved():
            each = memory()
            self.link(each, (each[0].device, tuple(one.data_ptr() for one in each)), owner)

    def others(self, owner: object) -> list[object]:
        """Who else has had some of them since this owner ran last."""
        if self.mine(owner):
            return []
        each = {id(one): one for one in map(owners.of, self._keys) if one is not None and one is not owner}
        return list(each.values())

    def taken(self, owner: object) -> dict[str, torch.Tensor]:
        """Copies of what was put in the parameters' places, which is what they are from now on."""
        moved = {name: self._now(name).detach().clone() for name in self._all_moved()}
        self.each.update({name: self._now(name) for name in moved})
        self.note(owner)
        return moved

    def _all_moved(self) -> list[str]:
        return [name for name, seen in zip(self.each, self._seen, strict=True) if self._moved(name, seen)]

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
