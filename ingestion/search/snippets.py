"""The part of a page's text that is shown with a hit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final

from ingestion.terms.tokens import located_terms, query_terms

_SNIPPET_CHARS: Final = 240
_LEAD_CHARS: Final = 30
"""Characters that are shown before the first word of the query."""
_SHORT_CHARS: Final = 2
"""Latin words of so few characters, as `of` and `to`, are on most pages."""


def snippet(text: str, query: str) -> str:
    """The part of `text` that has most of the query's words, on one line, about 240 characters."""
    line = " ".join(text.split())
    if len(line) <= _SNIPPET_CHARS:
        return line
    words = _telling(query_terms(query))
    found = [(located.start, located.term) for located in located_terms(line) if located.term in words]
    start = _densest(found)
    begin = max(0, min(start - _LEAD_CHARS, len(line) - _SNIPPET_CHARS))
    cut = line[begin : begin + _SNIPPET_CHARS]
    return ("…" if begin else "") + cut.strip() + ("…" if begin + _SNIPPET_CHARS < len(line) else "")


def _telling(words: Collection[str]) -> Collection[str]:
    return {word for word in words if len(word) > _SHORT_CHARS or not word.isascii()} or words


def _densest(found: Sequence[tuple[int, str]]) -> int:
    """The start of the first part with the most different words, 0 where `found` is empty. `found` is sorted."""
    inside: Counter[str] = Counter()
    start = most = end = 0
    for at, word in found:
        while end < len(found) and found[end][0] < at + _SNIPPET_CHARS:
            inside[found[end][1]] += 1
            end += 1
        if len(inside) > most:
            start, most = at, len(inside)
        inside[word] -= 1
        if not inside[word]:
            del inside[word]
    return start
