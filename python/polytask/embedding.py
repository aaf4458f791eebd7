"""Embeddings: what numbers and characters become before the encoder sees them.

Those of numbers are for `pt.Inputs(embed=...)`, those of characters of words for `pt.Text(characters=...)`.
Gorishniy, Rubachev and Babenko, On Embeddings for Numerical Features in Tabular Deep Learning, NeurIPS 2022; Ma and
Hovy, End-to-end Sequence Labeling via Bi-directional LSTM-CNNs-CRF, ACL 2016.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from .arguments.messages import none_of
from .arguments.numbers import whole

__all__ = ["CharCNN", "Periodic", "Piecewise"]

#: What edges of bins may be learned from.
SOURCES = ("quantiles", "trees")
#: What a convolution over codes goes through at the end.
ACTIVATIONS = ("relu", "tanh")


class _Shown:
    """Shows the arguments that are not the usual ones, as components do."""

    def __repr__(self) -> str:
        each = ((field.name, getattr(self, field.name), field.default) for field in fields(self))  # type: ignore[arg-type]
        said = ", ".join(f"{name}={value!r}" for name, value, usual in each if value != usual)
        return f"{type(self).__name__}({said})"


@dataclass(frozen=True, repr=False)
class Piecewise(_Shown):
    """Piecewise-linear embeddings: `act(e(x) W) + s x + b` of a number `x`, with `W` `[bins, width]`, `s` and `b` of
    each feature's own.

    `e(x)` has a number a bin: 1 for each bin below that of `x`, how far `x` is through its own, and 0 above. The first
    bin goes on below its edge, the last one above its own. With `linear` the whole begins as a linear embedding, `W`
    being 0, as in TabM (Gorishniy, Kotelnikov and Babenko, ICLR 2025; version B of the authors' package); without it is
    `act(e(x) W + b)` (the paper, version A).

    Edges of bins are learned from the training rows by the first `fit`, of numbers as the network sees them (those of
    a frame in their scale, a missing one at its middle), and stay: they are statistics of the model,
    `embedding.numeric.edges` `[features, bins + 1]`, where a feature of fewer bins repeats its last edge. A feature
    that is the same everywhere has no bin, and is its linear embedding alone.

    `by="quantiles"` cuts a feature so that bins have equally many rows, equal edges counting once. `by="trees"` cuts it
    where decision trees of that one feature split the rows, which needs scikit-learn: a tree a task, of the rows that
    have a label of it, with `bins / tasks` leaves each and at least 2; a bin ends where any of them splits, and of more
    splits than `bins` has room for those are taken that are spread evenly among them. Classes are split by Gini's
    impurity, values and several labels by the variance of their standardised columns.

    Arguments:
        width: numbers a feature.
        bins: most bins of a feature; or their edges, a rising array for each numeric feature.
        by: `"quantiles"` or `"trees"`.
        linear: whether there is a linear embedding beside.
        activation: whether what is piecewise-linear goes through a ReLU.
        leaf: rows that a leaf of a tree has at least.
    """

    width: int = 16
    bins: int | Sequence[Any] = 48
    by: str = "quantiles"
    linear: bool = True
    activation: bool = False
    leaf: int = 64

    def __post_init__(self) -> None:
        whole(self.width, "`width`")
        whole(self.leaf, "`leaf`")
        if self.by not in SOURCES:
            raise ValueError(f"`by`: unknown source of edges {none_of(self.by, SOURCES, 'there are')}")
        _truths(linear=self.linear, activation=self.activation)
        if isinstance(self.bins, str | bytes) or not hasattr(self.bins, "__iter__"):
            whole(self.bins, "`bins`")
        else:
            object.__setattr__(self, "bins", tuple(_edges(each, j) for j, each in enumerate(self.bins)))

    @property
    def edges(self) -> "tuple[tuple[float, ...], ...] | None":
        """The edges of each feature's bins, if they were given."""
        return self.bins if isinstance(self.bins, tuple) else None

    @property
    def most(self) -> int:
        """Most bins of a feature."""
        return max(len(each) - 1 for each in self.bins) if isinstance(self.bins, tuple) else int(self.bins)  # type: ignore[arg-type]

    def describe(self) -> dict[str, Any]:
        """What the core reads."""
        truths = {"linear": bool(self.linear), "activation": bool(self.activation)}
        return {"name": "piecewise", "width": int(self.width), "bins": self.most, **truths}

    def notes(self) -> dict[str, Any]:
        """What the core need not know."""
        return {"by": self.by, "leaf": int(self.leaf)}


@dataclass(frozen=True, repr=False)
class Periodic(_Shown):
    """Periodic embeddings: `act([cos(2 pi c x), sin(2 pi c x)] W + b)` of a number `x`, with frequencies `c`, `W` `[2 *
    frequencies, width]` and `b` of each feature's own.

    Frequencies start normal with the standard deviation `scale`, which is worth a search (0.01 to 100), and none beyond
    three of it. With `lite` all features have one `W` and `b` (Gorishniy et al., TabR, ICLR 2024), which the authors
    always follow by the ReLU.

    Arguments:
        width: numbers a feature.
        frequencies: how many a feature.
        scale: of the first frequencies.
        lite: whether features share the linear layer.
        activation: whether a ReLU comes last.
        raw: whether the number itself comes too.
    """

    width: int = 24
    frequencies: int = 48
    scale: float = 0.01
    lite: bool = False
    activation: bool = True
    raw: bool = False

    def __post_init__(self) -> None:
        whole(self.width, "`width`")
        whole(self.frequencies, "`frequencies`")
        _truths(lite=self.lite, activation=self.activation, raw=self.raw)
        scale = self.scale
        if isinstance(scale, bool) or not isinstance(scale, int | float | np.floating | np.integer):
            raise TypeError(f"`scale` should be a number above 0; got {scale!r}")
        if not 0 < scale < float("inf"):
            raise ValueError(f"`scale` should be a number above 0; got {scale!r}")
        if self.lite and not self.activation:
            raise ValueError("`lite` should come with the activation, without which features would differ by their "
                             "frequencies alone; got activation=False")  # fmt: skip

    def describe(self) -> dict[str, Any]:
        """What the core reads."""
        truths = {"lite": bool(self.lite), "activation": bool(self.activation), "raw": bool(self.raw)}
        sizes = {"width": int(self.width), "frequencies": int(self.frequencies)}
        return {"name": "periodic", **sizes, "scale": float(self.scale), **truths}

    def notes(self) -> dict[str, Any]:
        """What the core need not know."""
        return {}


@dataclass(frozen=True)
class Convolution:
    """Filters of a convolution over the embeddings of a bag's codes in their order, and the largest number of each."""

    filters: int
    width: int
    activation: str

    def __post_init__(self) -> None:
        whole(self.filters, "`filters`")
        if whole(self.width, "`width`") % 2 == 0:
            raise ValueError(f"`width` should be odd, so that a kernel has a middle; got {self.width!r}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f'`activation` should be "relu" or "tanh"; got {self.activation!r}')

    def describe(self) -> dict[str, Any]:
        """What the core reads."""
        sizes = {"filters": int(self.filters), "width": int(self.width)}
        return {"convolution": {**sizes, "activation": self.activation}}


@dataclass(frozen=True, repr=False)
class CharCNN(_Shown):
    """What the characters of a word say of it: a convolution over their embeddings, of which the largest number of each
    filter is kept (Ma and Hovy, End-to-end Sequence Labeling via Bi-directional LSTM-CNNs-CRF, ACL 2016; Santos and
    Zadrozny, ICML 2014; of texts of characters Zhang, Zhao and LeCun, NIPS 2015).

    For characters `c_1 ... c_n` with embeddings `e` it is `act(b + max over i of sum over t of K_t e(c_(i + t - r)))`,
    with `r = (width - 1) / 2` and zeros beyond the ends of the word: `torch.nn.Conv1d` with `padding=r`, the maximum
    over a word's own characters, and an activation, which keeps the maximum where it is. A word without characters has
    zeros.

    Of a text `text` the model's parameters are `embedding.text.<feature>.weight` `[characters, embedding]`, and behind
    that name `convolution.weight` `[width, filters, embedding]` and `convolution.bias` `[filters]`. A step multiplies
    each character with the kernel once, and a word is sums of such products, so that it takes `length * width *
    filters` additions; this is exact.

    Arguments:
        filters: numbers a word.
        width: characters that a kernel covers, an odd number.
        embedding: width of the characters' embeddings.
        length: the most characters of a word; of a longer one as many from its beginning as from its end.
        activation: `"relu"` or `"tanh"`.
    """

    filters: int = 64
    width: int = 3
    embedding: int = 32
    length: int = 16
    activation: str = "relu"

    def __post_init__(self) -> None:
        self.combine()
        whole(self.embedding, "`embedding`")
        whole(self.length, "`length`")

    def combine(self) -> Convolution:
        """What becomes of the codes of a word."""
        return Convolution(self.filters, self.width, self.activation)

    def describe(self) -> dict[str, Any]:
        """Its arguments as JSON has them."""
        sizes = {name: int(getattr(self, name)) for name in ("filters", "width", "embedding", "length")}
        return {**sizes, "activation": self.activation}


Embedding = Piecewise | Periodic
_KINDS: dict[str, type[Piecewise] | type[Periodic]] = {"piecewise": Piecewise, "periodic": Periodic}


def read(given: Any, numeric: int) -> Embedding | None:
    """An embedding of so many numeric features as callers say it: an object, or the name of one with its defaults.

    Raises:
        TypeError, ValueError: something else, or one that does not fit the features.
    """
    if given is None:
        return None
    if isinstance(given, str):
        if given not in _KINDS:
            raise ValueError(f"`embed`: unknown embedding {none_of(given, _KINDS, 'there are')}")
        given = _KINDS[given]()
    if not isinstance(given, Piecewise | Periodic):
        raise TypeError(f"`embed` should be pt.embedding.Piecewise, pt.embedding.Periodic or None; got {given!r}")
    if numeric == 0:
        raise ValueError("`embed` is for numeric features, of which there are none")
    edges = given.edges if isinstance(given, Piecewise) else None
    if edges is not None and len(edges) != numeric:
        raise ValueError(f"`embed`: `bins` should be a number, or have edges for each of {numeric} numeric features; "
                         f"got {len(edges)}")  # fmt: skip
    return given


def made(name: str, arguments: Mapping[str, Any]) -> Embedding:
    """One of numeric features, by its name."""
    return _KINDS[name](**arguments)


def restored(described: dict[str, Any] | None, notes: dict[str, Any] | None) -> Embedding | None:
    """An embedding as the core described it, with what the face noted."""
    if described is None:
        return None
    said = {name: value for name, value in described.items() if name != "name"}
    return replace(_KINDS[described["name"]](**said), **(notes or {}))


def _truths(**given: Any) -> None:
    for name, value in given.items():
        if not isinstance(value, bool | np.bool_):
            raise TypeError(f"`{name}` should be True or False; got {value!r}")


def _edges(given: Any, feature: int) -> tuple[float, ...]:
    """Edges of one feature's bins.

    Raises:
        ValueError: edges that do not rise, or too few.
    """
    edges = np.asarray(given, np.float64)
    if edges.ndim != 1 or len(edges) < 2 or not np.isfinite(edges).all():
        raise ValueError(f"`bins`: edges of feature {feature} should be at least two finite numbers; got {given!r}")
    # What is apart in double precision alone would be one edge to the core.
    if (np.diff(edges.astype(np.float32)) <= 0).any():
        raise ValueError(f"`bins`: edges of feature {feature} should rise; got {given!r}")
    return tuple(edges.tolist())
