"""A model as a module of torch, over copies of its parameters or over the parameters themselves; and back."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

from .. import _core
from ..arguments.messages import listed
from ..components.own_module import Given, OfEncoder, OfHead, OwnModule, code
from ..data.array_inputs import ArrayInput
from ..data.rows import Rows
from ..data.task import Task
from ..torch.module import Array, MultiTaskModule, Own, Pick, Predicted, Split, Taken, build, identifier, place
from ..values import memory
from ..values.ragged import Ragged
from .custom_module import Module
from .own_modules import Modules


class Wanted(NamedTuple):
    """Features as a module takes them under a name.

    Attributes:
        shape: of a row's entry.
        dtype: their type.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype

    def fits(self, x: torch.Tensor) -> bool:
        """Whether a tensor is such features; whole numbers may have fewer bytes."""
        whole = not x.is_floating_point() and not x.is_complex() and x.dtype != torch.bool
        alike = whole if self.dtype == torch.int64 else x.dtype in {self.dtype, *_NARROWER.get(self.dtype, ())}
        return alike and x.dim() > 0 and x.shape[1:] == self.shape

    def __str__(self) -> str:
        shape = ", ".join(["rows", *map(str, self.shape)])
        return f"[{shape}] of {str(self.dtype).removeprefix('torch.')}"


#: Types that a type of features takes as well.
_NARROWER = {torch.float32: (torch.float16, torch.bfloat16)}


class Shared:
    """Tensors of torch over the memory of a model: the same ones for all modules that share it.

    Attributes:
        tensors: parameters and statistics by path.
    """

    def __init__(self) -> None:
        self.tensors: dict[str, Any] = {}
        self._device: str | None = None
        #: Of each parameter, whether it learns, as far as it is known to the core.
        self._learning: dict[str, bool] = {}
        self._wanted: dict[str, Wanted] | None = None
        self._kept: dict[Any, tuple[Any, MultiTaskModule]] = {}

    def follow(self, core: _core.Model) -> None:
        """Makes them those of the memory that the model has now, which learn if they are not frozen."""
        if self._device != core.device:
            self._device = core.device
            for path, lent in core.memory().items():
                new = memory.tensor(lent)
                if path in self.tensors:
                    self.tensors[path].grad = None
                    self.tensors[path].data = new
                else:
                    self.tensors[path] = new
        frozen = set(core.frozen)
        for path, _, kind in core.names():
            if kind == "parameter":
                learns = path not in frozen
                if not isinstance(self.tensors[path], nn.Parameter):
                    self.tensors[path] = nn.Parameter(self.tensors[path], learns)
                self.tensors[path].requires_grad_(learns)
                self._learning[path] = learns

    def give(self, core: _core.Model) -> None:
        """Brings to the model which of the parameters the caller has had learn since, or not learn."""
        now = {path: bool(self.tensors[path].requires_grad) for path in self._learning}
        for learns in (True, False):
            if some := [path for path, each in now.items() if each == learns != self._learning[path]]:
                core.freeze(some, not learns)
        self._learning = now

    def wanted(self, core: _core.Model) -> dict[str, Wanted]:
        """What the forward of modules takes."""
        if self._wanted is None:
            self._wanted = wanted(core)
        return self._wanted

    def kept(self, key: Any, make: Callable[[], MultiTaskModule]) -> MultiTaskModule:
        """A module that was made for such a key before, or a new one; one is kept of each way of asking."""
        way, state = key
        if (found := self._kept.get(way)) is None or found[0] != state:
            self._kept[way] = found = (state, make())
        return found[1]


def made(
    core: _core.Model,
    modules: Modules,
    tasks: Sequence[Task],
    notes: Mapping[str, Any],
    *,
    shared: Shared | None,
    raw: bool,
    terms: bool,
) -> MultiTaskModule:
    """The model's network as a module, with a description of the model.

    Raises:
        ValueError: what has no counterpart in torch; a module of the caller's own that is not there.
    """
    network = core.network()
    # Tensors that are made in inference mode would stay such, and within transforms of torch.func be none for the core.
    with torch.inference_mode(False), torch.enable_grad(), temporarily_clear_interpreter_stack():
        if shared is None:
            source = _copies(core)
        else:
            shared.follow(core)
            source = shared.tensors.__getitem__
        own = {path: _own(modules, path, names, source) for path, _, _, names in core.own_modules()}
        temperatures = notes["learned"].get("temperatures") or {}
        pairs = zip(tasks, network["tasks"], strict=True)
        predicted = [_predicted(task, said["link"], temperatures.get(task.name)) for task, said in pairs]
        made_of = {**core.description, "face": dict(notes)}
        how: dict[str, Any] = {"raw": raw, "terms": terms, "made_of": made_of, "device": torch.device(core.device)}
        return build(network, predicted, source, own, _arrays(core), **how)


