"""What a module of the caller's own consists of, and whether it has been rebuilt since it was looked at."""

from torch import nn


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
    def modes(self) -> list[bool]:
        """Whether each part trains."""
        return [part.training for part in self.parts]


def _inside(part: nn.Module) -> tuple[list[nn.Module | None], list[str]]:
    own = [name for name, parameter in part._parameters.items() if parameter is not None]
    return list(part._modules.values()), own
