"""Which words of a page match a query, by equal words without case and accents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ingestion.words.boxes import Box, Word
from ingestion.words.splitting import folded, is_unspaced, spans_of

_LEAST_CHARS: Final = 3
"""Shorter words match only where the query has no longer one."""
_COMMON_PART: Final = 0.03
_COMMON_OF: Final = 100
"""In a page of at least so many words, a query's word that is more than _COMMON_PART of them says nothing, unless no
other one matches."""
_SAME_LINE: Final = 0.5

Term = tuple[str, ...]
"""Words of a query that must follow each other on the page."""


@dataclass(frozen=True, slots=True)
class Match:
    """Neighbouring words of a page that match one term of a query. `box` is around all of them."""

    text: str
    term: str
    box: Box


def matches_of(query: str, words: Sequence[Word]) -> list[Match]:
    """The matches in the order of the page."""
    page = [folded(word.text) for word in words]
    places = defaultdict[str, list[int]](list)
    for at, word in enumerate(page):
        places[word].append(at)
    found = dict[Term, list[int]]()
    for term in _terms(query):
        for part in _parts_found(term, page, places):
            found[part] = _starts(part, page, places)
    return _in_order(_telling(found, len(page)), words)


def _terms(query: str) -> list[Term]:
    """The query's terms; short ones only where it has no others."""
    chunks = (tuple(folded(chunk[start:end]) for start, end in spans_of(chunk)) for chunk in query.split())
    terms = [chunk for chunk in chunks if chunk]
    return [term for term in terms if _is_long(term)] or terms


def _parts_found(term: Term, page: Sequence[str], places: dict[str, list[int]]) -> Iterator[Term]:
    """The whole term where the page has it, else its pairs, else its words."""
    for length in sorted({len(term), min(2, len(term)), min(1, len(term))} - {0}, reverse=True):
        parts = {term[start : start + length] for start in range(len(term) - length + 1)}
        there = [part for part in parts if _starts(part, page, places)]
        if there:
            yield from there
            return


def _starts(term: Term, page: Sequence[str], places: dict[str, list[int]]) -> list[int]:
    length = len(term)
    return [at for at in places.get(term[0], ()) if tuple(page[at : at + length]) == term]


def _telling(found: dict[Term, list[int]], page_words: int) -> dict[Term, list[int]]:
    """Without the common terms, where others match."""
    if page_words < _COMMON_OF:
        return found
    return {term: at for term, at in found.items() if len(at) <= _COMMON_PART * page_words} or found


def _is_long(term: Term) -> bool:
    one = term[0]
    return len(term) > 1 or len(one) >= _LEAST_CHARS or is_unspaced(one) or any(map(str.isdigit, one))


def _in_order(found: dict[Term, list[int]], words: Sequence[Word]) -> list[Match]:
    matches = list[tuple[int, Match]]()
    for term, starts in found.items():
        for start in starts:
            for line in _lines(words[start : start + len(term)]):
                matches.append((start, Match(_joined(line), "".join(term), _around([word.box for word in line]))))
    # Overlapping pairs of one run of characters give the same box again.
    unique = {match.box: (start, match) for start, match in matches}
    return [match for _, match in sorted(unique.values(), key=lambda one: one[0])]


def _lines(words: Sequence[Word]) -> Iterator[list[Word]]:
    """Words that follow each other, cut where a new line begins."""
    line = list[Word]()
    for word in words:
        if line and not _is_same_line(line[-1].box, word.box):
            yield line
            line = []
        line.append(word)
    if line:
        yield line


def _is_same_line(one: Box, other: Box) -> bool:
    overlap = min(one[3], other[3]) - max(one[1], other[1])
    return overlap > _SAME_LINE * min(one[3] - one[1], other[3] - other[1])


def _around(boxes: Sequence[Box]) -> Box:
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _joined(line: Sequence[Word]) -> str:
    separator = "" if is_unspaced(line[0].text) else " "
    return separator.join(word.text for word in line)
