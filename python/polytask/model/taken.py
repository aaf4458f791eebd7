"""What a model takes: as its caller says, as an example shows, or as a module of the caller's own says itself."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..arguments.numbers import whole
from ..components.own_module import Given, OwnModule, code, is_own, shown_part
from ..data import array_inputs
from ..data.inputs import Inputs
from ..data.task import Task
from ..values import arrays, frames
from .trial import Role, trial

_SHAPES = '{"image": (3, 32, 32), "table": 5}'


def inputs_of(inputs: Any, example: Any, encoder: Any, tasks: Sequence[Task]) -> Inputs:
    """The inputs of a model.

    Arguments:
        inputs: what the caller says they are, if anything.
        example: features of some rows, if there is one.
        encoder: which is asked if neither is there.
        tasks: whose targets an example by name may have, too.

    Raises:
        TypeError, ValueError: none of them says it; says what to pass.
    """
    if example is not None:
        if inputs is not None:
            raise TypeError("`inputs` are said or shown by `example`, not both; got both")
        return _read(_shown(example, tasks))
    if inputs is not None:
        return _read(inputs)
    wanted = "`inputs` should be pt.Inputs or the number of features"
    if not is_own(encoder):
        raise TypeError(f"{wanted}; got None")
    features = _said(encoder)
    if len(features) == 1:
        return Inputs(numeric=features[0])
    what = "takes rows of " + " and of ".join(map(str, features)) if features else "does not say itself what it takes"
    raise TypeError(f"{wanted}, or for a module of your own what it takes, such as {_SHAPES}, or `example=batch` "
                    f"should be features of some rows; got neither, and the module {what}")  # fmt: skip


def _read(inputs: Any) -> Inputs:
    if isinstance(inputs, Inputs):
        return inputs
    if is_own(inputs):
        raise TypeError(f"`inputs` should be pt.Inputs or the number of features; got {shown_part(inputs)}: a module "
                        "is passed by name, `encoder=`")  # fmt: skip
    given = array_inputs.given_for(inputs)
    return Inputs(numeric=whole(inputs, "`inputs`")) if given is None else Inputs(arrays=given)


def _shown(example: Any, tasks: Sequence[Task]) -> Any:
    """What the caller would have said of such features."""
    if frames.is_frame(example):
        raise TypeError("`example` should be arrays; inputs of a frame are pt.Inputs.from_frame(frame)")
    if isinstance(example, Mapping):
        targets = {column for task in tasks for column in task.columns}
        features = {name: x for name, x in example.items() if name not in targets}
        if not features:
            raise ValueError("`example` should have features; it has nothing but targets")
        return {name: _entry(x, f"`example[{name!r}]`") for name, x in features.items()}
    if isinstance(example, tuple | list) and any(hasattr(x, "shape") for x in example):
        return [_entry(x, f"`example[{at}]`") for at, x in enumerate(example)]
    entry = _entry(example, "`example`")
    # One number a feature is a row of features, and an array only where it has more axes.
    return entry.shape[0] if len(entry.shape) == 1 and entry.dtype != "bool" else {"x": entry}


def _entry(x: Any, argument: str) -> array_inputs.ArrayInput:
    """The shape of a row's entry, and its type; whole numbers may be meant to be others."""
    array, _ = arrays.unwrap(x, argument)
    if array.ndim == 0 or array.dtype.kind not in "fiub":
        kind = "one number" if array.ndim == 0 else array.dtype
        raise TypeError(f"{argument} should be numbers of some rows, [rows, ...]; got {kind}")
    dtype = {"f": "float32", "b": "bool"}.get(array.dtype.kind)
    return array_inputs.ArrayInput(array.shape[1:], dtype)


def _said(encoder: Given) -> list[int]:
    """Numbers of features with which a module works, of those that its layers take."""
    given = code(encoder)
    role = Role("`encoder`", 0, output=encoder.output if isinstance(encoder, OwnModule) else None)
    with torch.random.fork_rng(devices=[]):
        try:
            module = given if isinstance(given, nn.Module) else given()
        except Exception:
            return []
        if not isinstance(module, nn.Module) or any(map(nn.parameter.is_lazy, module.parameters())):
            return []
        found = dict.fromkeys(_widths(module))
        return [features for features in found if _works(module, role._replace(features=features))]


def _widths(module: nn.Module) -> Iterator[int]:
    """What layers of rows of features take, in the order in which they stand."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            yield part.in_features
        elif isinstance(part, nn.BatchNorm1d):
            yield part.num_features
        elif isinstance(part, nn.LayerNorm) and len(part.normalized_shape) == 1:
            yield part.normalized_shape[0]


def _works(module: nn.Module, role: Role) -> bool:
    try:
        trial(module, role, "the module")
    except ValueError:
        return False
    return True