def _copies(core: _core.Model) -> Callable[[str], Any]:
    """New tensors, those of parameters learning if they are not frozen."""
    frozen = set(core.frozen)
    parameters = {path for path, _, kind in core.names() if kind == "parameter"}
    numbers = core.state()
    device = torch.device(core.device)

    def copied(path: str) -> Any:
        tensor = torch.from_numpy(numbers[path]).to(device)
        return nn.Parameter(tensor, path not in frozen) if path in parameters else tensor

    return copied


def _predicted(task: Task, link: dict[str, Any], temperature: float | None) -> Predicted:
    if task.custom and task.classes:
        # A Python loss over classes works on logits.
        link = {"name": "softmax"}
    scale = None if task.scaling is None else task.scaling.describe()
    return Predicted(task.name, link, None if task.classes else task.outputs, scale, temperature)


def _own(modules: Modules, path: str, names: Sequence[str], source: Callable[[str], Any]) -> Own:
    """A copy of a module of the caller's own over such tensors; buffers that are not float32 are copies anyway."""
    if path not in modules.at:
        raise ValueError(f"the module at `{path}` was Python code, which a file cannot hold: pass it to `load` again")
    own = modules.at[path]
    paths = dict(zip(own.starts(), names, strict=True))
    twin = copy.deepcopy(own.module)
    known = {parameter: source(paths[name]) for name, parameter in twin.named_parameters()}
    for part in twin.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = known[parameter]
    for name, buffer in list(twin.named_buffers()):
        if name in paths:
            new = source(paths[name])
            above, _, last = name.rpartition(".")
            same = buffer.dtype == new.dtype
            twin.get_submodule(above)._buffers[last] = new if same else new.detach().to(buffer.dtype, copy=True)
    return Own(twin, own.width, own.masked, _given(own), own.role.output)


def _given(own: Module) -> Taken | None:
    """What a module takes that is no row of features."""
    (first, *others), types, form, _ = own.calling
    if own.role.positions or (not others and len(first.shape) == 1 and types[0] == torch.float32 and form == "place"):
        return None
    split = Split([part.shape for part in own.calling.parts], types)
    names = None if form == "place" else [part.name or "features" for part in own.calling.parts]
    return Taken(split, names, form == "dict")


def wanted(core: _core.Model) -> dict[str, Wanted]:
    """What the forward of a module takes, by name."""
    network = core.network()
    arrays = {name: Wanted(array.shape, array.type) for name, array in _arrays(core).items()}
    found = {}
    for given in (each for each in network["inputs"] if not each["shown"]):
        columns = len(given["codes"]) if "codes" in given else network["values"][given["value"]]["width"]
        if given["name"] in arrays:
            found[identifier(given["name"])] = arrays[given["name"]]
        elif columns > 0:
            found[identifier(given["name"])] = Wanted((columns,), torch.int64 if "codes" in given else torch.float32)
    ragged = [axis["name"] for axis in network["axes"] if axis["extent"] == "ragged"]
    return found | {identifier(f"{name}/lengths"): Wanted((), torch.int64) for name in ragged}


def _arrays(core: _core.Model) -> dict[str, Array]:
    """The inputs that are arrays."""
    read = ((each["name"], ArrayInput.restore(each)) for each in core.description["inputs"].get("arrays") or ())
    return {name: Array(array.shape, getattr(torch, str(array.dtype))) for name, array in read}


