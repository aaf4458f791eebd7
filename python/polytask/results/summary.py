"""What a model is made of, as a table."""

from html import escape
from typing import Any

from .table import Table


class Summary(Table):
    """One line a layer, and below them who needs how many parameters.

    Attributes:
        layers: path, kind, shape, tasks (whom it serves), parameters and frozen ones of each layer; a layer that two
            nodes are of, as a chain's, which predicts by one and is judged by another, is there once.
        parameters: of the whole model.
        shared: parameters that all tasks share.
        tasks: parameters of each task alone.
        frozen: parameters that do not learn.
        single_task: parameters of as many networks of one task each, with the same inputs, encoder and head.
        scales: of the tasks whose targets train in a scale of their own: what was learned of it.
        texts: of each text: how many tokens have a code, and of which level.
    """

    def __init__(
        self,
        layers: list[dict[str, Any]],
        shared: int,
        tasks: list[tuple[str, int]],
        frozen: int,
        single_task: int,
        scales: dict[str, str] | None = None,
        texts: dict[str, str] | None = None,
    ) -> None:
        self.layers = _once(layers)
        self.shared = shared
        self.tasks = dict(tasks)
        self.parameters: int = shared + sum(self.tasks.values())
        self.frozen = frozen
        self.single_task = single_task
        self.scales = scales or {}
        self.texts = texts or {}

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        header = ["path", "kind", "shape", "tasks", "parameters", *(["frozen"] if self.frozen else [])]
        return header, [[layer[key] for key in header] for layer in self.layers]

    def _lines(self) -> list[str]:
        alone = ", ".join(f"{name} {count:,}" for name, count in self.tasks.items())
        learning = f"{self.parameters - self.frozen:,} learn, {self.frozen:,} are frozen"
        one = len(self.tasks) == 1
        ratio = self.single_task / max(self.parameters, 1)
        networks = "1 single-task network" if one else f"{len(self.tasks)} single-task networks"
        return [
            f"{self.parameters:,} parameters: {learning}",
            f"shared by all tasks {self.shared:,}; of one task alone: {alone}",
            f"{networks} would need {self.single_task:,} parameters ({ratio:.2f} x)",
            *(f"{name} trains, and its loss is, in a scale: {scale}" for name, scale in self.scales.items()),
            *(f"text `{name}` has {said}" for name, said in self.texts.items()),
        ]

    def __repr__(self) -> str:
        return "\n".join([super().__repr__(), "", *self._lines()])

    def _repr_html_(self) -> str:
        lines = "<br>".join(map(escape, self._lines()))
        return f"{super()._repr_html_()}<p>{lines}</p>"


def _once(layers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Layers without nodes that have the parameters of an earlier one."""
    # A path with a star is of several, which may be others each time.
    return [
        layer
        for at, layer in enumerate(layers)
        if not layer["path"] or "*" in layer["path"] or layer not in layers[:at]
    ]
