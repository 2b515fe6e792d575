"""Ids of documents and keys of objects. The same upload always gets the same id and keys."""

from __future__ import annotations

import hashlib
from typing import Final

DOCUMENTS_PREFIX: Final = "documents/"
"""The prefix of all objects of all documents."""


def document_id(collection: str, filename: str, sha256: str) -> str:
    """Return the id. The same file under the same name in the same collection has the same id."""
    return hashlib.sha256("\0".join((collection, filename, sha256)).encode()).hexdigest()[:32]


def source_key(document: str) -> str:
    return f"{document_prefix(document)}source.pdf"


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


def _vectors_stem(document: str, page_number: int, generation: int) -> str:
    mark = "" if generation == 1 else f".g{generation}"
    return f"{pages_prefix(document)}{page_number:06d}{mark}"
