"""How a call fails. A child can report only the errors that are listed here, by their code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ingestion.errors import (
    ConversionFailed,
    CorruptPdf,
    EmptyFile,
    EncryptedFile,
    EncryptedPdf,
    IngestError,
    NoPages,
    NotAPdf,
    PageRenderFailed,
    TooManyPages,
    UnsupportedType,
)

OUT_OF_MEMORY: Final = "out_of_memory"
NOT_PLAIN: Final = "not_plain"
OTHER: Final = "other"
"""An error that is not listed; the message contains its name."""

CROSSING: Final[Mapping[str, type[IngestError]]] = {
    error.code: error
    for error in (
        ConversionFailed,
        CorruptPdf,
        EmptyFile,
        EncryptedFile,
        EncryptedPdf,
        NoPages,
        NotAPdf,
        PageRenderFailed,
        TooManyPages,
        UnsupportedType,
    )
}
MAX_MESSAGE_CHARS: Final = 500


class ChildTimeout(Exception):
    """The function used up its CPU time; its process was killed."""


class ChildCrashed(Exception):
    """The process died, or did not keep to the protocol, and was killed."""


class ChildOutOfMemory(ChildCrashed):
    """The process ran out of the memory it was allowed."""


class ChildFailed(ChildCrashed):
    """The function raised an error that is not listed, or returned a value that is not plain data."""


def code_of(error: BaseException) -> str:
    """In a child: the code by which `error` is reported to the parent."""
    if isinstance(error, MemoryError):
        return OUT_OF_MEMORY
    code = getattr(error, "code", None)
    return str(code) if isinstance(error, IngestError) and CROSSING.get(str(code)) is type(error) else OTHER


def error_of(code: str, message: str, function: str) -> Exception:
    """In the parent: the error that a child has reported."""
    if code == OUT_OF_MEMORY:
        return ChildOutOfMemory(f"{function} needs more memory than it is allowed")
    if kind := CROSSING.get(code):
        return kind(message)
    return ChildFailed(f"{function}: {message}")


def clean(message: str) -> str:
    """`message` as one line of printable Unicode, cut to MAX_MESSAGE_CHARS."""
    line = " ".join(message.encode(errors="replace").decode().split())
    return "".join(char if char.isprintable() else "?" for char in line[:MAX_MESSAGE_CHARS])
