"""What a training observes of its tasks' weights and gradients and of regularizers, as columns of the history."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

#: What can be observed: the weights, the gradients at the shared parameters.
KINDS = ("weights", "gradients")
CONFLICT = "conflict"
_WEIGHT = "/weight"
_NORM = "/gradient_norm"
_COSINE = "cosine/"
_REGULARIZER = "regularizer/"


def read(observe: Any) -> list[str]:
    """The kinds that are to be observed.

    Raises:
        TypeError, ValueError: something else.
    """
    if not isinstance(observe, str | Iterable):
        raise TypeError(f'`observe` should be "weights", "gradients" or both; got {observe!r}')
    given = [observe] if isinstance(observe, str) else list(observe)
    for each in given:
        if each not in KINDS:
            raise ValueError(f'`observe` should be "weights", "gradients" or both; got {each!r}')
    return [kind for kind in KINDS if kind in given]


def row(kinds: Sequence[str], tasks: Sequence[str], observed: dict[str, Any]) -> dict[str, float]:
    """The columns of an epoch, from what the core reports; a number that is not known is NaN."""
    found: dict[str, float] = {}
    if "weights" in kinds:
        found |= {weight(task): number(value) for task, value in zip(tasks, observed["weights"], strict=True)}
    if "gradients" in kinds:
        found |= {norm(task): number(value) for task, value in zip(tasks, observed["norms"], strict=True)}
        for i, one in enumerate(tasks):
            for j, other in enumerate(tasks[i + 1 :], i + 1):
                found[cosine(one, other)] = number(observed["cosines"][i][j])
        found[CONFLICT] = number(observed["conflict"])
    return found


def columns(kinds: Sequence[str], tasks: Sequence[str]) -> list[str]:
    """The columns of `row`."""
    nothing = [None] * len(tasks)
    empty = {"weights": nothing, "norms": nothing, "cosines": [nothing] * len(tasks), "conflict": None}
    return list(row(kinds, tasks, empty))


def regularizers(names: Iterable[str]) -> list[str]:
    """The columns of regularizers by these names; a second one of a name has a number."""
    seen = Counter[str]()
    found = list[str]()
    for name in names:
        seen[name] += 1
        found.append(f"{_REGULARIZER}{name}" + (f"_{seen[name]}" if seen[name] > 1 else ""))
    return found


def weight(task: str) -> str:
    """The column of a task's weight."""
    return task + _WEIGHT


def norm(task: str) -> str:
    """The column of the norm of a task's gradient."""
    return task + _NORM


def cosine(one: str, other: str) -> str:
    """The column of the cosine between two tasks' gradients."""
    return f"{_COSINE}{one}/{other}"


def is_observed(column: str) -> bool:
    """Whether a column of a history is one of these."""
    return column == CONFLICT or _is_cosine(column) or column.endswith((_WEIGHT, _NORM))


def _is_cosine(column: str) -> bool:
    # A task may be called like the columns' beginning; its own columns have two components.
    return column.startswith(_COSINE) and column.count("/") == 2


def split(column: str) -> tuple[str, str]:
    """What a column holds, and whose it is: `("auroc", "income")`, `("cosine", "income/age")`."""
    if _is_cosine(column) or column.startswith(_REGULARIZER):
        what, _, whose = column.partition("/")
        return what, whose
    whose, _, what = column.rpartition("/")
    return what, whose or "all tasks"


def weighted(columns: Iterable[str]) -> list[str]:
    """The tasks whose weights a history has."""
    return [column.removesuffix(_WEIGHT) for column in columns if column.endswith(_WEIGHT)]


def compared(columns: Iterable[str]) -> list[str]:
    """The tasks whose gradients a history has."""
    return [column.removesuffix(_NORM) for column in columns if column.endswith(_NORM)]


def number(value: float | None) -> float:
    """A number of the core's; NaN where it has none."""
    return float("nan") if value is None else float(value)
