"""A categorical feature with several values a row: the genres of a film, the last items of a user."""

from dataclasses import dataclass
from typing import Any

from ..arguments.numbers import whole


@dataclass(frozen=True)
class Bag:
    """A feature of up to `length` codes a row, in as many neighbouring columns, -1 where there is none.

    Its embedding is the mean or the sum of the codes' embeddings, as that of `torch.nn.EmbeddingBag`; of no code at all
    it is zero. A code that comes twice counts twice.

    Arguments:
        categories: number of categories, whose codes count from 0.
        length: most codes a row has.
        combine: `"mean"` or `"sum"`.
    """

    categories: int
    length: int
    combine: str = "mean"

    def __post_init__(self) -> None:
        whole(self.categories, "`categories`")
        whole(self.length, "`length`")
        if self.combine not in ("mean", "sum"):
            raise ValueError(f'`combine` should be "mean" or "sum"; got {self.combine!r}')

    def describe(self) -> dict[str, Any]:
        """What the core reads."""
        return {"categories": int(self.categories), "length": int(self.length), "combine": self.combine}


def read(feature: Any) -> "int | Bag":
    """A feature as the core described it."""
    return Bag(**feature) if isinstance(feature, dict) else int(feature)
