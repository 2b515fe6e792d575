"""The format of messages between a process and its child: a prefix of fixed size, JSON, and bytes.

    "PMS1" | 4 bytes: length of the JSON | 8 bytes: length of all bytes | JSON {"message", "blobs": [lengths]} | bytes

The reader checks the lengths before it reads the rest, so a peer cannot make it use more memory than it allows.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

_PREFIX: Final = struct.Struct(">4sIQ")
_MAGIC: Final = b"PMS1"

PREFIX_BYTES: Final = _PREFIX.size
MAX_HEADER_BYTES: Final = 4 * 1024**2
"""The sizes of 100,000 pages."""

_MAX_BLOBS: Final = 10_000


class BadFrame(ValueError):
    """The peer violates the protocol."""


@dataclass(frozen=True, slots=True)
class Lengths:
    header: int
    body: int


def frame(message: dict[str, Any], blobs: list[bytes] | None = None) -> list[bytes]:
    """The parts of a frame, in order. Raises BadFrame where `parse` would refuse it."""
    blobs = blobs or []
    header = json.dumps({"message": message, "blobs": [len(blob) for blob in blobs]}).encode()
    if len(header) > MAX_HEADER_BYTES or len(blobs) > _MAX_BLOBS:
        raise BadFrame("a message that is too long")
    return [_PREFIX.pack(_MAGIC, len(header), sum(map(len, blobs))) + header, *blobs]


def lengths(prefix: bytes, *, max_body_bytes: int) -> Lengths:
    """The lengths of the parts after the prefix. Raises BadFrame."""
    magic, header, body = _PREFIX.unpack(prefix)
    if magic != _MAGIC:
        raise BadFrame("no message of this protocol")
    if header > MAX_HEADER_BYTES or body > max_body_bytes:
        raise BadFrame(f"a message of {header} + {body} bytes, more than {MAX_HEADER_BYTES} + {max_body_bytes}")
    return Lengths(header, body)


def parse(header: bytes, body: bytes | bytearray) -> tuple[dict[str, Any], list[bytes]]:
    """The message and its blobs. Raises BadFrame."""
    try:
        outer = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise BadFrame("no JSON") from error
    if type(outer) is not dict or outer.keys() != {"message", "blobs"} or type(outer["message"]) is not dict:
        raise BadFrame("no message")
    sizes = outer["blobs"]
    if type(sizes) is not list or len(sizes) > _MAX_BLOBS or any(type(n) is not int or n < 0 for n in sizes):
        raise BadFrame("no list of lengths")
    if sum(sizes) != len(body):
        raise BadFrame("lengths that do not add up")
    return outer["message"], list(_cut(body, sizes))


def _cut(body: bytes | bytearray, sizes: list[int]) -> Iterator[bytes]:
    at, view = 0, memoryview(body)
    for size in sizes:
        yield bytes(view[at : at + size])
        at += size
