"""Spooling of uploaded files: each file is written to a temporary file and hashed while it arrives.

At most WRITE_BYTES of a file are in memory.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from ingestion.api.multipart import FileData, FileEnd, FileParser, FileStart, FormField, FormLimitExceeded
from ingestion.errors import DependencyUnavailable, EmptyFile, FileTooLarge, FormTooLarge, PermanentError, TooManyFiles
from ingestion.formats.detection import PDF_MAGIC_WITHIN_BYTES, detect
from ingestion.model import clean_filename
from ingestion.submit import Upload

WRITE_BYTES: Final = 1024 * 1024
"""Data is written and hashed in pieces of about this size, in a thread."""
_MAX_OTHER_FIELDS: Final = 16


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Files after the first `max_files` are refused. Reading stops after `max_parts` parts of the form, or after
    `max_dropped_bytes` of refused files.
    """

    max_file_bytes: int
    max_files: int

    @property
    def max_parts(self) -> int:
        return 2 * self.max_files + _MAX_OTHER_FIELDS

    @property
    def max_dropped_bytes(self) -> int:
        return self.max_file_bytes + WRITE_BYTES


@dataclass(frozen=True, slots=True)
class RefusedFile:
    """A file that is not accepted."""

    filename: str
    error: PermanentError


async def spool_files(
    body: AsyncIterator[bytes],
    parser: FileParser,
    directory: Path | None,
    limits: UploadLimits,
    on_field: Callable[[str, bytes], None] | None = None,
) -> AsyncGenerator[Upload | RefusedFile, None]:
    """Yield each file of the body when its last byte has arrived. The next step deletes the file of an Upload.

    `on_field` gets the name and the value of each form field. What it raises ends the reading.

    Raises BadRequest where the body is malformed, FormTooLarge where a limit of the form is reached,
    DependencyUnavailable where the directory cannot be written.
    """
    files = 0
    dropped_bytes = 0
    spool: _SpooledFile | None = None
    try:
        async for chunk in body:
            for event in parser.feed(chunk):
                match event:
                    case FileStart(filename):
                        files += 1
                        spool = _SpooledFile(clean_filename(filename), directory, limits.max_file_bytes)
                        if files > limits.max_files:
                            spool.refuse(TooManyFiles(f"more than {limits.max_files} files in one upload"))
                    case FileData(data) if spool:
                        if not await spool.write(data):
                            dropped_bytes += len(data)
                            if dropped_bytes > limits.max_dropped_bytes:
                                yield await spool.finish()
                                raise FormTooLarge(
                                    f"refused files of one upload have more than {limits.max_dropped_bytes} bytes"
                                )
                    case FileEnd() if spool:
                        yield await spool.finish()
                        spool.discard()
                    case FormField(name, value) if on_field is not None:
                        on_field(name, value)
                    case FormLimitExceeded(message):
                        raise FormTooLarge(message)
        parser.close()
    finally:
        if spool:
            spool.discard()


class _SpooledFile:
    """One file. After `refuse`, the rest of its data is dropped."""

    def __init__(self, filename: str, directory: Path | None, max_bytes: int) -> None:
        self._filename = filename
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self._sha256 = hashlib.sha256()
        self._buffer = bytearray()
        self._is_checked = False
        """Whether the first bytes have shown that the file's type is accepted."""
        self._error: PermanentError | None = None
        self._directory = directory
        self._file: IO[bytes] | None = None
        self._is_discarded = False

    async def write(self, data: bytes) -> bool:
        """False where the file is refused and `data` is dropped."""
        self._size_bytes += len(data)
        if not self._error and self._size_bytes > self._max_bytes:
            self.refuse(FileTooLarge(f"the file is larger than {self._max_bytes} bytes"))
        if self._error:
            return False
        self._buffer += data
        if not self._is_checked and len(self._buffer) >= PDF_MAGIC_WITHIN_BYTES:
            self._check_type()
        if len(self._buffer) >= WRITE_BYTES:
            await self._flush()
        return True

    async def finish(self) -> Upload | RefusedFile:
        """The result. Call it after the last `write`."""
        if not self._is_checked:
            self._check_type()
        await self._flush()
        if self._error or self._file is None:
            return RefusedFile(self._filename, self._error or EmptyFile("the file is empty"))
        return Upload(self._filename, Path(self._file.name), self._sha256.hexdigest(), self._size_bytes)

    def refuse(self, error: PermanentError) -> None:
        self._error = self._error or error
        self._buffer.clear()
        self.discard()

    def discard(self) -> None:
        """Remove the temporary file. Not in a thread, so that it also works in a cancelled request."""
        self._is_discarded = True
        if self._file is not None:
            with suppress(OSError):  # close flushes: on a full disk it fails again
                self._file.close()

    def _check_type(self) -> None:
        self._is_checked = True
        if self._error:
            return
        try:
            detect(bytes(self._buffer[:PDF_MAGIC_WITHIN_BYTES]), self._filename)
        except PermanentError as error:
            self.refuse(error)

    async def _flush(self) -> None:
        if self._buffer:
            piece, self._buffer = self._buffer, bytearray()
            await asyncio.to_thread(self._write_piece, piece)

    def _write_piece(self, piece: bytearray) -> None:
        """Runs in a thread. Most files are one piece, for which this is one call."""
        try:
            if self._file is None:
                # Closed and removed by `discard`.
                self._file = tempfile.NamedTemporaryFile(  # noqa: SIM115
                    prefix="pagemill-", dir=self._directory
                )
            self._file.write(piece)
            self._file.flush()
        except OSError as error:
            raise _cannot_write(error) from error
        self._sha256.update(piece)
        if self._is_discarded:  # meanwhile: the request was cancelled
            self.discard()


def _cannot_write(error: OSError) -> DependencyUnavailable:
    return DependencyUnavailable("spool directory", str(error))
