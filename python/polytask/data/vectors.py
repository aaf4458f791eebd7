"""Vectors of words that somebody else learned, which embeddings may start from."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike, fspath
from typing import Any

import numpy as np

from ..values import arrays


def found(vectors: Any, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Which of the words have a vector, and these, `[found, width]`; a word without one has that of its lower case.

    Arguments:
        vectors: words and a matrix, `{word: vector}`, or the path of a file of lines `word number number ...` in UTF-8,
            as GloVe has them (Pennington, Socher and Manning, EMNLP 2014); a first line of two numbers, as word2vec and
            fastText write, is left out.

    Raises:
        TypeError, ValueError: no such thing, vectors of other widths, or numbers that are not finite; says where.
        OSError: the file cannot be read.
    """
    wanted = {*words, *map(str.lower, words)} - {""}
    of_file = isinstance(vectors, str | PathLike)
    known: dict[str, np.ndarray] = {}
    for word, vector in _of_file(fspath(vectors), wanted) if of_file else _of_memory(vectors, wanted):
        known.setdefault(word, vector)
    places = [(at, known.get(word, known.get(word.lower()))) for at, word in enumerate(words)]
    there = [(at, vector) for at, vector in places if vector is not None]
    widths = {len(vector) for _, vector in there}
    if len(widths) > 1:
        raise ValueError(f"`vectors` should be of one width; got {min(widths)} and {max(widths)}")
    matrix = np.array([vector for _, vector in there], np.float32).reshape(len(there), widths.pop() if widths else 0)
    if not np.isfinite(matrix).all():
        at = there[int(np.isfinite(matrix).all(1).argmin())][0]
        raise ValueError(f"`vectors` should be finite numbers; got others for {words[at]!r}")
    return np.array([at for at, _ in there], np.int64), matrix


def _of_memory(vectors: Any, wanted: set[str]) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(vectors, Mapping):
        pairs: Iterable[tuple[Any, Any]] = vectors.items()
    elif isinstance(vectors, tuple | list) and len(vectors) == 2:
        words, matrix = list(vectors[0]), arrays.single(vectors[1], "`vectors[1]`")
        if matrix.ndim != 2 or len(matrix) != len(words):
            raise ValueError(f"`vectors` should be words and a matrix [{len(words)}, width]; got {list(matrix.shape)}")
        pairs = zip(words, matrix, strict=True)
    else:
        raise TypeError("`vectors` should be words and a matrix, a dict of vectors by word, or the path of a file; got "
                        f"{type(vectors).__name__}")  # fmt: skip
    for word, vector in pairs:
        if word in wanted:
            yield word, arrays.single(vector, f"`vectors[{word!r}]`").reshape(-1)


def _of_file(path: str, wanted: set[str]) -> Iterator[tuple[str, np.ndarray]]:
    with open(path, encoding="utf-8", errors="replace", newline="\n") as lines:
        width = None
        for number, line in enumerate(lines, 1):
            if width is None:
                head = line.split()
                if len(head) == 2 and all(map(str.isdigit, head)):
                    continue
                width = len(head) - 1
            # note: most lines are of no word that is wanted, and a word may have spaces in it.
            if line.split(" ", 1)[0] not in wanted:
                continue
            word, *numbers = line.rstrip().rsplit(" ", width)
            if word in wanted:
                yield word, _numbers(numbers, width, f"{path}: line {number}")


def _numbers(texts: Sequence[str], width: int, where: str) -> np.ndarray:
    try:
        vector = np.array([float(text) for text in texts], np.float32)
    except ValueError:
        vector = np.empty(0, np.float32)
    if not width or len(vector) != width:
        raise ValueError(f"{where} should be a word and {width} numbers; got {' '.join(texts)[:40]!r}")
    return vector
