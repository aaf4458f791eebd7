"""The layers of a model as a table."""

from typing import Any

from .table import Table


class Summary(Table):
    """One line a layer; `parameters` is their sum."""

    def __init__(self, layers: list[dict[str, Any]]) -> None:
        self.layers = layers
        self.parameters: int = sum(layer["parameters"] for layer in layers)

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        header = ["name", "kind", "groups", "width", "shared", "parameters"]
        rows: list[list[Any]] = [[layer[key] for key in header] for layer in self.layers]
        return header, [*rows, ["all", "", "", "", "", self.parameters]]
