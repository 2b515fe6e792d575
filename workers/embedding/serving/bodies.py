"""Bodies of requests: counted before they are read, and dropped when their sender stops.

What is announced is reserved at once; what comes in chunks of unknown number is reserved as it arrives. Small bodies
have a share of the room to themselves: senders of large ones cannot keep queries out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from workers.embedding.serving.api_errors import ApiError

_SMALL_BYTES: Final = 1024**2
_SMALL_SHARE: Final = 4
"""One part in so many is for small bodies."""
_FULL_RETRY_S: Final = 1
_SILENCE_S: Final = 10.0
_SLOWEST_BYTES_PER_S: Final = 64 * 1024


class BodyBudget:
    """Bytes of bodies that are being read or worked on, in one process."""

    def __init__(self, limit_bytes: int) -> None:
        self._limits_bytes = {"small": limit_bytes // _SMALL_SHARE, "large": limit_bytes - limit_bytes // _SMALL_SHARE}
        self._held_bytes = dict.fromkeys(self._limits_bytes, 0)
        self.limit_bytes = limit_bytes
        self.refused = 0

    @property
    def in_flight_bytes(self) -> int:
        return sum(self._held_bytes.values())

    @contextmanager
    def hold(self) -> Iterator[Reservation]:
        """A reservation, empty at first, that is released when the block is left."""
        reservation = Reservation(self)
        try:
            yield reservation
        finally:
            self.exchange(reservation.size_bytes, 0)

    def exchange(self, old_bytes: int, new_bytes: int) -> None:
        """Let a body of `old_bytes` have `new_bytes`. Raises ApiError, and changes nothing, where there is no room.

        What is larger than all the room is let in where no other body of its kind is.
        """
        old, new = _kind(old_bytes), _kind(new_bytes)
        others_bytes = self._held_bytes[new] - (old_bytes if new == old else 0)
        if new_bytes > old_bytes and others_bytes and others_bytes + new_bytes > self._limits_bytes[new]:
            self.refused += 1
            raise ApiError(
                f"requests in progress take the {self.limit_bytes} bytes that there are for them; "
                f"try again in {_FULL_RETRY_S} s",
                code="overloaded",
                status=HTTPStatus.TOO_MANY_REQUESTS,
                retry_after_s=_FULL_RETRY_S,
            )
        self._held_bytes[old] -= old_bytes
        self._held_bytes[new] += new_bytes

    def status(self) -> dict[str, int]:
        """For /health."""
        return {"in_flight_bytes": self.in_flight_bytes, "limit_bytes": self.limit_bytes, "refused": self.refused}


class Reservation:
    """Room for one body. Made by `BodyBudget.hold`."""

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self.size_bytes = 0

    def grow_to(self, size_bytes: int) -> None:
        """Does nothing where there is room already. Raises ApiError."""
        if size_bytes > self.size_bytes:
            self._budget.exchange(self.size_bytes, size_bytes)
            self.size_bytes = size_bytes


async def read_body(
    scope: Scope, receive: Receive, reservation: Reservation, max_bytes: int, *, silence_s: float = _SILENCE_S
) -> bytes | bytearray:
    """Raises ClientDisconnect, and ApiError: 413 for a body that is too large, 429 for one that there is no room for,
    both before any of it is read if its length is announced; 408 where nothing comes for `silence_s`, or too little.
    """
    announced = Headers(scope=scope).get("content-length", "")
    if announced.isdecimal():
        _check_size(int(announced), max_bytes)
        reservation.grow_to(int(announced))
    clock = asyncio.get_running_loop().time
    started = clock()
    body = bytearray()
    while True:
        left_s = silence_s + len(body) / _SLOWEST_BYTES_PER_S - (clock() - started)
        message = await _next(receive, min(silence_s, left_s))
        chunk: bytes = message.get("body", b"")
        _check_size(len(body) + len(chunk), max_bytes)
        reservation.grow_to(len(body) + len(chunk))
        more = message.get("more_body", False)
        if not more and not body:
            return chunk
        body += chunk
        if not more:
            return body


async def _next(receive: Receive, timeout_s: float) -> Any:
    if timeout_s <= 0:
        raise _stopped()
    try:
        async with asyncio.timeout(timeout_s):
            message = await receive()
    except TimeoutError:
        raise _stopped() from None
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message


def _stopped() -> ApiError:
    return ApiError(
        f"the body has come to a halt, or comes at less than {_SLOWEST_BYTES_PER_S} bytes a second",
        code="request_timeout",
        status=HTTPStatus.REQUEST_TIMEOUT,
        closes=True,
    )


def _check_size(size_bytes: int, max_bytes: int) -> None:
    if size_bytes > max_bytes:
        raise ApiError(
            f"the request has more than the {max_bytes} bytes accepted",
            code="request_too_large",
            status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        )


def _kind(size_bytes: int) -> str:
    return "small" if size_bytes <= _SMALL_BYTES else "large"
