"""The stretch of a page's text that is shown with a hit."""

from __future__ import annotations

import re
from typing import Final

_SNIPPET_CHARS: Final = 240
_LEAD_CHARS: Final = 30
"""What is shown of the text before the first word that was asked for."""


def snippet(text: str, query: str) -> str:
    """The stretch of `text` in which most of the query's words stand, on one line, about 240 characters."""
    line = " ".join(text.split())
    if len(line) <= _SNIPPET_CHARS:
        return line
    words = {word for word in re.findall(r"\w+", query.lower()) if len(word) > 2}
    found = [(m.start(), m.group().lower()) for m in re.finditer(r"\w+", line) if m.group().lower() in words]
    start = max(
        (at for at, _ in found),
        key=lambda at: len({word for other, word in found if at <= other < at + _SNIPPET_CHARS}),
        default=0,
    )
    begin = max(0, min(start - _LEAD_CHARS, len(line) - _SNIPPET_CHARS))
    cut = line[begin : begin + _SNIPPET_CHARS]
    return ("…" if begin else "") + cut.strip() + ("…" if begin + _SNIPPET_CHARS < len(line) else "")
