"""The modules of a model that are the caller's own: where they come from, and where in the model they stand."""

import inspect
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from .. import _core
from ..arguments.messages import listed, none_of
from ..components.component import Component
from ..components.own_module import Given, OfEncoder, OfHead, OwnModule, apart, code, is_module, is_own
from ..components.registry import make
from ..data.inputs import Inputs
from ..data.task import Task, missing_head
from ..values import memory
from .calling import TYPES, Part
from .custom_module import Module
from .trial import Role

_log = logging.getLogger("polytask")


class Source:
    """Where the modules of one part of a model come from; all have one layout.

    Arguments:
        given: a module, or a function that makes one each time: of nothing, or of the numbers of features and of
            outputs, where the role has outputs.
        role: what of a model they are.
        beside: where others of the same model come from; what shares parameters with theirs is copied.

    Raises:
        TypeError, ValueError: what cannot be that; says what was expected and what came.
    """

    def __init__(self, given: Given, role: Role, beside: Iterable["Source"] = ()) -> None:
        self.given = given
        self.role = _said(given, role)
        self.code = code(given)
        self._beside = [source for source in beside if source.single]
        self.first = self._made()
        self._handed_out = False

    @property
    def single(self) -> bool:
        """Whether it is one module and no more."""
        return isinstance(self.code, nn.Module)

    @property
    def whole(self) -> Given:
        """What gives the same again: the module as it is now, or the function."""
        if not self.single:
            return self.given
        return self.given.of(self.first.module) if isinstance(self.given, OwnModule) else self.first.module

    def next(self) -> Module:
        """The first, and then another each time."""
        if not self._handed_out:
            self._handed_out = True
            return self.first
        made = self._made()
        self._compare(made, self.first.describe(), "the function made a module")
        return made

    def check(self, stored: Mapping[str, Any]) -> None:
        """Refuses what is not laid out as in a file."""
        before, now = stored.get("output"), self.role.output
        if isinstance(before, str | int) and isinstance(now, str | int) and before != now:
            raise ValueError(f"{self.role.argument}: the model was made with output={before!r}; got {now!r}")
        self._compare(self.first, stored, f"the model was made with a module `{stored['class']}`")

    def _compare(self, made: Module, stored: Mapping[str, Any], expected: str) -> None:
        ours = made.describe()
        for key in ("parameters", "buffers", "width"):
            if ours[key] != stored[key]:
                difference = _difference(stored[key], ours[key])
                raise ValueError(f"{self.role.argument}: {expected} of other {key}: {difference}")

    def _made(self) -> Module:
        if isinstance(self.code, nn.Module):
            theirs = {id(p) for source in self._beside for p in source.first.module.parameters()}
            tied = [name for name, p in self.code.named_parameters() if id(p) in theirs]
            made = Module(self.code, self.role, copied=bool(tied))
            if tied:
                _log.warning("%s has parameters that another part of the model has too, and is copied: they are apart "
                             "in the model: %s", made.named, listed(tied))  # fmt: skip
            return made
        # A function may give what it has given before.
        return Module(self._called(self.code), self.role, copied=True)

    def _called(self, make: Callable[..., Any]) -> nn.Module:
        argument, features, outputs = self.role[:3]
        sizes = () if outputs is None else (features, outputs)
        if not _takes(make, sizes):
            sizes = ()
        if not _takes(make, sizes):
            if isinstance(make, type):
                raise TypeError(f"{argument} should be a module, not its class; write {make.__name__}(...)")
            wanted = "of nothing" if outputs is None else "of the numbers of features and outputs, or of nothing"
            raise TypeError(f"{argument}: a function should make a module {wanted}; got {make!r}")
        made = make(*sizes)
        if not isinstance(made, nn.Module):
            raise TypeError(f"{argument}: a function should make a torch.nn.Module; it made {made!r}")
        return made


