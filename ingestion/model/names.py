"""Names and texts that callers choose."""

from __future__ import annotations

import re
from typing import Final

from ingestion.errors import BadRequest, not_text

MAX_FILENAME_BYTES: Final = 255
_COLLECTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


def check_collection(name: str) -> str:
    """Return `name`, or raise BadRequest where it cannot name a collection."""
    if not _COLLECTION.fullmatch(name):
        raise BadRequest(
            f"collection name {name[:120]!r} is not usable: 1 to 100 letters, digits, '_' or '-', "
            "beginning with a letter or digit"
        )
    return name


def check_text(text: str, name: str) -> str:
    """Return `text`, or raise BadRequest where it is no text: half a surrogate pair, which no encoding can hold.

    JSON can spell one as an escape, and Python makes one of each byte of a command line that is not UTF-8. `name` is
    what the message calls `text`.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRequest(f"{name}: {not_text(error)}") from error
    return text


def clean_filename(name: str) -> str:
    """The last path component of what an uploader called the file, for display only; it never becomes a path.

    Control characters and lone surrogates are dropped and the name is cut to MAX_FILENAME_BYTES of UTF-8 without
    splitting a character. An empty result becomes "unnamed.pdf".
    """
    base = re.split(r"[\\/]", name)[-1]
    printable = "".join(c for c in base if c.isprintable()).encode("utf-8", "ignore")
    cleaned = printable[:MAX_FILENAME_BYTES].decode("utf-8", "ignore").strip()
    return cleaned if cleaned not in ("", ".", "..") else "unnamed.pdf"
