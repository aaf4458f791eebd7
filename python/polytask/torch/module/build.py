"""From a network's description to a graph of torch.fx."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.fx import Graph, Proxy
from torch.fx.proxy import GraphAppendingTracer
from torch.nn import functional

from ...components.own_module import Output
from . import links
from .graph_module import MultiTaskModule
from .layers import Split
from .nodes import TRANSLATIONS
from .places import Places
from .values import Group, Node, Value, identifier

#: Parameters and statistics by their paths in the network.
Source = Callable[[str], Any]


class Own(NamedTuple):
    """A module of the caller's own.

    Attributes:
        module: the module, whose parameters and buffers are already those that it is to have.
        width: numbers a row of its output.
        masked: whether it is given where positions are.
        given: what it takes, if that is no row of features.
        output: which of several outputs is meant.
    """

    module: nn.Module
    width: int
    masked: bool
    given: "Taken | None" = None
    output: Output | None = None


class Taken(NamedTuple):
    """What a module of the caller's own takes that is no row of features.

    Attributes:
        split: what makes its inputs of a row.
        names: their names, if they come by name.
        together: whether they come in one dict.
    """

    split: Split
    names: Sequence[str] | None
    together: bool


class Array(NamedTuple):
    """An input of the network that is an array: the shape of a row's entry, and its type."""

    shape: tuple[int, ...]
    type: torch.dtype


def build(
    network: Mapping[str, Any],
    tasks: Sequence[links.Predicted],
    source: Source,
    own: Mapping[str, Own],
    arrays: Mapping[str, Array],
    *,
    raw: bool,
    terms: bool,
    made_of: Any,
    device: torch.device,
) -> MultiTaskModule:
    """The network as a module, in evaluation mode.

    Arguments:
        network: what the core says of it.
        tasks: the tasks in order.
        source: a parameter or a statistic by its path.
        own: modules of the caller's own by their paths.
        arrays: those inputs that are arrays, by name.
        raw: whether it gives raw outputs instead of predictions.
        terms: whether it gives the network's terms too.
        made_of: what it is to say that it was made of.
        device: where its parameters are.

    Raises:
        ValueError: a node that has no translation, or a name that a module cannot have.
    """
    return _Building(network, source, own, arrays, terms, device).whole(tasks, raw, made_of)


