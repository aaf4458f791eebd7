"""What a module of the caller's own consists of, and whether it has been rebuilt since it was looked at."""

from typing import Any

from torch import nn

#: Types of attributes that are settings.
_PLAIN = {bool, int, float, str, type(None)}


class Layout:
    """The modules within a module, and what each has of its own.

    Arguments:
        module: the module.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self.read()

    def read(self) -> None:
        """Looks at it as it is now."""
        self.parts = list(self._module.modules())
        self._seen = [_inside(part) for part in self.parts]

    @property
    def changed(self) -> bool:
        """Whether a part was put in another's place, or a parameter came or went."""
        return any(_inside(part) != seen for part, seen in zip(self.parts, self._seen, strict=True))

    @property
    def settings(self) -> list[tuple[nn.Module, dict[str, Any]]]:
        """Its parts, each with the plain values that it has as attributes, but for whether it trains."""
        each = ((part, vars(part)) for part in self._module.modules())
        return [(part, {name: x for name, x in own.items() if type(x) in _PLAIN and name != "training"})
                for part, own in each]  # fmt: skip

    @property
    def modes(self) -> list[bool]:
        """Whether each part trains."""
        return [part.training for part in self.parts]


def _inside(part: nn.Module) -> tuple[list[nn.Module | None], list[str]]:
    own = [name for name, parameter in part._parameters.items() if parameter is not None]
    return list(part._modules.values()), own
