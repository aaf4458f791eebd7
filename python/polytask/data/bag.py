"""A categorical feature with several values a row: the genres of a film, the last items of a user."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..arguments.numbers import whole
from ..embedding import Convolution


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
    combine: str | Convolution = "mean"

    def __post_init__(self) -> None:
        whole(self.categories, "`categories`")
        whole(self.length, "`length`")
        if not isinstance(self.combine, Convolution) and self.combine not in ("mean", "sum"):
            raise ValueError(f'`combine` should be "mean" or "sum"; got {self.combine!r}')

    def describe(self) -> dict[str, Any]:
        """What the core reads."""
        combine = self.combine.describe() if isinstance(self.combine, Convolution) else self.combine
        return {"categories": int(self.categories), "length": int(self.length), "combine": combine}


def read(feature: Any) -> "int | Bag":
    """A feature as the core described it."""
    if not isinstance(feature, dict):
        return int(feature)
    combine = feature["combine"]
    combine = Convolution(**combine["convolution"]) if isinstance(combine, Mapping) else combine
    return Bag(feature["categories"], feature["length"], combine)
