"""The layers of a model as a table."""

from typing import Any

from .table import Table


class Summary(Table):
    """One line a layer; `parameters` is their sum."""

    def __init__(self, layers: list[dict[str, Any]]) -> None:
        self.layers = layers
        self.parameters: int = sum(layer["parameters"] for layer in layers)

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        header = list(dict.fromkeys(key for layer in self.layers for key in layer if key != "parameters"))
        rows: list[list[Any]] = [[layer.get(key) for key in header] + [layer["parameters"]] for layer in self.layers]
        return [*header, "parameters"], [*rows, ["all", *[""] * (len(header) - 1), self.parameters]]
