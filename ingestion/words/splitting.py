"""Cuts a text into words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

_UNSPACED: Final = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, kana and Chinese characters."""
_WORD: Final = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_IS_UNSPACED: Final = re.compile(rf"[{_UNSPACED}]")


def spans_of(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each word: letters and digits, or one character of a script without spaces."""
    for found in _WORD.finditer(text):
        yield found.span()


def is_unspaced(word: str) -> bool:
    """Whether the word is a character of a script without spaces."""
    return _IS_UNSPACED.match(word) is not None


def folded(word: str) -> str:
    """The word without case, accents and ligatures: words that are equal so match."""
    parts = unicodedata.normalize("NFKD", word)
    return "".join(one for one in parts if not unicodedata.combining(one)).casefold()