class Modules:
    """All of a model: its encoder, of which a sharing scheme may want several, and heads of tasks.

    Arguments:
        encoder: where encoders come from, if they are the caller's own.
        usual: what makes the head of a task that has no other.
    """

    def __init__(self, encoder: Source | None = None, usual: Given | None = None) -> None:
        self.encoder = encoder
        self.usual = usual
        self.heads: dict[str, Source] = {}
        #: By the path where they stand; the core asks for them there.
        self.at: dict[str, Module] = {}
        #: There, the model's paths of what a module has by its own names.
        self._paths: dict[str, dict[str, str]] = {}

    def __bool__(self) -> bool:
        return bool(self.encoder or self.heads)

    def take_heads(self, description: Mapping[str, Any], tasks: Sequence[Task]) -> dict[str, Any]:
        """Makes those heads of these tasks that are the caller's own; gives the core's description of all that single
        tasks have for themselves.
        """
        given = {task.name: self.usual if task.head is None else task.head for task in tasks}
        own = {name: head for name, head in given.items() if is_own(head)}
        for name, role in _roles(description, own).items():
            self.heads[name] = Source(own[name], role, self._sources)
        described = {name: head.describe() for name, head in given.items() if isinstance(head, Component)}
        return described | {name: self.heads[name].first.describe() for name in own}

    def place(self, core: _core.Model, but: Iterable[str] = ()) -> None:
        """Puts modules where the network of a model has them, and their numbers into the model but for these paths;
        what is not to learn is frozen.
        """
        wanted = core.own_modules()
        encoders = [path for path, _, task, _ in wanted if task is None]
        if self.encoder is not None and self.encoder.single and len(encoders) > 1:
            sharing = core.description["sharing"]["name"]
            raise ValueError(f'`encoder`: "{sharing}" wants {len(encoders)} encoders, and a module of your own is one: '
                             'give a function that makes one each time, `encoder=lambda: Net()`')  # fmt: skip
        for path, _, task, _ in wanted:
            source = self.encoder if task is None else self.heads.get(task)
            if source is not None:
                self.at[path] = source.next()
        state = {}
        still = []
        for path, like, _, names in wanted:
            if path in self.at:
                self._paths[path] = paths = dict(zip(self.at[like].names, names, strict=True))
            if path in self.at and path not in but:
                state.update({paths[name]: start.numpy() for name, start in self.at[like].starts().items()})
                still += [paths[name] for name in self.at[path].still()]
        core.load_state(state, False)
        if still:
            core.freeze(still, True)

    def stand(self, core: _core.Model) -> None:
        """Puts modules where the network of a model has them that has its numbers, which become the modules' too."""
        wanted = core.own_modules()
        self.place(core, [path for path, *_ in wanted])
        state = core.state()
        for path, like, _, names in wanted:
            if path in self.at:
                paths = dict(zip(self.at[like].names, names, strict=True))
                self.at[path].start_from({name: state[there] for name, there in paths.items()})

    def give(self, core: _core.Model) -> None:
        """Brings to the model what the caller has put in its modules: numbers, and what is to learn."""
        lent: dict[str, Any] = {}

        def memory_at(paths: Mapping[str, str], name: str) -> torch.Tensor:
            if not lent:
                lent.update(core.memory())
            return memory.tensor(lent[paths[name]])

        with torch.inference_mode(False):
            for path, module in self.at.items():
                paths = self._paths[path]
                learning = module.give(partial(memory_at, paths))
                for learns in (True, False):
                    if some := [paths[name] for name, now in learning.items() if now == learns]:
                        core.freeze(some, not learns)

    @property
    def settings(self) -> list[Any]:
        """What they are and how they are set; equal as long as what was made of them is as good as another."""
        return [module.settings for module in self.at.values()]

    def rest(self) -> None:
        """Says that no step is on its way in this thread."""
        for module in self.at.values():
            module.rest()

    @property
    def _sources(self) -> list[Source]:
        return [*([] if self.encoder is None else [self.encoder]), *self.heads.values()]

    @property
    def of_tasks(self) -> dict[str, Source]:
        """Those heads that tasks were given themselves."""
        return {name: source for name, source in self.heads.items() if source.given is not self.usual}

    def heads_of(self, description: Mapping[str, Any]) -> dict[str, Component | Given]:
        """The heads that tasks of a description were given themselves, or what stands for one that is lost."""
        found: dict[str, Component | Given] = {}
        for name, stored in (description.get("heads") or {}).items():
            if name in self.of_tasks:
                found[name] = self.heads[name].given
            elif name not in self.heads:
                found[name] = make("head", stored) or missing_head(name, stored["class"])
        return found

    def another(self, without: Iterable[str] = ()) -> "Modules":
        """The same for another model, without the heads of these tasks."""
        encoder = None if self.encoder is None else Source(apart(self.encoder.whole), self.encoder.role)
        new = Modules(encoder, None if is_module(self.usual) else self.usual)
        kept = {name: source for name, source in self.heads.items() if name not in without}
        for name, source in kept.items():
            new.heads[name] = Source(apart(source.whole), source.role)
        return new

    @classmethod
    def again(
        cls,
        description: Mapping[str, Any],
        encoder: Given | None,
        heads: Mapping[str, Given] | Given | None,
        usual: Given | None,
    ) -> "Modules":
        """Those with which a model was made, for the description in its file.

        Raises:
            ValueError: the model has no modules of the caller's own there, or others.
        """
        new = cls(usual=usual)
        if encoder is not None:
            stored = description["encoder"]
            if stored["name"] != "custom":
                raise ValueError(f"`encoder`: the model's encoder is {stored['name']!r}, which needs no module; leave "
                                 "it out")  # fmt: skip
            new.encoder = encoder_source(
                _as_stored(encoder, stored, OfEncoder), Inputs.restore(description["inputs"], None)
            )
            new.encoder.check(stored)
        own = {name: head for name, head in (description.get("heads") or {}).items() if head["name"] == "custom"}
        by_task = heads if isinstance(heads, Mapping) else {}
        for_all = usual if isinstance(heads, Mapping) or heads is None else heads
        given = {**({} if for_all is None else dict.fromkeys(own, for_all)), **by_task}
        unknown = [name for name in given if name not in own]
        if unknown:
            known = none_of(unknown[0], own, "those that have one are")
            raise ValueError(f"`heads`: no head of your own has task {known}")
        for name, role in _roles(description, given).items():
            new.heads[name] = Source(_as_stored(given[name], own[name], OfHead), role, new._sources)
            new.heads[name].check(own[name])
        return new


