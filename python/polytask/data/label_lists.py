"""Labels that are lists or triples where a task does not say so: what it would have to say."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..values import lists, ragged
from ..values.known import is_missing
from . import span_labels

if TYPE_CHECKING:
    from .task import Task

Lists = Iterable[tuple[int, Sequence[Any]]]


def refuse_positions(value: Any, task: "Task", argument: str, per: str) -> None:
    """Refuses labels of positions for a task of rows, where `per` is what a task calls the model's positions.

    Raises:
        ValueError: rows that are lists; says what their labels need.
    """
    expected = "one label a row" if task.outputs == 1 else f"{task.outputs} labels a row"
    needs = f'labels of positions need per="{per}"'
    if isinstance(value, np.ndarray | torch.Tensor) and value.ndim == 2:
        if task.outputs == 1 and value.shape[1] != 1:
            raise ValueError(f"{argument} should be {expected}; got an array of shape {list(value.shape)}; {needs}")
        return
    rows = _rows(value, argument)
    first = next((row for row in rows if not _is_absent(row)), None)
    if not _is_list(first):
        return
    found = [(at, row) for at, row in enumerate(rows) if _is_list(row)]
    _refuse_triples(found, f"{argument} should be {expected}", f'spans need spans="BIO" and per="{per}"')
    at, row = next(((at, row) for at, row in found if _is_of_more(row, task.outputs)), (0, None))
    if row is None:
        return
    other = next(((at, each) for at, each in found if len(each) != len(row)), None)
    got = f"a list of {len(row)} at row {at}"
    got += "" if other is None else f", one of {len(other[1])} at row {other[0]}"
    raise ValueError(f"{argument} should be {expected}; got {got}; {needs}")


def refuse_triples(value: Any, argument: str) -> None:
    """Refuses spans and relations for a task that has a label a position.

    Raises:
        ValueError: there are triples; says what they need.
    """
    rows = ((at, row) for at, row in enumerate(span_labels.listed(value) or ()) if _is_list(row))
    _refuse_triples(rows, f"{argument} should be a label a position", 'spans need spans="BIO"')


def _refuse_triples(rows: Lists, expected: str, needs: str) -> None:
    at, first = next(((at, row[0]) for at, row in rows if len(row)), (0, ()))
    if _is_triple(first):
        raise ValueError(f'{expected}; got the triple {tuple(first)} at row {at}; {needs}, relations per="pair"')


def _rows(value: Any, argument: str) -> Sequence[Any]:
    """What rows have, if that may be lists."""
    if not lists.is_column(value):
        return span_labels.listed(value) or ()
    try:
        rows = ragged.read(value, argument)
    except (TypeError, ValueError):
        return ()
    return [rows.values[start:end] for start, end in zip(rows.offsets[:-1], rows.offsets[1:], strict=True)]


def _is_list(row: Any) -> bool:
    return isinstance(row, list | tuple) or (isinstance(row, np.ndarray | torch.Tensor) and row.ndim > 0)


def _is_absent(row: Any) -> bool:
    return not _is_list(row) and is_missing(row)


def _is_of_more(row: Sequence[Any], outputs: int) -> bool:
    """Whether a row has more than its labels: as many as it likes, or several for each of them."""
    return len(row) != 1 if outputs == 1 else len(row) > 0 and _is_list(row[0])


def _is_triple(value: Any) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 3:
        return False
    return all(isinstance(each, int | np.integer) for each in value[:2]) and isinstance(value[2], str)
