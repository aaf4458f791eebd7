"""Batches of rows of similar length: whether they can be made of these data."""

from ..data import Mixed, Rows, Stream
from ..data.inputs import Inputs


def check(data: Rows | Stream | Mixed, inputs: Inputs, shuffle: bool) -> None:
    """Refuses rows that have no length, and those whose order is not ours to choose.

    Raises:
        ValueError: what is wrong.
    """
    if not shuffle:
        raise ValueError("`group_by_length` chooses an order of rows, and shuffle=False keeps the one they have: leave "
                         "one of them out")  # fmt: skip
    parts = data.parts if isinstance(data, Mixed) else [data]
    for part in parts:
        if isinstance(part, Stream):
            raise ValueError(f"`group_by_length`: {_elsewhere(part)}; pass its rows in memory")
    if not inputs.positions:
        raise ValueError("`group_by_length`: the length of a row is how many positions it has, and the model's inputs "
                         "have neither `text` nor `positions`")  # fmt: skip


def _elsewhere(stream: Stream) -> str:
    """Why rows of a stream are not grouped here."""
    if stream.numbered:
        return f"the rows of `{stream.argument}` are read one by one, and how long they are is not known before"
    return f"the loader of `{stream.argument}` makes its batches, and it alone can group rows"