def given(x: Any, wants: Mapping[str, Wanted]) -> dict[str, torch.Tensor]:
    """Features by name, from one tensor or a dict of them.

    Raises:
        TypeError, ValueError: something else; says what was expected and what came.
    """
    if isinstance(x, torch.Tensor) and len(wants) == 1:
        x = {next(iter(wants)): x}
        called = "`x`"
    elif isinstance(x, torch.Tensor):
        raise TypeError(f"`x` should be a dict of tensors with the keys {listed(wants)}; got one tensor")
    elif not isinstance(x, Mapping):
        raise TypeError(f"`x` should be a torch.Tensor, or a dict of them with the keys {listed(wants)}; got "
                        f"{type(x).__name__}: `predict` takes features in any form, and `tensors` makes them "
                        "tensors")  # fmt: skip
    else:
        called = ""
    if set(x) != set(wants):
        raise ValueError(f"`x` should have the keys {listed(wants)}; got {listed(map(str, x))}")
    for name, want in wants.items():
        _check(x[name], want, called or f"`x[{name!r}]`")
    return {name: x[name] for name in wants}


def _check(x: Any, want: Wanted, called: str) -> None:
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"{called} should be a torch.Tensor; got {type(x).__name__}")
    if not want.fits(x):
        kind = str(x.dtype).removeprefix("torch.")
        raise ValueError(f"{called} should be {want}; got {list(x.shape)} of {kind}")


def tensors(rows: Sequence[Rows], wants: Mapping[str, Wanted], device: torch.device) -> dict[str, torch.Tensor]:
    """Features of rows by the names that a module has for them."""
    found: dict[str, list[Any]] = {name: [] for name in wants}
    for part in rows:
        arrays = {"numeric": part.numeric, "categorical": part.categorical}
        for name, ragged in part.fields.items():
            if not isinstance(ragged, Ragged):
                arrays[name] = ragged
                continue
            arrays[name] = ragged.values[ragged.offsets[0] : ragged.offsets[-1]]
            arrays[f"{name.partition('/')[0]}/lengths"] = ragged.lengths
        for name, array in arrays.items():
            if array is not None and (called := identifier(name)) in found:
                numbers = np.asarray(array, str(wants[called].dtype).removeprefix("torch."))
                found[called].append(numbers.reshape(-1, *wants[called].shape))
    return {name: torch.from_numpy(np.concatenate(each)).to(device) for name, each in found.items()}


def described(module: Any) -> dict[str, Any]:
    """What a module says of the model that it was made of.

    Raises:
        TypeError, ValueError: another module.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"`module` should be a torch.nn.Module; got {type(module).__name__}")
    if not isinstance(module, MultiTaskModule):
        raise ValueError("`module` should be what `MultiTaskModel.to_torch` made, or a copy of it; it says of no model "
                         f"that it was made of it, being a {type(module).__name__}")  # fmt: skip
    made_of: dict[str, Any] = module.made_of
    return made_of


def modules_of(module: nn.Module, core: _core.Model) -> tuple[Any, dict[str, Given]]:
    """Copies of those parts of a module that are the caller's own: what gives encoders, and heads by task."""
    encoders: list[Given] = []
    heads: dict[str, Given] = {}
    picks = {pick.path: pick.output for pick in module.modules() if isinstance(pick, Pick)}
    for path, _, task, _ in core.own_modules():
        copied = copy.deepcopy(module.get_submodule(place(path)))
        of = OfEncoder if task is None else OfHead
        part = of(copied, picks[path]) if path in picks else copied
        if task is None:
            encoders.append(part)
        else:
            heads[task] = part
    if len(encoders) > 1:
        first = encoders[0]

        def another() -> Any:
            return copy.deepcopy(code(first))

        return first.of(another) if isinstance(first, OwnModule) else another, heads
    return next(iter(encoders), None), heads


def numbers(module: nn.Module, core: _core.Model) -> dict[str, np.ndarray]:
    """The parameters and statistics of a module by path, as the core takes them.

    Raises:
        ValueError: some are not there.
    """
    state = module.state_dict()
    found = {}
    for path, _, _ in core.names():
        above, _, last = path.rpartition(".")
        tensor = state.get(path, state.get(f"{place(above)}.{last}"))
        if tensor is None:
            raise ValueError(f"`module` should have all parameters of the model it was made of; it has no `{path}`")
        found[path] = tensor.detach().to("cpu", torch.float32).numpy()
    return found
