"""How a call fails, and which errors of the function itself may cross. A child names an error; it cannot send one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ingestion.errors import (
    CorruptPdf,
    EmptyFile,
    EncryptedPdf,
    IngestError,
    NoPages,
    NotAPdf,
    PageRenderFailed,
    TooManyPages,
)

OUT_OF_MEMORY: Final = "out_of_memory"
NOT_PLAIN: Final = "not_plain"
OTHER: Final = "other"
"""An error that is not on the list; the message has its name."""

CROSSING: Final[Mapping[str, type[IngestError]]] = {
    error.code: error
    for error in (CorruptPdf, EmptyFile, EncryptedPdf, NoPages, NotAPdf, PageRenderFailed, TooManyPages)
}
MAX_MESSAGE_CHARS: Final = 500


class ChildTimeout(Exception):
    """The function used up its CPU time; its process was killed."""


class ChildCrashed(Exception):
    """The process died, or did not keep to the protocol, and was killed."""


class ChildOutOfMemory(ChildCrashed):
    """The process ran out of the memory it was allowed."""


class ChildFailed(ChildCrashed):
    """The function raised an error that is not ours, or returned what is not plain data."""


def code_of(error: BaseException) -> str:
    """In a child: what the parent is told of `error`."""
    if isinstance(error, MemoryError):
        return OUT_OF_MEMORY
    code = getattr(error, "code", None)
    return str(code) if isinstance(error, IngestError) and CROSSING.get(str(code)) is type(error) else OTHER


def error_of(code: str, message: str, function: str) -> Exception:
    """In the parent: the error that a child has named."""
    if code == OUT_OF_MEMORY:
        return ChildOutOfMemory(f"{function} needs more memory than it is allowed")
    if kind := CROSSING.get(code):
        return kind(message)
    return ChildFailed(f"{function}: {message}")


def clean(message: str) -> str:
    """One line of Unicode, cut to a length that may go into a record."""
    line = " ".join(message.encode(errors="replace").decode().split())
    return "".join(char if char.isprintable() else "?" for char in line[:MAX_MESSAGE_CHARS])
