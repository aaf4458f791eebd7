"""Text as an input: how it is split into tokens, and the codes of tokens, which are learned from training texts."""

import copy
import logging
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from ..arguments.keywords import checked
from ..arguments.messages import listed, none_of
from ..arguments.numbers import whole
from ..embedding import CharCNN
from ..values import texts as _texts
from ..values.lists import Lists
from ..values.ragged import Ragged
from ..values.texts import Row
from . import vectors as _vectors
from . import words
from .bag import Bag
from .subwords import Subwords, library
from .vocabulary import Vocabulary, summed

_log = logging.getLogger("polytask")

LEVELS = ("words", "characters", "subwords")
FORMS = ("NFC", "NFD", "NFKC", "NFKD")
#: Widths of embeddings: of tokens, and of each of a word's affixes and its characters.
WIDTH, OF_PARTS = 64, 16
#: Characters of a word, where it is said that there are some.
CHARACTERS = 16
#: Tokens that a message shows.
_SHOWN = 8


@dataclass(frozen=True, eq=False)
class Tokens(Ragged):
    """Codes of tokens, `[tokens, columns]`, with what labels of tokens are compared with."""

    #: Tokens of each row before it was cut.
    whole: np.ndarray | None = None
    text: "Text | None" = None
    rows: Sequence[Row] = ()

    @property
    def cut(self) -> np.ndarray:
        """Whether tokens of a row were left out, `[rows]`."""
        assert self.whole is not None
        return np.asarray(self.lengths < self.whole)

    def fitted(self, labels: Ragged, argument: str) -> Ragged:
        """Labels of tokens, cut where the text was cut.

        Raises:
            ValueError: a row with more or fewer labels than tokens; says which, and what its tokens are.
        """
        assert self.whole is not None
        assert self.text is not None
        if len(labels) != len(self):
            return labels
        given = labels.lengths
        other = given != self.whole
        if labels.absent is not None:
            other &= ~labels.absent
        if other.any():
            row = int(other.argmax())
            found = self.text.split([self.rows[row]])[0]
            shown = ", ".join(map(repr, found[:_SHOWN])) + (", ..." if len(found) > _SHOWN else "")
            shown = f": {shown}" if found else ""
            none = "" if given[row] else "; a row without labels is None"
            raise ValueError(f"{argument} should have a label for each token; got {given[row]} at row {row}, whose "
                             f"text has {len(found)} {self.text.level}{shown}{none}")  # fmt: skip
        if not self.cut.any():
            return labels
        lengths = np.minimum(given, self.lengths)
        return Ragged.of(Lists(labels.values, labels.offsets[:-1], lengths, labels.mask, labels.absent))


