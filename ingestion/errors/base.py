"""The bases of all errors."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class Fault(StrEnum):
    """Where the cause of an error lies. Each error class sets it, or inherits it."""

    FILE = "file"
    """In the bytes of one file."""
    CALLER = "caller"
    """In what a caller asked for."""
    RECORD = "record"
    """In one record of MongoDB, Kafka or the object store, that this release cannot read."""
    COLLECTION = "collection"
    """In one collection, which this worker cannot fill."""
    SERVER = "server"
    """In a server that this process talks to."""
    TURN = "turn"
    """Nowhere: another process works on the same thing at this moment."""
    WORKER = "worker"
    """In this process, its configuration, its machine or its release, as far as Pagemill knows."""


class IngestError(Exception):
    """Base of everything that Pagemill raises on purpose."""

    code = "internal"
    fault: ClassVar[Fault | None] = None
    """None in the three classes that are only bases."""

    def __init__(self, message: str, *, stage: str | None = None) -> None:
        super().__init__(message)
        self.stage = stage

    @property
    def message(self) -> str:
        return str(self.args[0])


class RetryableError(IngestError):
    """The same call may succeed later; the document is not at fault."""

    code = "retryable"
    may_work_soon: ClassVar[bool] = True
    """Whether a repetition within the same attempt may help."""


class PermanentError(IngestError):
    """No retry can help: the input itself is the cause."""

    code = "permanent"


def not_text(error: UnicodeEncodeError) -> str:
    """Say why a text cannot be encoded."""
    at = error.start
    return f"U+{ord(error.object[at]):04X} at position {at} is half of a surrogate pair, or a byte that was not UTF-8"
