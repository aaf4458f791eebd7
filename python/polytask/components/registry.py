"""The registry: a class for each component that the core has, by family and name."""

import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from .. import _core
from ..arguments.messages import listed
from .by_label import Loss
from .component import Component
from .own_module import OfEncoder, OfHead, OwnModule
from .standalone import Weighting

REGISTRY: list[dict[str, Any]] = _core.components()

#: Families whose components can do more than hold their arguments.
BASES: dict[str, type[Component]] = {"weighting": Weighting, "loss": Loss}
#: Families of which a part may be a module of the caller's own: what says more of one, which is called `Torch` there.
OWN: dict[str, type[OwnModule]] = {"encoder": OfEncoder, "head": OfHead}
for _family, _own in OWN.items():
    _own.__name__ = _own.__qualname__ = "Torch"
    _own.__module__ = f"polytask.{_family}"


def component(family: str, value: Any, argument: str) -> Component:
    """The component itself, or the one of a name.

    Raises:
        TypeError: neither, or one of another family.
        ValueError: an unknown name.
    """
    if isinstance(value, Component):
        if value.family != family:
            raise TypeError(f"`{argument}` should be one of pt.{family}; got {value!r} of pt.{value.family}")
        return value
    if isinstance(value, str):
        _core.check(family, {"name": value})
        return _CLASSES[family, value]()
    names = listed(info["name"] for info in REGISTRY if info["family"] == family)
    raise TypeError(f"`{argument}` should be one of pt.{family} or its name ({names}); got {value!r}")


def describe(family: str, value: Any, argument: str) -> dict[str, Any]:
    """What the core reads for a component or its name."""
    return component(family, value, argument).describe()


def make(family: str, description: Mapping[str, Any]) -> Component | None:
    """The component of a description, if the registry has it."""
    arguments = dict(description)
    cls = _CLASSES.get((family, arguments.pop("name", "")))
    return cls(**{key: value for key, value in arguments.items() if key in cls.defaults()}) if cls else None


def _class(info: dict[str, Any]) -> type[Component]:
    parameters = [
        inspect.Parameter(each["name"], inspect.Parameter.POSITIONAL_OR_KEYWORD, default=each["default"])
        for each in info["parameters"]
    ]
    body = {
        "__doc__": _docstring(info),
        "__module__": f"polytask.{info['family']}",
        "__signature__": inspect.Signature(parameters),
        "family": info["family"],
        "name": info["name"],
    }
    return type(info["class"], (BASES.get(info["family"], Component),), body)


def _docstring(info: dict[str, Any]) -> str:
    lines = [info["doc"]]
    if info["parameters"]:
        lines += ["", "Arguments:"]
        lines += [f"    {each['name']} (default {each['default']!r}): {each['doc']}" for each in info["parameters"]]
    return "\n".join(lines)


def modules() -> dict[str, ModuleType]:
    """A module for each family: `optim`, `loss`, `schedule`, `weighting`, ..."""
    families: dict[str, ModuleType] = {}
    for (family, _), cls in _CLASSES.items():
        module = families.setdefault(family, ModuleType(f"polytask.{family}", f"The `{family}` components."))
        setattr(module, cls.__name__, cls)
        module.__dict__.setdefault("__all__", []).append(cls.__name__)
    for family, own in OWN.items():
        vars(families[family])["Torch"] = own
        families[family].__dict__["__all__"].append("Torch")
    return families


_CLASSES = {(info["family"], info["name"]): _class(info) for info in REGISTRY}