class Text:
    """Texts of rows as inputs of a model: each token is a position, whose code has an embedding.

    `pt.Inputs(text=pt.Text().fit(sentences))` makes the positions `text`, and features are then `{"text": ["one text a
    row", ...]}`, a frame with that column, or, where a model has no other input, the list itself. A row is a string,
    which is split here, or a list of tokens, which are taken as they are. A text that is missing (None, NaN) is an
    empty one, which is a row without positions: it has no predictions of tokens, and for tasks of rows those that
    features of zeros have. A task has a label for each token with `per="text"` or `per="token"`.

    Codes are learned by `fit`, from the texts that it is given, and are kept with the model: code 0 is for every token
    that was not seen there, or fewer than `min_count` times, and the others follow by how often they come, then by code
    point.

    Arguments:
        level: what a token is: `"words"`, runs of letters and digits and every other sign alone, accents and vowel
            points with their letters; `"characters"`, code points; `"subwords"`, by byte pair encoding that `fit`
            learns with the library `tokenizers`; or a tokenizer of that library or of `transformers`, which needs no
            `fit`, adds no special tokens here and is kept with the model. The last two alone split the tokens of a list
            further.
        max_size: the most tokens that have a code of their own; of subwords the size of the vocabulary, 30,000 unless
            said otherwise.
        min_count: how often a token must come to have a code of its own, unless it has one of the `vectors`. Rarer ones
            train the code of tokens that are not known, which with 1 keeps what it started with.
        lower: whether tokens that differ in upper and lower case alone are the same one.
        normalize: the form of Unicode that texts are brought to first, "NFC", "NFD", "NFKC" or "NFKD", or None for as
            they are. Characters are counted after that.
        affixes: codes of each word's first and last one, two and three characters and of its shape (`Xx`, `d-d`),
            beside its own, with embeddings of width 16.
        characters: codes of so many characters of each word, 16 for True, whose embeddings of width 16 are averaged; of
            a longer word as many from its beginning as from its end. A `pt.embedding.CharCNN` is a convolution over
            them instead, in their order.
        width: of the tokens' embeddings: that of the vectors if there are some, else 64.
        vectors: what embeddings of tokens start from: words and a matrix `[words, width]`, `{word: vector}`, or the
            path of a text file in GloVe's format. Tokens without one start as usual; the vector of a token's lower case
            will do. Vectors of words that do not come in the texts of `fit` are left out, and such words are unknown
            ones: `fit([*texts, words])` learns codes of more words, a list of tokens, than training texts have.
        freeze: whether embeddings of tokens stay as they start.
        max_length: the most tokens of a row. What follows is left out, labels and predictions of it too, which is
            logged; by default rows have any length.
    """

    #: How characters become numbers, where they are not averaged; texts of earlier versions have none.
    _convolution: CharCNN | None = None

    @checked
    def __init__(
        self,
        level: Any = "words",
        *,
        max_size: int | None = None,
        min_count: int = 2,
        lower: bool = False,
        normalize: str | None = "NFC",
        affixes: bool = False,
        characters: bool | int | CharCNN = False,
        width: int | None = None,
        vectors: Any = None,
        freeze: bool = False,
        max_length: int | None = None,
    ) -> None:
        self._subwords = None if isinstance(level, str) else Subwords.of(level)
        if self._subwords is None and not isinstance(level, str):
            raise TypeError(f"`level` should be one of {listed(LEVELS)}, or a tokenizer; got {level!r}; or give "
                            "lists of tokens as texts, split as you like")  # fmt: skip
        if isinstance(level, str) and level not in LEVELS:
            raise ValueError(f"`level`: unknown level {none_of(level, LEVELS, 'there are')}")
        self.level = level if isinstance(level, str) else "subwords"
        if level == "subwords":
            library()
        if self._subwords is not None and (lower or max_size is not None):
            name = "lower" if lower else "max_size"
            raise ValueError(f"`{name}` is a matter of the tokenizer that is given; leave it out")
        self.max_size = None if max_size is None else whole(max_size, "`max_size`")
        self.min_count = whole(min_count, "`min_count`")
        self.lower = bool(lower)
        if normalize is not None and normalize not in FORMS:
            raise ValueError(f"`normalize` should be one of {listed(FORMS)} or None; got {normalize!r}")
        self.normalize = normalize
        self.affixes = bool(affixes)
        if isinstance(characters, CharCNN):
            self._convolution = characters
        self.characters = _length(characters)
        if self.level != "words" and (self.affixes or self.characters):
            name = "affixes" if self.affixes else "characters"
            raise ValueError(f'`{name}` are those of words, level="words"; got level={self.level!r}')
        self.width = None if width is None else whole(width, "`width`")
        self.vectors = vectors
        self.freeze = bool(freeze)
        if self.freeze and vectors is None:
            raise ValueError("`freeze` is for embeddings that start from `vectors`; got none")
        self.max_length = None if max_length is None else whole(max_length, "`max_length`")
        self._given = self._subwords is not None
        #: By column: tokens, affixes, characters.
        self._vocabularies: dict[str, Vocabulary] = {}
        #: Codes that start from vectors, and these.
        self._start: tuple[np.ndarray, np.ndarray] | None = None
        self._started = 0
        if self._given:
            self._align(self.vectors)

    def fit(self, texts: Any) -> "Text":
        """Learns the codes of the tokens of training texts, in any form that features have; gives itself.

        Raises:
            TypeError, ValueError: no texts; says which row is none.
        """
        return self.learn(texts, "`texts`")

    def learn(self, texts: Any, argument: str) -> "Text":
        """What `fit` does, of what is called so."""
        rows = _texts.read(texts, argument)
        if self.level == "subwords":
            if not self._given:
                how = self.max_size, self.min_count, self.lower, self.normalize
                self._subwords = Subwords.trained(rows, *how)
        else:
            counts = Counter(chain.from_iterable(self.split(rows)))
            vectors = self._vectors_of(counts)
            self._vocabularies = self._learned(counts, vectors or {}, argument)
            self._align(vectors)
            return self
        self._align(self.vectors)
        return self

    def tokens(self, texts: Any) -> list[list[str]]:
        """The tokens of texts, which are the positions that labels and predictions belong to.

        Raises:
            TypeError, ValueError: no texts, or subwords that are yet to be learned.
        """
        self.need("`tokens`")
        return [row[: self.max_length] for row in self.split(_texts.read(texts, "`texts`"))]

    @property
    def vocabulary(self) -> list[str]:
        """The tokens by code; none of a code that is for those that are not known."""
        if self._subwords is not None:
            return list(self._subwords.words)
        return ["", *self._vocabularies["tokens"].words] if self._vocabularies else []

    @property
    def size(self) -> int:
        """How many codes tokens have, that of unknown ones included; 0 before `fit`."""
        if self._subwords is not None:
            return self._subwords.size
        return self._vocabularies["tokens"].size if self._vocabularies else 0

    def need(self, argument: str) -> None:
        """Refuses texts whose codes nobody has learned.

        Raises:
            ValueError: says how to learn them.
        """
        if not self.size:
            raise ValueError(f"{argument} needs codes, which are learned from training texts: "
                             "pt.Text(...).fit(texts), or pt.Inputs.from_frame(frame, text=pt.Text(...))")  # fmt: skip

    def split(self, rows: Sequence[Row]) -> list[list[str]]:
        """The tokens of rows, uncut."""
        if self._subwords is not None:
            return self._subwords.split(rows)
        whole_text = list if self.level == "characters" else words.split
        return [row if isinstance(row, list) else whole_text(row) for row in map(self._normalized, rows)]

    def features(self) -> list[int | Bag]:
        """The columns of codes, as `pt.Inputs` takes them."""
        if self._subwords is not None:
            return [self._subwords.size]
        sizes: list[int | Bag] = [each.size for name, each in self._vocabularies.items() if name != "characters"]
        of_characters = self._vocabularies.get("characters")
        if of_characters is None:
            return sizes
        combine = "mean" if self._convolution is None else self._convolution.combine()
        return [*sizes, Bag(of_characters.size, self.characters, combine)]

    @property
    def has_unknown(self) -> bool:
        """Whether code 0 is for what was not seen, and not a tokenizer's own."""
        return self._subwords is None

    def widths(self) -> list[int]:
        """Widths of their embeddings."""
        widths = [self.width or WIDTH, *[OF_PARTS] * (len(self.features()) - 1)]
        return widths if self._convolution is None else [*widths[:-1], self._convolution.embedding]

    def read(self, value: Any, name: str) -> Tokens:
        """Codes of the tokens of texts, rows cut to `max_length`.

        Raises:
            TypeError, ValueError: no texts; says which row is none.
        """
        rows = _texts.read(value, name)
        if self._subwords is not None:
            codes, lengths = self._subwords.codes(rows)
            codes = codes[:, None]
        else:
            each = self.split(rows)
            lengths = np.fromiter(map(len, each), np.int64, len(each))
            codes = self._codes(list(chain.from_iterable(each)))
        kept = lengths if self.max_length is None else np.minimum(lengths, self.max_length)
        cut = int((kept < lengths).sum())
        if cut:
            _log.warning("%s has %d rows of more than %d tokens; those behind are left out", name, cut, self.max_length)
        laid = Ragged.of(Lists(codes, np.cumsum(lengths) - lengths, kept))
        return Tokens(laid.values, laid.offsets, whole=lengths, text=self, rows=rows)

    def start(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Codes whose embeddings start from vectors, and the vectors; none where none do."""
        return self._start

    def kept(self) -> "Text":
        """One that a later `fit` of this one does not change, without vectors that no token has."""
        new = copy.copy(self)
        new.vectors = None
        return new

    def describe(self) -> dict[str, Any]:
        """All but vectors as JSON has it: embeddings are the model's."""
        settings = ("level", "max_size", "min_count", "lower", "normalize", "affixes", "characters", "width")
        return {
            **{name: getattr(self, name) for name in (*settings, "max_length")},
            "convolution": None if self._convolution is None else self._convolution.describe(),
            "tokenizer": None if self._subwords is None else self._subwords.stored,
            "vocabularies": {name: list(each.words) for name, each in self._vocabularies.items()},
            "started": self._started,
        }

    @classmethod
    def restore(cls, described: dict[str, Any]) -> "Text":
        """What `describe` gave.

        Raises:
            KeyError, TypeError, ValueError: another description.
        """
        rest = dict(described)
        tokenizer, vocabularies, started = (rest.pop(name) for name in ("tokenizer", "vocabularies", "started"))
        level = rest.pop("level")
        # What versions before have not.
        convolution = rest.pop("convolution", None)
        if convolution is not None:
            rest["characters"] = CharCNN(**convolution)
        text = cls("words" if tokenizer else level, **rest)
        text.level, text._started = level, started
        text._subwords = Subwords(tokenizer) if tokenizer else None
        text._given = tokenizer is not None
        if text._subwords is None:
            # note: files have names in an order of their own.
            text._vocabularies = {name: Vocabulary.restore(vocabularies[name]) for name in text._columns}
        return text

    def said(self) -> str:
        """Level and size of the vocabulary, and how many embeddings started from vectors, in words."""
        started = f", {self._started:,} of them started from vectors" if self._started else ""
        if not self.size:
            return f"{self.level} yet to be learned"
        return f"{sum(map(bool, self.vocabulary)):,} {self.level}{started}"

    def __repr__(self) -> str:
        characters = self._convolution or self.characters or None
        shown = {"lower": self.lower, "affixes": self.affixes, "characters": characters}
        shown |= {"width": self.width, "max_length": self.max_length}
        parts = [f"{name}={value!r}" for name, value in shown.items() if value not in (None, False)]
        return f"Text({', '.join([self.said(), *parts])})"

    @property
    def _columns(self) -> list[str]:
        """What has codes of its own, in the order of the columns."""
        affixes = words.AFFIXES if self.affixes else ()
        return ["tokens", *affixes, *(["characters"] if self.characters else [])]

    def _normalized(self, row: Row) -> Row:
        form: Any = self.normalize
        if form is None or (isinstance(row, str) and row.isascii()):
            return row
        if isinstance(row, list):
            return [token if token.isascii() else unicodedata.normalize(form, token) for token in row]
        return unicodedata.normalize(form, row)

    def _folded(self, token: str) -> str:
        return token.lower() if self.lower else token

    def _vectors_of(self, tokens: Iterable[str]) -> dict[str, np.ndarray] | None:
        """The vectors of tokens as they are looked up; none where none are given."""
        if self.vectors is None:
            return None
        distinct = list(dict.fromkeys(map(self._folded, tokens)))
        at, matrix = _vectors.found(self.vectors, distinct)
        return {distinct[place]: vector for place, vector in zip(at.tolist(), matrix, strict=True)}

    def _learned(self, counts: Counter[str], vectors: Collection[str], argument: str) -> dict[str, Vocabulary]:
        """What tokens, of which some have vectors, teach."""
        if not counts:
            raise ValueError(f"{argument} should have at least one token; got none")
        of_tokens = summed(counts, ((token, self._folded(token)) for token in counts))
        found = {"tokens": Vocabulary.learned(of_tokens, self.min_count, self.max_size, vectors)}
        if not found["tokens"].words:
            _log.warning("%s: no token comes %d times, so that all of them are unknown; `min_count=1` keeps all",
                         argument, self.min_count)  # fmt: skip
        if self.affixes:
            parts = {token: words.affixes(token) for token in counts}
            for at, name in enumerate(words.AFFIXES):
                of_part = summed(counts, ((token, each[at]) for token, each in parts.items()))
                found[name] = Vocabulary.learned(of_part, self.min_count)
        if self.characters:
            pairs = ((token, each) for token in counts for each in token)
            found["characters"] = Vocabulary.learned(summed(counts, pairs), self.min_count)
        return found

    def _codes(self, flat: list[str]) -> np.ndarray:
        """The codes of tokens, `[tokens, columns]`: worked out once for each that differs."""
        places = {token: place for place, token in enumerate(dict.fromkeys(flat))}
        distinct = list(places)
        known = self._vocabularies
        columns = [known["tokens"].codes([self._folded(token) for token in distinct])]
        if self.affixes:
            parts = list(zip(*map(words.affixes, distinct), strict=True)) or [()] * len(words.AFFIXES)
            columns += [known[name].codes(each) for name, each in zip(words.AFFIXES, parts, strict=True)]
        if self.characters:
            columns += [*self._characters(distinct).T]
        index = np.fromiter(map(places.__getitem__, flat), np.int64, len(flat))
        return np.column_stack(columns)[index]

    def _characters(self, tokens: Sequence[str]) -> np.ndarray:
        """Codes of characters, `[tokens, characters]`, -1 behind the last one."""
        most = self.characters
        first = most - most // 2
        kept = [token if len(token) <= most else token[:first] + token[len(token) - most // 2 :] for token in tokens]
        lengths = np.fromiter(map(len, kept), np.int64, len(kept))
        codes = np.full((len(kept), most), -1, np.int32)
        there = np.arange(most) < lengths[:, None]
        codes[there] = self._vocabularies["characters"].codes("".join(kept))
        return codes

    def _align(self, vectors: Any) -> None:
        """Finds the vectors of the tokens that have a code."""
        if vectors is None:
            return
        codes, matrix = _vectors.found(vectors, self.vocabulary)
        if not len(codes):
            raise ValueError(f"`vectors` should have some of the {self.size} tokens; got none of them")
        if self.width not in (None, matrix.shape[1]):
            raise ValueError(f"`width` should be that of `vectors`, {matrix.shape[1]}; got {self.width}")
        self.width = matrix.shape[1]
        self._start, self._started = (codes, matrix), len(codes)


def _length(characters: Any) -> int:
    """Codes of characters that a word has at most."""
    if isinstance(characters, CharCNN):
        return int(characters.length)
    # True is a number, too.
    if isinstance(characters, bool):
        return CHARACTERS if characters else 0
    return whole(characters, "`characters`", 0)
