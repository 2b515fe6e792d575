"""A push parser for uploads: it takes chunks of a multipart/form-data body and returns file events.

Starlette's form reader has no limit per file, and stores all files before the handler sees the first.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from ingestion.errors import BadRequest
from ingestion.model import decoded_filename

FILE_FIELDS: Final = (b"files", b"file")
_MAX_HEADER_BYTES: Final = 16 * 1024
"""Enough for a filename of several thousand bytes."""
_MAX_SEMICOLONS: Final = 1000
"""In a Content-Disposition. `parse_options_header` takes 1 µs for each, on the event loop."""

MAX_OTHER_BYTES: Final = 1024 * 1024
"""Limit for the bytes outside of files: other fields, bytes before the first part and after the last part."""


@dataclass(frozen=True, slots=True)
class FileStart:
    filename: str
    """As the sender wrote it: not safe to use as a path."""


@dataclass(frozen=True, slots=True)
class FileData:
    data: bytes


@dataclass(frozen=True, slots=True)
class FileEnd:
    pass


@dataclass(frozen=True, slots=True)
class FormField:
    """A field of `fields`, whole."""

    name: str
    value: bytes


@dataclass(frozen=True, slots=True)
class FormLimitExceeded:
    """The form exceeds the limit of parts, or of bytes outside of files. It is the last event."""

    message: str


FileEvent = FileStart | FileData | FileEnd | FormField | FormLimitExceeded


class _LimitReached(Exception):
    """Stops the parser from within a callback."""


class FileParser:
    """Parses a body that comes in chunks. Files and the named fields become events. Other parts are skipped."""

    def __init__(self, content_type: str, max_parts: int, fields: Collection[str] = ()) -> None:
        """Raises BadRequest where `content_type` is not multipart/form-data with a boundary."""
        self._max_parts = max_parts
        self._fields = {name.encode(): name for name in fields}
        self._field: str | None = None
        """The name of the field that is being read."""
        self._field_value = bytearray()
        self._parts = 0
        self._other_bytes = 0
        self._events: list[FileEvent] = []
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._disposition = b""
        self._in_file = False
        self._ended = False
        try:
            self._parser = MultipartParser(
                _boundary(content_type),
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
                max_header_size=_MAX_HEADER_BYTES,
            )
        except FormParserError as error:
            raise BadRequest(f"the multipart boundary is not usable: {error}") from error

    def feed(self, chunk: bytes) -> list[FileEvent]:
        """The events of `chunk`, in order. Raises BadRequest where the body is malformed.

        Do not call again after FormLimitExceeded.
        """
        if self._ended or not self._parts:
            self._other_bytes += len(chunk)
        try:
            self._parser.write(chunk)
        except _LimitReached:
            self._events.append(FormLimitExceeded(f"more than {self._max_parts} parts in one form"))
        except FormParserError as error:
            raise BadRequest(f"the multipart body is malformed: {error}") from error
        if self._other_bytes > MAX_OTHER_BYTES:
            self._events.append(FormLimitExceeded(f"more than {MAX_OTHER_BYTES} bytes outside of files in one form"))
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        """The body is complete. Raises BadRequest where the closing boundary is missing."""
        if not self._ended:
            raise BadRequest("the multipart body is malformed: it ends without its closing boundary")

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > self._max_parts:
            raise _LimitReached
        self._disposition = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _on_headers_finished(self) -> None:
        if self._disposition.count(b";") > _MAX_SEMICOLONS:
            raise BadRequest(f"the Content-Disposition of a part has more than {_MAX_SEMICOLONS} parameters")
        # The library ignores `filename*`, which RFC 7578, section 4.2, forbids in forms.
        _, parameters = parse_options_header(self._disposition)
        filename = parameters.get(b"filename")
        if filename is not None and parameters.get(b"name") in FILE_FIELDS:
            self._in_file = True
            self._events.append(FileStart(_decode(filename)))
        elif filename is None:
            self._field = self._fields.get(parameters.get(b"name", b""))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._events.append(FileData(data[start:end]))
        else:
            self._other_bytes += end - start
            if self._field is not None and self._other_bytes <= MAX_OTHER_BYTES:
                self._field_value += data[start:end]

    def _on_part_end(self) -> None:
        if self._in_file:
            self._events.append(FileEnd())
        elif self._field is not None:
            self._events.append(FormField(self._field, bytes(self._field_value)))
        self._in_file, self._field = False, None
        self._field_value.clear()

    def _on_end(self) -> None:
        self._ended = True


def _boundary(content_type: str) -> bytes:
    kind, parameters = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        raise BadRequest(f"content type {kind.decode('latin-1') or 'unknown'!r} is not multipart/form-data")
    boundary = parameters.get(b"boundary", b"")
    if not boundary:
        raise BadRequest("the content type names no multipart boundary")
    return boundary


def _decode(filename: bytes) -> str:
    """The HTML standard escapes quotes and line breaks as %22, %0D and %0A."""
    text = decoded_filename(filename)
    return text.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")
