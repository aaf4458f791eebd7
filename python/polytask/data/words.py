"""Words of a text: where they begin and end, whatever the script, and what their ends and their shape say of them."""

import re
import unicodedata
from functools import lru_cache
from itertools import groupby

#: Where combining marks and joiners stand in Unicode: the first two planes, and the selectors of variants.
_MARKED = (range(0x300, 0x20000), range(0xE0100, 0xE01F0))
#: Zero-width joiner and non-joiner, which stand within words of Persian and of Indian scripts.
_JOINERS = (0x200C, 0x200D)

#: What is seen of a word beside it: so many characters of its beginning and of its end, and its shape.
AFFIXES = ("prefix1", "prefix2", "prefix3", "suffix1", "suffix2", "suffix3", "shape")


def split(text: str) -> list[str]:
    """Words are runs of letters and digits; each other sign that is no white space is a word alone. Marks that combine
    (accents, vowel points) belong to what they stand on. Letters, digits and marks are what Python's Unicode says.
    """
    return _pattern().findall(text)


@lru_cache(1)
def _pattern() -> re.Pattern[str]:
    marks = _marks()
    return re.compile(rf"(?:[^\W_][{marks}]*)+|\S[{marks}]*")


def _marks() -> str:
    """Ranges of the code points that combine, as a class of a pattern has them."""
    codes = [code for span in _MARKED for code in span if unicodedata.category(chr(code))[0] == "M"]
    runs: list[list[int]] = []
    for code in sorted([*codes, *_JOINERS]):
        if runs and code == runs[-1][1] + 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    return "".join(f"{re.escape(chr(first))}-{re.escape(chr(last))}" for first, last in runs)


def affixes(word: str) -> tuple[str, ...]:
    """In the order of `AFFIXES`; beginnings and ends in lower case, and of a shorter word the whole of it."""
    low = word.lower()
    return (low[:1], low[:2], low[:3], low[-1:], low[-2:], low[-3:], shape(word))


def shape(word: str) -> str:
    """Kinds of its characters, each run of one kind once: `X` upper case, `x` lower case, `o` other letters, `d`
    digits, and every other sign itself: `Xx` for `Word`, `X.X.` for `U.S.`, `d-d` for `2024-25`.
    """
    return "".join(kind for kind, _ in groupby(_kind(each) for each in word if unicodedata.category(each)[0] != "M"))


def _kind(character: str) -> str:
    if character.isalpha():
        return "X" if character.isupper() else "x" if character.islower() else "o"
    return "d" if character.isnumeric() else character
