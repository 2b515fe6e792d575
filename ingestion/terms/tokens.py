"""Splits texts of any script into terms, for the lexical index, for queries and for snippets.

A chunk is a word with what is joined to it by single signs: `read.table`, `foo::bar`, `MILVUS_URI`, `A-1234/5`. Its
terms are the chunk, and its parts at each level: `:` `/` `@` and their like, then `.` and `-`, then `_`, then borders
of case and of digits. So an identifier is found as a whole and by each part.

Scripts that put no spaces between words have pairs of characters as terms. A character is a letter with its marks.
Chinese characters are terms on their own as well: a word may have one.

Case, compatibility forms (NFKC), the script of digits, accents of Latin, Greek and Cyrillic letters, and vowel marks
of Arabic and Hebrew make no difference.

A change of the terms of any text is a new TERM_FORMAT.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from itertools import groupby, pairwise
from typing import Final, NamedTuple

_IDEOGRAPHS: Final = "\u2e80-\u2fdf\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_OTHER_UNSPACED: Final = (
    "\u0e00-\u0e4f\u0e5a-\u0ecf\u0eda-\u0eff"  # Thai, Lao; digits are left out here and below
    "\u1000-\u103f\u104a-\u108f\u109a-\u109f\ua9e0-\ua9ef\uaa60-\uaa7f"  # Myanmar
    "\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff"  # Hangul: its spaces stand between words with their endings
    "\u1780-\u17df\u17ea-\u17ff\u19e0-\u19ff"  # Khmer
    "\u1980-\u19cf\u1a20-\u1a7f\u1aa0-\u1aaf\uaa80-\uaadf"  # Tai scripts
    "\u1b00-\u1b4f\u1b5a-\u1b7f\ua980-\ua9cf"  # Balinese, Javanese
    "\u3040-\u30ff\u3100-\u312f\u31a0-\u31bf\u31f0-\u31ff\uff66-\uff9f\U0001b000-\U0001b16f"  # Kana, Bopomofo
)
_UNSPACED: Final = _IDEOGRAPHS + _OTHER_UNSPACED
_OUTER: Final = r"::|->|=>|[:/\\@#&+$=~|'’]"
_INNER: Final = r"[.\-‐‑·]"
_SOFT_HYPHENS: Final = re.compile("[\u00ad\u0002\ufffe]\\s*")
"""Where PDFium found a word divided at the end of a line, it says U+FFFE or U+0002."""
_HYPHEN_AT_LINE_END: Final = re.compile(r"(?<=[^\W\d_])[-‐]\r?\n\s*(?=[^\W\d_])")
_MARKS_IGNORED: Final = re.compile(
    "[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670\u200c\u200d]"
)
_DIGIT: Final = re.compile(r"\d")
_PARTS: Final = re.compile(r"\D+|\d+")
_IDEOGRAPH: Final = re.compile(f"[{_IDEOGRAPHS}]")
_PART_WEIGHT: Final = 0.5
_CACHED_CHARS: Final = 48
"""Longer chunks are rare, and not worth memory."""
_MOST_CHARS: Final = 64
"""A term of more characters is cut: it is data, not a word."""


class Located(NamedTuple):
    """A term, and where its text begins and ends."""

    term: str
    start: int
    end: int


def terms(text: str) -> Iterator[str]:
    """The terms of a page's text, in their order. A term occurs once for each chunk that has it."""
    for match in _chunks().finditer(_joined(text)):
        yield from _terms_of(match.group())


def query_terms(text: str) -> dict[str, float]:
    """The terms to look for, with their weights.

    A part of a chunk has half the weight of a whole one: a page that has the chunk has its parts, too. A run of
    several Chinese characters is looked for by its pairs alone.
    """
    found = dict[str, float]()
    for match in _chunks().finditer(_joined(text)):
        chunk = match.group()
        whole, *parts = of_chunk = _terms_of(chunk)
        if _is_unspaced(chunk):
            pairs = [term for term in of_chunk if len(term) > 1]
            found |= dict.fromkeys(pairs or of_chunk, 1.0)
            continue
        found[whole] = 1.0
        found |= {part: _PART_WEIGHT for part in parts if part not in found}
    return found


def located_terms(text: str) -> Iterator[Located]:
    """The terms of `text` with their places, in the order of the places. Parts of a chunk have the chunk's place."""
    for match in _chunks().finditer(text):
        chunk = match.group()
        if not _is_unspaced(chunk):
            yield from (Located(term, match.start(), match.end()) for term in _terms_of(chunk))
            continue
        ends = [found.end() for found in _characters().finditer(chunk)]
        starts = [0, *ends[:-1]]
        for start, end in zip(starts, ends[1:] or ends, strict=False):
            yield from (
                Located(term, match.start() + start, match.start() + end) for term in _terms_of(chunk[start:end])
            )


