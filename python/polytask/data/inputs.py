"""Features: numbers, categories, and what was learned from a frame about its columns."""

import copy
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .. import embedding as embeddings
from ..arguments.keywords import checked
from ..arguments.messages import listed, none_of
from ..arguments.numbers import whole
from ..values import frames
from . import array_inputs, sources, text_inputs
from .bag import Bag, read
from .columns import SCALES, TWO_VALUED, Columns, Passage
from .task import Task
from .text import Text

_log = logging.getLogger("polytask")


class Inputs:
    """What a batch of features looks like: `numeric` numbers, and codes below each of the `categorical` sizes.

    Features are then `{"numeric": [rows, numeric], "categorical": [rows, columns]}`, or one array if there is only one
    kind; a feature takes one column of codes, a `pt.Bag` as many as it has codes at most. `Inputs.from_frame` derives
    all of it from a frame.

    A step touches a sparse table in the rows of its batch alone, and so costs the same whatever the size of the table:
    the gradient is those rows, and the optimizer updates them and their state (see `pt.optim.Adam` and
    `pt.optim.Adagrad` for what that changes). The state takes memory as rows are touched, of a large table in pages of
    2 MiB. A sparse table starts with the variance of a dense one, but uniform instead of normal. Regularizers leave
    sparse tables out; gradient methods leave them out of what they compare, and apply their weights to them (a method
    that gives a direction instead of weights leaves them the plain sum). A table that should count there is dense:
    `sparse=False`.

    Features of positions within rows, as many as each row has (tokens, frames), are inputs of their own:
    `Inputs(positions={"tokens": pt.Inputs(categorical=[30_000], embedding=64)})`. Features are then
    `{"tokens": [[5, 7, 2], [8], ...]}`, rows of different lengths in any form: lists, object arrays, nested tensors,
    columns of lists. What a row has beside them each of its positions has too. Tasks are of rows, or of positions
    (`pt.Task(per="tokens")`).

    Text is an input of positions too, its tokens: `Inputs(text=pt.Text().fit(sentences))`, or `text={"question": ...}`
    for another name than `text`. What the model keeps of a `pt.Text` a later `fit` of that does not change.

    A module of your own as encoder may take arrays of any shape, by name: `Inputs(arrays={"image": (3, 32, 32),
    "table": 5})`, or `pt.MultiTaskModel({"image": (3, 32, 32), "table": 5}, encoder=module, ...)`. Features are then
    `{"image": [rows, 3, 32, 32], "table": [rows, 5]}`, numbers of any type that float32 has too. A module is given each
    as float32, unless the shape comes with a type, `"ids": (12, "int64")`, `"padding": (12, "bool")`; without one the
    module is tried on floats, truths and whole numbers, in this order; where it makes something else of truths than of
    floats, as attention does of its masks, truths are refused until a type is said. Built-in encoders take arrays flat,
    one after the other.

    Arguments:
        numeric: how many numeric features.
        categorical: number of categories of each categorical feature, whose codes count from 0; or a `pt.Bag`.
        embedding: width of the embeddings, one number or one a feature; by default they grow with the categories, as
            does one that is None in a list. A feature whose width is 0 there is not read.
        sparse: which tables are sparse: `"auto"` for those of at least 100,000 categories, True, False, or a list with
            True or False a feature.
        positions: inputs of positions within rows, by name; tables of theirs are not sparse.
        arrays: shapes of a row's entries, by name, or shapes and types; a number is the size of a vector, and `()` is
            one number a row.
        text: a `pt.Text` that has learned its codes, or one by name.
        embed: how each numeric feature becomes several numbers: `pt.embedding.Piecewise`, `pt.embedding.Periodic`,
            `"piecewise"` or `"periodic"` for one with its defaults, or None for as they are.
    """

    @checked
    def __init__(
        self,
        numeric: int = 0,
        categorical: Sequence[int | Bag] = (),
        embedding: int | Sequence[int | None] | None = None,
        sparse: str | bool | Sequence[bool] = "auto",
        positions: "Mapping[str, Inputs] | None" = None,
        arrays: "Mapping[str, Any] | None" = None,
        embed: "embeddings.Embedding | str | None" = None,
        text: "Text | Mapping[str, Text] | None" = None,
    ) -> None:
        self.numeric = whole(numeric, "`numeric`", 0)
        self.categorical = _features(categorical)
        #: Texts by name, each of which is one of the positions, too.
        self.text = text_inputs.read(text)
        self.positions = _positions(_with_texts(positions, self.text))
        self.arrays = array_inputs.read(arrays)
        twice = next((name for name in self.arrays if name in self.positions), None)
        if twice is not None:
            raise ValueError(f"`arrays` should have other names than `positions`; got {twice!r} in both")
        if self.numeric + len(self.categorical) == 0 and not self.positions and not self.arrays:
            raise ValueError("`numeric` and `categorical` should be at least one feature together; got none")
        self.embedding = _embedding(embedding, len(self.categorical))
        self.sparse = _sparse(sparse, len(self.categorical))
        self.embed = embeddings.read(embed, self.numeric)
        #: What was learned of a frame's columns other than texts.
        self.tabular: Columns | None = None
        #: Whether code 0 of each feature stands for what was not seen.
        self._unseen = False

    @classmethod
    @checked
    def from_frame(
        cls,
        frame: Any,
        *,
        numeric: Sequence[str] | None = None,
        categorical: Sequence[str] | None = None,
        bags: Sequence[str] = (),
        exclude: Sequence[str] = (),
        weights: str | Sequence[str] = (),
        min_count: int = 1,
        bins: int | None = None,
        numbers: str = "standard",
        indicators: bool = False,
        two_valued: str = "numeric",
        separator: str = "|",
        combine: str = "mean",
        embedding: int | Sequence[int | None] | None = None,
        sparse: str | bool | Sequence[bool] = "auto",
        embed: "embeddings.Embedding | str | None" = None,
        text: "str | Sequence[str] | Text | Mapping[str, Text] | None" = None,
    ) -> "Inputs":
        """Learns from the columns of a pandas or polars frame; `repr` shows, and the log says, what they are taken for,
        and `inputs.columns` shows it as a table, gives each one by name or in turn, and what was learned of it.

        Numbers are standardised, a missing one becomes the mean, and all of a column that has one value here become 0,
        since nothing is learned of it; dates are numbers too, of days since 1970-01-01 (those with a time zone in UTC),
        and so are spans of time, of days, and strings that are dates as ISO 8601 writes them (2024-01-31,
        2024-01-31T12:30:00+01:00), among which a few words ("unknown") and dates that there are not are missing, which
        is logged. Categories get codes, and code 0 is for those that were not seen here or fewer than `min_count`
        times, whose embedding starts at 0; true and false are one, and so are all other strings, those of digits
        included, but for empty ones, which are missing. A category may come in another type later, as the string "3"
        for the number 3. The targets' columns are left out when a model is made.

        With `bins`, numbers come twice: standardised, and as the bin they fall into, embedded like a category. That
        lets a network make the sharp and many-sided cuts in one column by which trees win on tables (compare Gorishniy
        et al., On Embeddings for Numerical Features in Tabular Deep Learning, NeurIPS 2022). A value that alone fills
        more than a bin's share has a bin of its own; the others are cut at quantiles.

        Arguments:
            frame: the training data, never validation or test data; a polars `LazyFrame`, a table of Arrow, a dict of
                columns or a list of dicts will do.
            numeric: numeric columns; by default every column of numbers, dates or spans of time that is not in
                `categorical`. Strings of digits are numbers in a column that is named here.
            categorical: categorical columns; every other column that holds no numbers is one too, unless `numeric`
                says which columns to take.
            bags: columns with several values a row: lists, tuples, sets, or strings with a separator. The longest bag
                here says how many columns of codes one becomes; longer ones are cut later, which is logged.
            exclude: columns to leave out.
            weights: columns of row weights, which are left out too; `fit(weights=...)` says which weights what.
            min_count: how often a category must occur.
            bins: about how many bins a number has; none by default.
            numbers: how numbers are scaled, by what is learned here: `"standard"` (less the mean, by the deviation),
                `"robust"` (less the median, by the interquartile range of what would be a normal law: for few very
                large ones), `"quantile"` (made normal by a curve through at most 257 quantiles, outside of which it
                is level: for skewed ones) or `"none"` (as they are). A missing number becomes the mean, or the median.
            indicators: whether a column in which numbers are missing here gets another that says where: 1, else 0.
            two_valued: `"categorical"` takes columns of numbers that have two distinct values here, what is missing
                aside, for categories, where `numeric` does not name them; what comes later and is neither of the two is
                then a value that was not seen. Dates and spans of time stay numbers, and `"numeric"` leaves all of them
                so.
            separator: what stands between the values of a bag in a string.
            combine: `"mean"` or `"sum"`: what becomes of the values of a bag, see `pt.Bag`.
            embedding, sparse: as for `Inputs`; bags come after the categories, and binned numbers last.
            embed: as for `Inputs`; indicators are embedded too. Edges of bins are learned by `fit`.
            text: a column of texts, or `{column: pt.Text(...)}`; a `pt.Text` alone is that of the column `text`, and a
                list may name the column. Its codes are learned here. What a row has in other columns each of its tokens
                has beside its own.
        """
        given = frame
        frame = frames.framed(sources.columned(frame))
        if not frames.is_frame(frame):
            raise TypeError(f"`frame` should be a pandas or polars frame; got {type(given).__name__}")
        if len(frame) == 0:
            raise ValueError("`frame` has no rows")
        least = whole(min_count, "`min_count`")
        parts = None if bins is None else whole(bins, "`bins`", 2)
        if not isinstance(separator, str) or not separator:
            raise ValueError(f"`separator` should be a string of at least one character; got {separator!r}")
        apart = [weights] if isinstance(weights, str) else list(weights)
        texts = text_inputs.fitted(text, frame)
        names = numeric, categorical, exclude, bags, [*apart, *texts]
        if numbers not in SCALES:
            raise ValueError(f"`numbers`: unknown scale {none_of(numbers, SCALES, 'there are')}")
        if isinstance(embed, embeddings.Piecewise) and embed.edges is not None:
            raise ValueError("`embed`: `bins` should be a number, since numbers of a frame come in scales of their "
                             "own; got edges")  # fmt: skip
        if two_valued not in TWO_VALUED:
            raise ValueError(f"`two_valued` should be one of {listed(TWO_VALUED)}; got {two_valued!r}")
        how = combine, separator, numbers, bool(indicators), two_valued
        columns = Columns.learn(frame, names, least, parts, *how)
        found = cls._of_columns(columns, embedding, sparse, embed, texts or None)
        _log.info("features of the frame: %s", found._said())
        return found

    @classmethod
    def _of_columns(
        cls, columns: Columns, embedding: Any = None, sparse: Any = "auto", embed: Any = None, text: Any = None
    ) -> "Inputs":
        inputs = cls(columns.numeric, columns.features(), embedding, sparse, embed=embed, text=text)
        inputs.tabular = columns if columns.names else None
        inputs._unseen = True
        return inputs

    def without(self, tasks: Sequence[Task]) -> "Inputs":
        """These inputs without the columns that hold targets: a model must not see what it is to predict."""
        targets = {name for task in tasks for name in task.columns}
        if self.tabular is None or not targets & set(self.names):
            return self
        _log.info("left out of the features, being targets: %s", listed(sorted(targets & set(self.names), key=str)))
        at = [i for i, column in enumerate(self.tabular.embedded) if column.name not in targets]
        embedding = [self.embedding[i] for i in at] if isinstance(self.embedding, list) else self.embedding
        sparse = [self.sparse[i] for i in at] if isinstance(self.sparse, list) else self.sparse
        columns = self.tabular.without(targets)
        embed = self.embed if columns.numeric else None
        return Inputs._of_columns(columns, embedding, sparse, embed, self.text or None)

    def placed(self, tasks: Sequence[Task]) -> list[Task]:
        """These tasks with positions by the names that the inputs have: `per="token"` is what the text is called."""
        return [task if task.per is None else task.along(self._position(task.per)) for task in tasks]

    def _position(self, per: str) -> str:
        """Positions by their name, or those of the one text by what is at them."""
        if per not in self.positions:
            if per in ("pair", "pairs") and len(self.positions) == 1:
                return next(iter(self.positions))
            for name, text in self.text.items():
                if per in ("token", "tokens", text.level, text.level.removesuffix("s")):
                    return name
        return per

    @property
    def per(self) -> str:
        """What a task calls the first of the positions."""
        return "token" if self.text else next(iter(self.positions))

    def embedded(self, embed: "embeddings.Embedding | str | None") -> "Inputs":
        """These inputs with another embedding of numbers, or themselves."""
        read = embeddings.read(embed, self.numeric)
        if read == self.embed:
            return self
        new = copy.copy(self)
        new.embed = read
        return new

    def unbinned(self) -> "Inputs":
        """These inputs but for the bins of numbers, which are there and not read."""
        count = 0 if self.tabular is None else len(self.tabular.bins)
        if not count:
            return self
        widths = self.embedding if isinstance(self.embedding, list) else [self.embedding] * len(self.categorical)
        new = copy.copy(self)
        new.embedding = [*widths[: len(widths) - count], *[0] * count]
        return new

    @property
    def columns(self) -> Columns | None:
        """What each column of a frame is taken for, and what was learned of it, texts too; none where nothing was."""
        texts = tuple(Passage(name, text.said()) for name, text in self.text.items())
        known = Columns([], [], []) if self.tabular is None else self.tabular
        return replace(known, texts=texts) if texts else self.tabular

    @property
    def names(self) -> list[str]:
        """The columns, where they were learned from a frame, and the texts."""
        return [*(() if self.tabular is None else self.tabular.names), *self.text]

    @property
    def code_columns(self) -> int:
        """How many columns of codes there are."""
        return sum(feature.length if isinstance(feature, Bag) else 1 for feature in self.categorical)

    def transform(self, frame: Any, tasks: Sequence[Task], argument: str) -> tuple[np.ndarray | None, ...]:
        """The numeric and the categorical features of a frame: of all its columns but the targets, where nothing was
        learned about columns.
        """
        if self.tabular is not None:
            return self.tabular.transform(frame, argument)
        targets = {name for task in tasks for name in task.columns}
        return self.plain(frame, [name for name in frames.names(frame) if name not in targets], argument)

    def plain(self, frame: Any, names: Sequence[str], argument: str) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The numeric and the categorical features in columns of a frame, where nothing was learned about columns."""
        kinds = {"numeric": self.numeric, "columns of codes": self.code_columns}
        if all(kinds.values()) or len(names) != sum(kinds.values()):
            wanted = " and ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
            raise ValueError(f"{argument} should have {wanted} beside the targets; got {listed(names)} "
                             "(pt.Inputs.from_frame chooses and keeps them)")  # fmt: skip
        matrix = frames.matrix(frame, names, argument)
        return (matrix, None) if self.numeric else (None, matrix)

    def only(self, name: str, x: Any) -> str:
        """Which kind of features one array is."""
        if len(self.kinds) == 1 and (self.arrays or self.text):
            return self.kinds[0]
        if self.tabular is not None and (self.named or (self.numeric and self.categorical)):
            raise TypeError(f"{name} should be a frame or a dict with the columns {listed(self.names)}, as "
                            f"pt.Inputs.from_frame had them; got {type(x).__name__}")  # fmt: skip
        if self.named:
            example = next(iter(self.named))
            raise TypeError(f'{name} should be a dict with the keys {listed(self.kinds)}, such as {{"{example}": ...}}'
                            f"; got {type(x).__name__}")  # fmt: skip
        if self.numeric and self.categorical:
            raise TypeError(f"{name} should be {{'numeric': ..., 'categorical': ...}}; got {type(x).__name__}")
        return "numeric" if self.numeric else "categorical"

    @property
    def named(self) -> list[str]:
        """Names of arrays and positions, which features in a dict have."""
        return [*self.arrays, *self.positions]

    @property
    def kinds(self) -> list[str]:
        """What features may be called in a dict."""
        if not self.named:
            return ["numeric", "categorical"]
        own = {"numeric": self.numeric, "categorical": self.categorical}
        return [*(kind for kind, there in own.items() if there), *self.named]

    def taken_as(self, dtypes: "Mapping[str | None, str]", unsure: "Collection[str]") -> "Inputs":
        """These inputs with arrays of these types, by name, some of which may have been meant to be truths; numeric
        features that are no floats to a module, which have no name there, become an array.
        """
        if dtypes.get(None, "float32") != "float32":
            if self.embed is not None:
                raise ValueError(f"`embed` gives floats, and the encoder takes {dtypes[None]}")
            return Inputs(arrays={"x": ((self.numeric,), dtypes[None])})
        if not self.arrays:
            return self
        new = copy.copy(self)
        arrays = self.arrays.items()
        new.arrays = {name: array._replace(dtype=dtypes[name], unsure=name in unsure) for name, array in arrays}
        return new

    def describe(self) -> dict[str, Any]:
        """What the core reads."""
        features = [each.describe() if isinstance(each, Bag) else each for each in self.categorical]
        described: dict[str, Any] = {"numeric": self.numeric, "categorical": features, "sparse": self.sparse}
        if self._unseen and features:
            described["unseen"] = True
        if self.embed is not None:
            described["embed"] = self.embed.describe()
        if self.arrays:
            described["arrays"] = [array.describe(name) for name, array in self.arrays.items()]
        if self.positions:
            described["positions"] = [{"name": name, **inner.describe()} for name, inner in self.positions.items()]
        return described if self.embedding is None else {**described, "embedding": self.embedding}

    def learned(self) -> dict[str, Any] | None:
        """What was learned from a frame, and from texts."""
        columns = {} if self.tabular is None else self.tabular.describe()
        texts = {"text": {name: text.describe() for name, text in self.text.items()}} if self.text else {}
        return {**columns, **texts} or None

    def reads_like(self, other: "Inputs") -> bool:
        """Whether it makes the same of the same features."""
        if self.describe() != other.describe():
            return False
        same = self.tabular is other.tabular and self.text is other.text
        return same or self.learned() == other.learned()

    def starting(self) -> dict[str, tuple[np.ndarray, np.ndarray, bool]]:
        """By text, the codes whose embeddings start from vectors, these, and whether the whole table stays as it is."""
        starts = ((name, text, text.start()) for name, text in self.text.items())
        return {name: (*start, text.freeze) for name, text, start in starts if start is not None}

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in vars(self).items() if name != "tabular"}
        return {**state, "columns": None if self.tabular is None else self.tabular.describe()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Those of earlier versions have none of it.
        state = {"arrays": {}, "embed": None, "text": {}, "_unseen": False, **state}
        learned = state.pop("columns")
        vars(self).update({**state, "tabular": None if learned is None else Columns.restore(learned)})

    @classmethod
    def restore(
        cls, core: dict[str, Any], learned: dict[str, Any] | None, notes: dict[str, Any] | None = None
    ) -> "Inputs":
        """The inputs of a stored description, with what was learned from a frame and what was noted of `embed`."""
        embed = embeddings.restored(core.get("embed"), notes)
        embedding = core.get("embedding") or None
        sparse = core.get("sparse", "auto")
        positions = {inner["name"]: cls.restore(inner, None) for inner in core.get("positions") or ()}
        columns = Columns.restore(learned) if learned and "numeric" in learned else None
        if columns is None:
            categorical = [read(feature) for feature in core["categorical"]]
            arrays = {each["name"]: array_inputs.ArrayInput.restore(each) for each in core.get("arrays") or ()}
            inputs = cls(core["numeric"], categorical, embedding, sparse, positions or None, arrays or None, embed)
            inputs._unseen = bool(core.get("unseen"))
        else:
            inputs = cls._of_columns(columns, embedding, sparse, embed)
            inputs.positions = positions
        inputs.text = {name: Text.restore(each) for name, each in ((learned or {}).get("text") or {}).items()}
        for name, text in inputs.text.items():
            if text.features() != positions[name].categorical:
                raise ValueError(f"text `{name}` has other codes than its tables")
            positions[name]._unseen = text.has_unknown
        return inputs

    def _said(self) -> str:
        """What was learned of columns, in words."""
        texts = [f"text: `{name}` ({text.said()})" for name, text in self.text.items()]
        return "; ".join([*(() if self.tabular is None else [self.tabular.sentence]), *texts])

    def __repr__(self) -> str:
        embed = "" if self.embed is None else f", embed={self.embed!r}"
        text = f", text={self.text}" if self.text else ""
        if self.tabular is not None:
            return f"Inputs({self._said()}{embed})"
        arrays = f", arrays={self.arrays}" if self.arrays else ""
        others = {name: inner for name, inner in self.positions.items() if name not in self.text}
        positions = f", positions={others}" if others else ""
        return f"Inputs(numeric={self.numeric}, categorical={self.categorical}{arrays}{positions}{text}{embed})"


def _with_texts(positions: Any, texts: Mapping[str, Text]) -> Any:
    """Positions, those of texts among them."""
    if not texts:
        return positions
    if positions or len(texts) > 1:
        names = listed([*(positions or ()), *texts])
        raise ValueError(f"`text`: a model may have positions of one kind, and so one text; got {names}")
    found = {}
    for name, text in texts.items():
        found[name] = Inputs(categorical=text.features(), embedding=text.widths(), sparse=False)
        found[name]._unseen = text.has_unknown
    return found


def _positions(positions: Any) -> dict[str, Inputs]:
    if positions is None:
        return {}
    if not isinstance(positions, Mapping) or not all(isinstance(inner, Inputs) for inner in positions.values()):
        example = '{"tokens": pt.Inputs(categorical=[30_000])}'
        raise TypeError(f"`positions` should be a dict such as {example}; got {positions!r}")
    for name, inner in positions.items():
        if not isinstance(name, str) or not name or "/" in name or name in ("numeric", "categorical"):
            raise ValueError("`positions` should have names other than `numeric` and `categorical`, without `/`; got "
                             f"{name!r}")  # fmt: skip
        if inner.named or inner.tabular is not None:
            raise ValueError(f"`positions`: inputs of `{name}` should be numbers and codes; got {inner!r}")
        if inner.embed is not None:
            raise ValueError(f"`positions`: numbers of `{name}` are not embedded; got {inner!r}")
    return dict(positions)


def _features(features: Any) -> list[int | Bag]:
    if isinstance(features, str | bytes | int | Bag) or not hasattr(features, "__iter__"):
        raise TypeError(f"`categorical` should be a list of numbers of categories or pt.Bag; got {features!r}")
    return [each if isinstance(each, Bag) else whole(each, "`categorical`") for each in features]


def _sparse(sparse: Any, features: int) -> str | bool | list[bool]:
    if isinstance(sparse, bool) or (isinstance(sparse, str) and sparse == "auto"):
        return sparse
    if isinstance(sparse, list | tuple) and all(isinstance(each, bool) for each in sparse):
        if len(sparse) == features:
            return list(sparse)
        raise ValueError(f"`sparse` should have a bool for each of {features} features; got {sparse!r}")
    raise TypeError(f'`sparse` should be "auto", True, False or a list of bools; got {sparse!r}')


def _embedding(embedding: Any, features: int) -> int | list[int | None] | None:
    if embedding is None:
        return None
    if isinstance(embedding, int | np.integer):
        return whole(embedding, "`embedding`")
    if isinstance(embedding, str | bytes) or not hasattr(embedding, "__iter__"):
        raise TypeError(f"`embedding` should be a width, or a list of one for each feature; got {embedding!r}")
    widths = [None if width is None else whole(width, "`embedding`", 0) for width in embedding]
    if len(widths) != features:
        raise ValueError(f"`embedding` should be one width, or one for each of {features} features; got {widths}")
    return widths
