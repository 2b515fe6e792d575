"""Frames over a blocking socket, with file descriptors: used by the launcher and the children."""

from __future__ import annotations

import os
import socket
from typing import Any, Final

from ingestion.sandbox.frames import PREFIX_BYTES, frame, lengths, parse

_MOST_DESCRIPTORS: Final = 4


class Closed(Exception):
    """The peer has closed the socket."""


def send(sock: socket.socket, message: dict[str, Any], blobs: list[bytes] | None = None) -> None:
    """Raises BadFrame, OSError."""
    for part in frame(message, blobs):
        sock.sendall(part)


def receive(sock: socket.socket, *, max_body_bytes: int) -> tuple[dict[str, Any], list[bytes], list[int]]:
    """Waits for the next message. Returns it with its blobs and descriptors. Raises Closed, BadFrame."""
    prefix, descriptors, _, _ = socket.recv_fds(sock, PREFIX_BYTES, _MOST_DESCRIPTORS)
    try:
        if len(prefix) < PREFIX_BYTES:
            prefix += _exactly(sock, PREFIX_BYTES - len(prefix))
        sizes = lengths(prefix, max_body_bytes=max_body_bytes)
        message, blobs = parse(bytes(_exactly(sock, sizes.header)), _exactly(sock, sizes.body))
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return message, blobs, descriptors


def _exactly(sock: socket.socket, count: int) -> bytearray:
    data = bytearray(count)
    view, at = memoryview(data), 0
    while at < count:
        read = sock.recv_into(view[at:])
        if not read:
            raise Closed
        at += read
    view.release()
    return data
