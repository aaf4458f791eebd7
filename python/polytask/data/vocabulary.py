"""A vocabulary: what was seen in training data often enough, and the code of each."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np


class Vocabulary:
    """Words with codes from 1 on; code 0 is every other word."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = tuple(words)

    @classmethod
    def learned(
        cls, counts: Mapping[str, int], least: int = 1, most: int | None = None, always: Collection[str] = ()
    ) -> "Vocabulary":
        """The most frequent words that come at least so often, or are `always` kept; of equally frequent ones those of
        lower code points.
        """
        kept = [word for word, count in counts.items() if count >= least or word in always]
        return cls(sorted(kept, key=lambda word: (-counts[word], word))[:most])

    @classmethod
    def restore(cls, words: Any) -> "Vocabulary":
        """Of its words in a file.

        Raises:
            TypeError: no words.
        """
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise TypeError(f"a vocabulary should be a list of strings; got {str(words)[:40]}")
        return cls(words)

    @property
    def size(self) -> int:
        """How many codes there are."""
        return len(self.words) + 1

    def codes(self, words: Sequence[str]) -> np.ndarray:
        """The code of each word, `[words]`."""
        places = self._places
        return np.fromiter((places.get(word, 0) for word in words), np.int32, len(words))

    @cached_property
    def _places(self) -> dict[str, int]:
        return {word: code for code, word in enumerate(self.words, 1)}

    def __getstate__(self) -> dict[str, tuple[str, ...]]:
        return {"words": self.words}


def summed(counts: Mapping[str, int], parts: Iterable[tuple[str, str]]) -> Counter[str]:
    """How often a part of words comes, of pairs of a word and its part."""
    found: Counter[str] = Counter()
    for word, part in parts:
        found[part] += counts[word]
    return found