class _Building:
    """A graph in the making, as translations see it."""

    def __init__(
        self,
        network: Mapping[str, Any],
        source: Source,
        own: Mapping[str, Own],
        arrays: Mapping[str, Array],
        terms: bool,
        device: torch.device,
    ) -> None:
        self.network = network
        self.entries: list[dict[str, Any]] = network["entries"]
        self.source = source
        self.own = own
        self.arrays = arrays
        self.wants_terms = terms
        self.device = device
        self.graph = Graph()
        self.places = Places()
        self._tracer = GraphAppendingTracer(self.graph)
        self._values: dict[int, Value] = {}
        self._codes: dict[int, Tensor] = {}
        self._lengths: dict[int, Tensor] = {}
        self._on: dict[int, Tensor] = {}
        self._numbers: dict[int, Tensor] = {}
        self._parents: dict[int, Tensor] = {}
        self._terms: dict[str, list[Tensor]] = {}
        self._state: dict[int, dict[str, Any]] = {
            entry["start"]: entry for entry in self.entries if entry["param"] is None
        }
        self._read = [x for node in network["nodes"] for x in node["inputs"]]
        self._given: set[int] = set()

    def whole(self, tasks: Sequence[links.Predicted], raw: bool, made_of: Any) -> MultiTaskModule:
        """All of it."""
        self._inputs()
        for index, described in enumerate(self.network["nodes"]):
            node = Node(index, **described)
            if node.kind not in TRANSLATIONS or node.attributes is None:
                raise ValueError(f"the network has a node `{node.kind}`, which has no translation into torch")
            self._values[node.output] = TRANSLATIONS[node.kind](node, self)
        outputs = {
            task.name: self._output(task, place, raw)
            for task, place in zip(tasks, self.network["outputs"], strict=True)
        }
        found = (outputs, self._sums()) if self.wants_terms else outputs
        self.graph.output(_nodes(found))
        self.graph.lint()
        return MultiTaskModule.of(self.places.root, self.graph, made_of, self.places.renamed).eval()

    def _inputs(self) -> None:
        axes = self.network["axes"]
        links_of = [link["by"] for node in self.network["nodes"] for link in node["links"]]
        if any(isinstance(axis["extent"], list) for axis in axes) or {*links_of} - {"row"}:
            raise ValueError("the network has grids, or moves between pairs and their positions, which have no "
                             "translation into torch")  # fmt: skip
        widths = [value["width"] for value in self.network["values"]]
        for index, given in enumerate(self.network["inputs"]):
            if given["shown"]:
                continue
            if "codes" in given:
                if given["codes"]:
                    self._codes[index] = self._placeholder(given["name"])
                    self._on.setdefault(given["axis"], self._codes[index])
                continue
            value = given["value"]
            self._given.add(value)
            parts = [(widths[value], self._numbers_of(given["name"], widths[value]))] if widths[value] else []
            self._values[value] = Value([Group(parts)])
            for _, part in parts:
                self._on.setdefault(given["axis"], part)
        for axis, described in enumerate(axes):
            if described["extent"] == "ragged":
                self._lengths[axis] = self._placeholder(f"{described['name']}/lengths")

    def _numbers_of(self, name: str, width: int) -> Tensor:
        """An input `[rows, width]` of floats."""
        found = self._placeholder(name)
        return found.reshape(-1, width).to(torch.float32) if name in self.arrays else found

    def _placeholder(self, name: str) -> Tensor:
        return cast(Tensor, Proxy(self.graph.placeholder(identifier(name), Tensor), self._tracer))

    def _output(self, task: links.Predicted, place: Mapping[str, Any], raw: bool) -> Tensor:
        start, stop = place["columns"]
        outputs = self._values[place["value"]].groups[place["group"]].columns(start, stop)
        members = self.members(self.axis(place["value"]))
        if members is not None:
            outputs = links.together(task, outputs, members)
        if not raw:
            outputs = links.predicted(
                task, outputs, lambda kind, layer: self.layer(f"{kind}.{task.name}", layer), self.device
            )
        return links.shaped(task, outputs, stop - start)

    def _sums(self) -> dict[str, Tensor]:
        sums: dict[str, Tensor] = {name: sum(each[1:], each[0]) for name, each in self._terms.items()}
        return sums

    # What translations ask for.

    def inputs(self, node: Node) -> list[Value]:
        """The values that a node reads."""
        return [self._values[x] for x in node.inputs]

    def codes(self, node: Node) -> Tensor:
        """The codes that a node reads, `[rows, columns]`."""
        return self._codes[node.codes[0]]

    def alone(self, node: Node) -> bool:
        """Whether nobody else reads what a node reads, so that it may write there."""
        return all(self._read.count(x) == 1 and x not in self._given for x in node.inputs)

    def pieces(self, node: Node, k: int) -> list[dict[str, Any]]:
        """The entries that a node's `k`-th parameter consists of, in order."""
        return [self.entries[index] for index in self.network["params"][node.params[k]]["pieces"]]

    def statistics(self, start: int) -> dict[str, Any]:
        """The entry that starts there in the flat state."""
        return self._state[start]

    def layer(self, path: str, module: nn.Module) -> Callable[..., Tensor]:
        """A module at a path, to be called on proxies."""
        place = self.places.put(path, module)
        return lambda *args, **named: cast(Tensor, self._tracer.create_proxy("call_module", place, args, named))

    def parameter(self, entry: Mapping[str, Any]) -> Tensor:
        """A parameter that no layer has."""
        place = self.places.hold(entry["name"], self.source(entry["name"]))
        return cast(Tensor, self._tracer.create_proxy("get_attr", place, (), {}))

    def lengths(self, axis: int) -> Tensor:
        """How many positions each row has, `[rows]`."""
        return self._lengths[axis]

    def numbers(self, axis: int) -> Tensor:
        """The number of each position among all, `[positions]`."""
        if axis not in self._numbers:
            any_column = self._on[axis][:, 0]
            self._numbers[axis] = torch.ones_like(any_column, dtype=torch.int64).cumsum(0) - 1
        return self._numbers[axis]

    def parents(self, axis: int) -> Tensor:
        """The row of each position, `[positions]`."""
        if axis not in self._parents:
            # As many rows end up to each position.
            ends = self._lengths[axis].cumsum(0)
            none = functional.pad(torch.zeros_like(self.numbers(axis)), (0, 1))
            self._parents[axis] = none.scatter_add(0, ends, torch.ones_like(ends))[:-1].cumsum(0)
        return self._parents[axis]

    def members(self, axis: int) -> int | None:
        """How many members of an ensemble an axis is of, if it is."""
        extent = self.network["axes"][axis]["extent"]
        return extent["members"] if isinstance(extent, dict) else None

    def axis(self, value: int) -> int:
        """What the rows of a value are."""
        axis: int = self.network["values"][value]["axis"]
        return axis

    def term(self, name: str, number: Tensor) -> None:
        """Adds to a term of the objective."""
        self._terms.setdefault(name, []).append(number)


def _nodes(found: Any) -> Any:
    """Nodes in the place of proxies."""
    if isinstance(found, dict):
        return {name: _nodes(each) for name, each in found.items()}
    return tuple(map(_nodes, found)) if isinstance(found, tuple) else found.node
