"""Ids of documents and keys of objects. The same upload always gets the same id and keys."""

from __future__ import annotations

import hashlib
from typing import Final

DOCUMENTS_PREFIX: Final = "documents/"
"""The prefix of all objects of all documents."""
SEGMENT_PAGES: Final = 64
"""Pages whose sign codes, or terms, are one object. Part of the formats: see SIGN_CODE_FORMAT and TERM_FORMAT."""
SIGN_CODE_FORMAT: Final = 1
"""The format of sign codes that this release writes and reads."""
TERM_FORMAT: Final = 1
"""The format of terms that this release writes and reads. Another way to split texts into terms is another format."""


def document_id(collection: str, filename: str, sha256: str, key: str = "") -> str:
    """Return the id. The same file under the same name and key in the same collection has the same id."""
    parts = (collection, filename, sha256, key) if key else (collection, filename, sha256)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def source_key(document: str, extension: str = "pdf") -> str:
    """The key of the uploaded file."""
    return f"{document_prefix(document)}source.{extension}"


def converted_key(document: str) -> str:
    """The key of the PDF that was made from an uploaded file of another type."""
    return f"{document_prefix(document)}converted.pdf"


def document_prefix(document: str) -> str:
    return f"{DOCUMENTS_PREFIX}{document}/"


def pages_prefix(document: str) -> str:
    return f"{document_prefix(document)}pages/"


def image_key(document: str, page_number: int, extension: str) -> str:
    return f"{pages_prefix(document)}{page_number:06d}.{extension}"


def vectors_key(document: str, page_number: int, generation: int = 1) -> str:
    return f"{_vectors_stem(document, page_number, generation)}.vec"


def old_vectors_key(document: str, page_number: int, generation: int = 1) -> str:
    """Return the key that releases before 0.2 used."""
    return f"{_vectors_stem(document, page_number, generation)}.bf16"


def both_vectors_keys(document: str, page_number: int, generation: int = 1) -> tuple[str, str]:
    return vectors_key(document, page_number, generation), old_vectors_key(document, page_number, generation)


def codes_key(document: str, first_page: int, generation: int = 1) -> str:
    """The key of the sign codes of SEGMENT_PAGES pages from page `first_page` on: see `vectors.sign_codes`."""
    return f"{_vectors_stem(document, first_page, generation)}.codes"


def codes_keys(document: str, pages: int, generation: int = 1) -> list[str]:
    """The keys of all sign codes of a document of `pages` pages."""
    return [codes_key(document, first, generation) for first in range(1, pages + 1, SEGMENT_PAGES)]


def terms_key(document: str, first_page: int) -> str:
    """The key of the terms of SEGMENT_PAGES pages from page `first_page` on: see `terms.segment`.

    Texts are the same in all generations, and so are terms.
    """
    return f"{pages_prefix(document)}{first_page:06d}.terms"


def terms_keys(document: str, pages: int) -> list[str]:
    """The keys of all terms of a document of `pages` pages."""
    return [terms_key(document, first) for first in range(1, pages + 1, SEGMENT_PAGES)]


def _vectors_stem(document: str, page_number: int, generation: int) -> str:
    mark = "" if generation == 1 else f".g{generation}"
    return f"{pages_prefix(document)}{page_number:06d}{mark}"
