"""Uploaded files on their way through: each rests in a temporary file while it is measured, hashed and looked at.

Memory holds WRITE_BYTES of a file at most, whatever its size.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ingestion.api.multipart import FileBegins, FileData, FileEnds, FileParser
from ingestion.errors import DependencyUnavailable, FileTooLarge, PermanentError, TooManyFiles
from ingestion.model import clean_filename
from ingestion.pdf import MAGIC_WITHIN_BYTES, check_magic
from ingestion.submit import Upload

WRITE_BYTES: Final = 1024 * 1024
"""Data is written and hashed in pieces of about this size, off the event loop."""


@dataclass(frozen=True, slots=True)
class Limits:
    max_file_bytes: int
    max_files: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file that is not accepted, and why."""

    filename: str
    error: PermanentError


async def receive(
    body: AsyncIterator[bytes], parser: FileParser, directory: Path | None, limits: Limits
) -> AsyncGenerator[Upload | Refusal, None]:
    """Each file of the body as soon as its last byte has come. An Upload's file is gone when the next is asked for.

    Raises BadRequest where the body is malformed, DependencyUnavailable where the directory cannot be written.
    """
    files = 0
    spool: _Spool | None = None
    try:
        async for chunk in body:
            for event in parser.feed(chunk):
                match event:
                    case FileBegins(filename):
                        files += 1
                        spool = _Spool(clean_filename(filename), directory, limits.max_file_bytes)
                        if files > limits.max_files:
                            spool.refuse(TooManyFiles(f"more than {limits.max_files} files in one upload"))
                    case FileData(data) if spool:
                        await spool.write(data)
                    case FileEnds() if spool:
                        yield await spool.finish()
                        spool.discard()
        parser.close()
    finally:
        if spool:
            spool.discard()


class _Spool:
    """One file. Once it is refused, the rest of it is taken and dropped."""

    def __init__(self, filename: str, directory: Path | None, max_bytes: int) -> None:
        self._filename = filename
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self._sha256 = hashlib.sha256()
        self._buffer = bytearray()
        self._looked_at = False
        self._refusal: PermanentError | None = None
        try:
            # Closed and removed by `discard`.
            self._file = tempfile.NamedTemporaryFile(prefix="pagemill-", suffix=".pdf", dir=directory)  # noqa: SIM115
        except OSError as error:
            raise _cannot_write(error) from error

    async def write(self, data: bytes) -> None:
        self._size_bytes += len(data)
        if self._refusal:
            return
        if self._size_bytes > self._max_bytes:
            self.refuse(FileTooLarge(f"the file is larger than {self._max_bytes} bytes"))
            return
        self._buffer += data
        if not self._looked_at and len(self._buffer) >= MAGIC_WITHIN_BYTES:
            self._look()
        if len(self._buffer) >= WRITE_BYTES:
            await self._flush()

    async def finish(self) -> Upload | Refusal:
        """The file is complete."""
        if not self._looked_at:
            self._look()
        await self._flush()
        if self._refusal:
            return Refusal(self._filename, self._refusal)
        return Upload(self._filename, Path(self._file.name), self._sha256.hexdigest(), self._size_bytes)

    def refuse(self, error: PermanentError) -> None:
        self._refusal = self._refusal or error
        self._buffer.clear()
        self.discard()

    def discard(self) -> None:
        """Remove the temporary file. Not in a thread: it must happen in a cancelled request too."""
        with suppress(OSError):  # what a full disk refused before, it refuses again
            self._file.close()

    def _look(self) -> None:
        self._looked_at = True
        if self._refusal:
            return
        try:
            check_magic(bytes(self._buffer[:MAGIC_WITHIN_BYTES]))
        except PermanentError as error:
            self.refuse(error)

    async def _flush(self) -> None:
        if self._buffer:
            piece, self._buffer = self._buffer, bytearray()
            await asyncio.to_thread(self._store, piece)

    def _store(self, piece: bytearray) -> None:
        try:
            self._file.write(piece)
            self._file.flush()
        except OSError as error:
            raise _cannot_write(error) from error
        self._sha256.update(piece)


def _cannot_write(error: OSError) -> DependencyUnavailable:
    return DependencyUnavailable("spool directory", str(error))
