"""A push parser for uploads: chunks of a multipart/form-data body in, the files that it holds out.

Starlette's own form reader keeps no limit per file and stores every file whole before the handler sees one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from ingestion.errors import BadRequest

FILE_FIELDS: Final = ("files", "file")
_MAX_HEADER_BYTES: Final = 16 * 1024
"""Enough for a filename of a few thousand bytes, percent-encoded."""

MAX_OTHER_BYTES: Final = 1024 * 1024
"""Data of parts that are no files, and what comes before the first part and after the last one."""

_PARAMETER: Final = re.compile(r';\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;]*))', re.DOTALL)
_ESCAPED: Final = re.compile(r'\\(["\\])')


@dataclass(frozen=True, slots=True)
class FileStart:
    filename: str
    """As the sender wrote it, and not to be trusted."""


@dataclass(frozen=True, slots=True)
class FileData:
    data: bytes


@dataclass(frozen=True, slots=True)
class FileEnd:
    pass


@dataclass(frozen=True, slots=True)
class FormLimitExceeded:
    """The form has more parts, or more bytes outside of files, than are read. It is the last event."""

    what: str


FileEvent = FileStart | FileData | FileEnd | FormLimitExceeded


class _LimitReached(Exception):
    """Leaves the parser from within a callback."""


class FileParser:
    """Feed it the body in any chunks; parts that are no files, or belong to other fields, are passed over."""

    def __init__(self, content_type: str, max_parts: int) -> None:
        """Raises BadRequest where `content_type` is not multipart/form-data with a boundary."""
        self._max_parts = max_parts
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
        """What `chunk` adds, in order. Raises BadRequest where the body is malformed.

        After a FormLimitExceeded nothing more may be fed.
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
        """The body is over. Raises BadRequest where it broke off before its closing boundary."""
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
        parameters = _parameters(_decode(self._disposition))
        filename = _filename(parameters)
        self._in_file = filename is not None and parameters.get("name") in FILE_FIELDS
        if self._in_file:
            self._events.append(FileStart(filename or ""))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._events.append(FileData(data[start:end]))
        else:
            self._other_bytes += end - start

    def _on_part_end(self) -> None:
        if self._in_file:
            self._events.append(FileEnd())
        self._in_file = False

    def _on_end(self) -> None:
        self._ended = True


def _boundary(content_type: str) -> bytes:
    kind = content_type.partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise BadRequest(f"content type {kind or 'unknown'!r} is not multipart/form-data")
    boundary = _parameters(content_type).get("boundary", "")
    if not boundary:
        raise BadRequest("the content type names no multipart boundary")
    return boundary.encode("utf-8", "surrogateescape")


def _decode(header: bytes) -> str:
    """Browsers and libraries send UTF-8 (RFC 7578, section 5.1.1); anything else is read so that nothing is lost."""
    try:
        return header.decode("utf-8")
    except UnicodeDecodeError:
        return header.decode("latin-1")


def _parameters(header: str) -> dict[str, str]:
    """The parameters of a header by lower-case name, unquoted; the first one of a name counts."""
    found: dict[str, str] = {}
    for name, quoted, token in _PARAMETER.findall(header):
        value = _ESCAPED.sub(r"\1", quoted) if quoted else token.strip()
        found.setdefault(name.lower(), value)
    return found


def _filename(parameters: Mapping[str, str]) -> str | None:
    """None where the part is not a file. `filename*` is not allowed here (RFC 7578, section 4.2) but is sent."""
    charset, _, encoded = parameters.get("filename*", "").partition("'")
    _, quote, value = encoded.partition("'")
    if quote:
        try:
            return unquote(value, encoding=charset or "utf-8", errors="replace")
        except (LookupError, ValueError):  # no character set for this; there may be a plain filename as well
            pass
    plain = parameters.get("filename")
    # What the HTML standard escapes in a filename; senders that escape with a backslash were undone before.
    return plain and plain.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")
