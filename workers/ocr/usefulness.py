"""Whether a page's text layer is worth keeping, or the page has to be read from its image."""

from __future__ import annotations

import unicodedata
from typing import Final

_LEAST_LETTERS: Final = 8
"""A scanned page may have a stamped page number as its only text."""
_MOST_UNKNOWN: Final = 0.3
"""The part of glyphs without Unicode from which a text is useless."""


def is_useful(text: str) -> bool:
    """False for a few letters, and for glyphs without Unicode: private use, replacement and unassigned characters."""
    return letters_in(text) >= _LEAST_LETTERS and _unknown_part(text) <= _MOST_UNKNOWN


def letters_in(text: str) -> int:
    """The number of letters and digits."""
    return sum(character.isalnum() for character in text)


def _unknown_part(text: str) -> float:
    shown = [character for character in text if not character.isspace()]
    unknown = sum(character == "\ufffd" or unicodedata.category(character) in ("Co", "Cn") for character in shown)
    return unknown / len(shown) if shown else 0.0
