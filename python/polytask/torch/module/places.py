"""Where in a module the parameters of a network stand: nested modules, so that a state dict has the network's paths."""

from keyword import iskeyword

from torch import nn
from torch.fx import GraphModule

from .layers import BatchNorm

#: What a part of a path cannot be called, since modules have something else by that name.
_LAYERS = (nn.Linear(1, 1, device="meta"), nn.LayerNorm(1, device="meta"), nn.Embedding(1, 1, device="meta"))
_TAKEN = {*dir(GraphModule), *dir(BatchNorm), "running_mean", "running_var", "eps", "momentum", "frozen"}
_TAKEN.update(name for layer in _LAYERS for name in dir(layer))


class Places:
    """A module in the making, whose layers stand at the paths of the network.

    Attributes:
        root: the module.
        renamed: the paths of parameters here that are not the network's, with the network's: a task may be called
            `train`, which a part of a module may not.
    """

    def __init__(self) -> None:
        self.root = nn.Module()
        self.renamed: dict[str, str] = {}

    def put(self, path: str, module: nn.Module) -> str:
        """Puts a module at a path; gives the path that it then has."""
        *above, last = parts = _parts(path)
        owner = self._owner(above)
        before = owner._modules.get(last)
        if before is not None:
            if type(before) is not nn.Module:
                raise ValueError(f"two parts of the network would stand at `{path}`: give the tasks other names")
            for name, child in before._modules.items():
                setattr(module, name, child)
            for name, parameter in before._parameters.items():
                setattr(module, name, parameter)
        setattr(owner, last, module)
        place = ".".join(parts)
        if place != path:
            self.renamed.update({f"{place}.{name}": f"{path}.{name}" for name in module.state_dict()})
        return place

    def hold(self, path: str, parameter: nn.Parameter) -> str:
        """Puts a parameter at a path where no layer is."""
        above, _, last = path.rpartition(".")
        parts = _parts(above)
        setattr(self._owner(parts), last, parameter)
        place = ".".join([*parts, last])
        if place != path:
            self.renamed[place] = path
        return place

    def _owner(self, parts: list[str]) -> nn.Module:
        owner = self.root
        for part in parts:
            inner = owner._modules.get(part)
            if inner is None:
                inner = nn.Module()
                setattr(owner, part, inner)
            owner = inner
        return owner


def place(path: str) -> str:
    """Where in a module something of this path stands that is a module."""
    return ".".join(_parts(path))


def _parts(path: str) -> list[str]:
    parts = path.split(".")
    if "" in parts:
        raise ValueError(f"`{path}` cannot be a path within a torch module, whose parts have names: give the tasks "
                         "other names")  # fmt: skip
    return [f"{part}_" if part in _TAKEN or iskeyword(part) else part for part in parts]