def _joined(text: str) -> str:
    """The text without soft hyphens. A word that a line's end divides is there divided, and joined after it."""
    text = _SOFT_HYPHENS.sub("", text)
    if not _HYPHEN_AT_LINE_END.search(text):
        return text
    return text + "\n" + "\n".join(_divided(text))


def _divided(text: str) -> Iterator[str]:
    for match in _HYPHEN_AT_LINE_END.finditer(text):
        before, after = text[: match.start()].rsplit(None, 1), text[match.end() :].split(None, 1)
        yield before[-1][-_MOST_CHARS:] + after[0][:_MOST_CHARS]


def _terms_of(chunk: str) -> tuple[str, ...]:
    return _kept_terms(chunk) if len(chunk) <= _CACHED_CHARS else _split(chunk)


def _split(chunk: str) -> tuple[str, ...]:
    """The different terms of a chunk, the chunk itself first."""
    chunk = chunk if chunk.isascii() else _normal(chunk)
    if _is_unspaced(chunk):
        return _pairs(_characters().findall(chunk))
    found = {chunk.casefold()[:_MOST_CHARS]: None}
    for outer in _pieces(_OUTER, chunk):
        found[outer.casefold()[:_MOST_CHARS]] = None
        for inner in _pieces(_INNER, outer):
            found[inner.casefold()[:_MOST_CHARS]] = None
            for word in inner.split("_"):
                found[word.casefold()[:_MOST_CHARS]] = None
                for part in _cased_parts(word):
                    found[part.casefold()[:_MOST_CHARS]] = None
    found.pop("", None)
    return tuple(found)


_kept_terms = lru_cache(maxsize=65_536)(_split)


def _pieces(separator: str, text: str) -> list[str]:
    return _compiled(separator).split(text)


_compiled = cache(re.compile)


def _cased_parts(word: str) -> Iterator[str]:
    """The parts of `word` between borders of case and of digits. Single letters are no parts."""
    for match in _PARTS.finditer(word):
        part = match.group()
        if part.isdigit():
            yield part
            continue
        start = 0
        for at in range(1, len(part)):
            begins = part[at].isupper() and (
                part[at - 1].islower() or (at + 1 < len(part) and part[at - 1].isupper() and part[at + 1].islower())
            )
            if begins:
                if at - start > 1:
                    yield part[start:at]
                start = at
        if len(part) - start > 1:
            yield part[start:]


def _pairs(characters: list[str]) -> tuple[str, ...]:
    """The terms of a run of an unspaced script."""
    if len(characters) == 1:
        return (characters[0],)
    pairs = (first + second for first, second in pairwise(characters))
    return (*pairs, *(one for one in characters if _IDEOGRAPH.match(one)))


def _normal(chunk: str) -> str:
    plain = _MARKS_IGNORED.sub("", unicodedata.normalize("NFKD", chunk))
    plain = _DIGIT.sub(lambda digit: str(unicodedata.decimal(digit.group())), plain)
    return unicodedata.normalize("NFKC", plain)


def _is_unspaced(chunk: str) -> bool:
    return bool(_unspaced().match(chunk))


@cache
def _unspaced() -> re.Pattern[str]:
    return re.compile(f"[{_UNSPACED}]")


@cache
def _characters() -> re.Pattern[str]:
    """A character with the marks after it."""
    return re.compile(f"[^{_marks()}][{_marks()}]*|[{_marks()}]+")


@cache
def _chunks() -> re.Pattern[str]:
    letter = rf"[^\W{_UNSPACED}]"
    word = rf"{letter}+(?:[{_marks(unspaced=False)}]+{letter}*)*"
    return re.compile(rf"[{_UNSPACED}]+|{word}(?:(?:{_OUTER}|{_INNER}){word})*(?:\+\+|#(?!\w))?")


@cache
def _marks(*, unspaced: bool = True) -> str:
    """The combining marks as a set of a regular expression: `\\w` lacks them, and Indian vowels are marks."""
    marks = [code for code in range(0x20000) if unicodedata.category(chr(code)) in ("Mn", "Mc")]
    if not unspaced:
        marks = [code for code in marks if not _unspaced().match(chr(code))]
    runs = groupby(enumerate(marks), key=lambda at_code: at_code[1] - at_code[0])
    ranges = [[code for _, code in run] for _, run in runs]
    return "".join(f"{chr(codes[0])}-{chr(codes[-1])}" for codes in ranges) + "\u200c\u200d"
