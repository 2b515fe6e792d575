"""Names and texts that callers choose."""

from __future__ import annotations

import re
import unicodedata
from contextlib import suppress
from typing import Final

from ingestion.errors import BadRequest, not_text

MAX_FILENAME_BYTES: Final = 255
_LONGEST_SUFFIX_BYTES: Final = 32
_DIRECTION_MARKS: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""With them, a name may show another extension than it has."""
_JAPANESE_LEAD: Final = re.compile(rb"[\x81-\x9f][\x40-\xfc]")
_LEAST_JAPANESE: Final = 2
_COLLECTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


def check_collection(name: str) -> str:
    """Return `name`. Raises BadRequest if it is not a valid collection name."""
    if not _COLLECTION.fullmatch(name):
        raise BadRequest(
            f"collection name {name[:120]!r} is not usable: 1 to 100 letters, digits, '_' or '-', "
            "beginning with a letter or digit"
        )
    return name


def check_text(text: str, name: str) -> str:
    """Return `text`. Raises BadRequest if it contains a lone surrogate, which no encoding can hold.

    A JSON escape can be one, and Python makes one from each byte of a command line that is not UTF-8. The message
    calls the text `name`.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRequest(f"{name}: {not_text(error)}") from error
    return text


def decoded_filename(filename: bytes) -> str:
    """Browsers, libraries and most file systems use UTF-8 (RFC 7578, section 5.1.1).

    Other bytes are read as Shift-JIS or Latin-1.
    """
    with suppress(UnicodeDecodeError):
        return filename.decode("utf-8")
    # Common Japanese letters begin with a byte that is a control character in Latin-1.
    if len(_JAPANESE_LEAD.findall(filename)) >= _LEAST_JAPANESE:
        with suppress(UnicodeDecodeError):
            return filename.decode("cp932")
    return filename.decode("latin-1")


def clean_filename(name: str) -> str:
    """Return the last path component of an uploaded file's name. Use it for display only, never as a path.

    The name is normalised (NFC), so that one name is one document wherever it was typed. Separators become spaces.
    Control characters, lone surrogates, and marks that change the direction of the line are dropped. The name is cut
    to MAX_FILENAME_BYTES of UTF-8 without splitting a character, and keeps its extension. An empty result becomes
    "unnamed.pdf".
    """
    base = unicodedata.normalize("NFC", re.split(r"[\\/]", name)[-1])
    readable = "".join(_readable(character) for character in base).strip()
    cleaned = _cut(readable)
    return cleaned if cleaned not in ("", ".", "..") else "unnamed.pdf"


def _readable(character: str) -> str:
    if character in _DIRECTION_MARKS:
        return ""
    category = unicodedata.category(character)
    if category.startswith("Z"):
        return " "
    return "" if category in ("Cc", "Cs") else character


def _cut(name: str) -> str:
    if len(name.encode()) <= MAX_FILENAME_BYTES:
        return name
    stem, dot, extension = name.rpartition(".")
    suffix = f"{dot}{extension}".encode()
    if not stem or len(suffix) > _LONGEST_SUFFIX_BYTES:
        stem, suffix = name, b""
    # A character that is cut, and what only belongs to it, is dropped.
    kept = stem.encode()[: MAX_FILENAME_BYTES - len(suffix)].decode("utf-8", "ignore")
    return kept.rstrip("\u200d\ufe0f ") + suffix.decode()
