"""Parts of words by the `tokenizers` library of Hugging Face, trained here or taken as they are."""

import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

from ..values.texts import Row

#: What a trained tokenizer has for signs that were not seen; its code is 0.
UNKNOWN = "[UNK]"


def library() -> Any:
    """The library.

    Raises:
        ImportError: it is not installed; says how to.
    """
    try:
        import tokenizers
    except ImportError:
        raise ImportError("subwords of pt.Text need the library tokenizers: pip install 'polytask[text]'") from None
    return tokenizers


class Subwords:
    """A tokenizer as its JSON says; the library is needed to split texts, not to open a file."""

    def __init__(self, stored: str) -> None:
        self.stored = stored

    @cached_property
    def words(self) -> list[str]:
        """Tokens by code; an empty one where there is none."""
        described = json.loads(self.stored)
        vocabulary = described["model"]["vocab"]
        # Of unigrams it is a list of pairs.
        places = vocabulary if isinstance(vocabulary, dict) else {word: at for at, (word, _) in enumerate(vocabulary)}
        places = {**places, **{token["content"]: token["id"] for token in described.get("added_tokens") or ()}}
        words = [""] * (max(places.values(), default=0) + 1)
        for word, code in places.items():
            words[code] = word
        return words

    @cached_property
    def _tokenizer(self) -> Any:
        """It pads, cuts and adds nothing."""
        tokenizer = library().Tokenizer.from_str(self.stored)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    @classmethod
    def of(cls, given: Any) -> "Subwords | None":
        """A `tokenizers.Tokenizer`, or what has one as its `backend_tokenizer`, as fast tokenizers of transformers do;
        none if it is neither.
        """
        backend = getattr(given, "backend_tokenizer", given)
        return cls(backend.to_str()) if hasattr(backend, "to_str") and hasattr(backend, "encode_batch") else None

    @classmethod
    def trained(
        cls, rows: Sequence[Row], most: int | None, least: int, lower: bool, normalize: str | None
    ) -> "Subwords":
        """Byte pair encoding (Sennrich, Haddow and Birch, ACL 2016) of so many subwords, of pairs that come at least so
        often; a word begins with U+2581.
        """
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

        tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
        steps = [getattr(normalizers, normalize)()] if normalize else []
        tokenizer.normalizer = normalizers.Sequence([*steps, *([normalizers.Lowercase()] if lower else [])])
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        size = {} if most is None else {"vocab_size": most}
        trainer = trainers.BpeTrainer(special_tokens=[UNKNOWN], min_frequency=least, show_progress=False, **size)
        tokenizer.train_from_iterator(_words(rows), trainer)
        return cls(tokenizer.to_str())

    @property
    def size(self) -> int:
        """How many codes there are."""
        return len(self.words)

    def split(self, rows: Sequence[Row]) -> list[list[str]]:
        """The subwords of each row; tokens of a list are split further."""
        return [encoding.tokens for encoding in self._encoded(rows)]

    def codes(self, rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
        """The code of each subword of all rows, end to end, and how many each row has."""
        each = [encoding.ids for encoding in self._encoded(rows)]
        lengths = np.fromiter(map(len, each), np.int64, len(each))
        return np.fromiter(chain.from_iterable(each), np.int32, int(lengths.sum())), lengths

    def _encoded(self, rows: Sequence[Row]) -> list[Any]:
        strings = [(at, row) for at, row in enumerate(rows) if isinstance(row, str)]
        lists = [(at, row) for at, row in enumerate(rows) if not isinstance(row, str)]
        found: list[Any] = [None] * len(rows)
        for some, split in ((strings, False), (lists, True)):
            texts = [row for _, row in some]
            each = self._tokenizer.encode_batch(texts, is_pretokenized=split, add_special_tokens=False)
            for (at, _), encoding in zip(some, each, strict=True):
                found[at] = encoding
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {"stored": self.stored}


def _words(rows: Sequence[Row]) -> Iterable[str]:
    return (row if isinstance(row, str) else " ".join(row) for row in rows)
