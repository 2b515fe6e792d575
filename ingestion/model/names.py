"""Names and texts that callers choose."""

from __future__ import annotations

import re
from typing import Final

from ingestion.errors import BadRequest, not_text

MAX_FILENAME_BYTES: Final = 255
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


def clean_filename(name: str) -> str:
    """Return the last path component of an uploaded file's name. Use it for display only, never as a path.

    Control characters and lone surrogates are dropped and the name is cut to MAX_FILENAME_BYTES of UTF-8 without
    splitting a character. An empty result becomes "unnamed.pdf".
    """
    base = re.split(r"[\\/]", name)[-1]
    printable = "".join(c for c in base if c.isprintable()).encode("utf-8", "ignore")
    cleaned = printable[:MAX_FILENAME_BYTES].decode("utf-8", "ignore").strip()
    return cleaned if cleaned not in ("", ".", "..") else "unnamed.pdf"