def encoder_source(given: Given, inputs: Inputs) -> Source:
    """Where encoders over these inputs come from."""
    features = _core.features(inputs.describe())
    if inputs.positions:
        return Source(given, Role("`encoder`", features, positions=True))
    arrays = [
        Part(name, array.shape, TYPES if array.dtype is None else (getattr(torch, array.dtype),))
        for name, array in inputs.arrays.items()
    ]
    beside = features - sum(part.size for part in arrays)
    # What embeddings give is to have a gradient.
    types = TYPES[:1] if inputs.categorical else TYPES
    rest = [Part("features" if arrays else None, (beside,), types)] if beside else []
    return Source(given, Role("`encoder`", features, inputs=(*rest, *arrays)))


def _said(given: Given, role: Role) -> Role:
    """The role with what is said of such modules."""
    if not isinstance(given, OwnModule):
        return role
    family = "encoder" if role.outputs is None else "head"
    if given.family != family:
        raise TypeError(f"{role.argument} should be pt.{family}.Torch(...); got pt.{given.family}.{given!r}")
    return role._replace(output=given.output, width=given.width)


def _as_stored(given: Given, stored: Mapping[str, Any], made: type[OfEncoder] | type[OfHead]) -> Given:
    """What is given in place of a lost one; what is not said of it is what the file keeps of what was said of that."""
    output = stored.get("output")
    said: dict[str, Any] = {"output": output} if isinstance(output, str | int) else {}
    said |= {name: stored[name] for name in stored.get("said") or ()}
    if isinstance(given, OwnModule):
        lacking = {name: value for name, value in said.items() if getattr(given, name) is None}
        return given.of(given.module, **lacking) if lacking and isinstance(given, made) else given
    return made(given, **said) if said else given


def _roles(description: Mapping[str, Any], tasks: Collection[str]) -> dict[str, Role]:
    """What heads of these tasks of a description are."""
    if not tasks:
        return {}
    sizes = _core.Model.head_sizes({**description, "heads": None})
    names = [task["name"] for task in description["tasks"]]
    found = {name: Role(f"task `{name}`: `head`", *size) for name, size in zip(names, sizes, strict=True)}
    return {name: found[name] for name in tasks}


def _takes(make: Callable[..., Any], arguments: Sequence[Any]) -> bool:
    """Whether a function can be called with these."""
    try:
        inspect.signature(make).bind(*arguments)
    except TypeError:
        return False
    except ValueError:  # what is built in may not say
        return not arguments
    return True


def _difference(stored: Any, ours: Any) -> str:
    if not isinstance(stored, list):
        return f"{stored} there, {ours} here"
    lacking = [each for each in stored if each not in ours]
    name, shape = (lacking or [each for each in ours if each not in stored] or stored)[0]
    if not lacking:
        return f"`{name}` {shape} is not there"
    found = dict(map(tuple, ours)).get(name)
    return f"`{name}` is {shape} there and {'missing' if found is None else found} here"
