"""Read request bodies within a memory budget, and drop a body whose sender stops.

A body with a Content-Length reserves its bytes at once; a chunked body reserves them as they arrive. Small bodies have
a share of the budget of their own, so that large bodies cannot keep queries out.
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

from workers.embedding.serving.service_errors import ServiceError

_SMALL_BYTES: Final = 1024**2
_SMALL_SHARE: Final = 4
"""Small bodies get 1 / _SMALL_SHARE of the budget."""
_FULL_RETRY_S: Final = 1
_SILENCE_S: Final = 10.0
_SLOWEST_BYTES_PER_S: Final = 64 * 1024


class BodyBudget:
    """Bytes of the bodies that this process reads or works on."""

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
        """An empty reservation, released at the end of the block."""
        reservation = Reservation(self)
        try:
            yield reservation
        finally:
            self.exchange(reservation.size_bytes, 0)

    def exchange(self, old_bytes: int, new_bytes: int) -> None:
        """Change a reservation from `old_bytes` to `new_bytes`. Raises ServiceError, without a change, if full.

        A body above the whole limit is admitted while no other body of its kind is held.
        """
        old, new = _kind(old_bytes), _kind(new_bytes)
        others_bytes = self._held_bytes[new] - (old_bytes if new == old else 0)
        if new_bytes > old_bytes and others_bytes and others_bytes + new_bytes > self._limits_bytes[new]:
            self.refused += 1
            raise ServiceError(
                f"requests in progress hold all of the {self.limit_bytes} bytes for bodies; "
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
    """Bytes reserved for one body. Made by `BodyBudget.hold`."""

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self.size_bytes = 0

    def grow_to(self, size_bytes: int) -> None:
        """Reserve `size_bytes` in all. Does nothing if that much is reserved. Raises ServiceError."""
        if size_bytes > self.size_bytes:
            self._budget.exchange(self.size_bytes, size_bytes)
            self.size_bytes = size_bytes


async def read_body(
    scope: Scope, receive: Receive, reservation: Reservation, max_bytes: int, *, silence_s: float = _SILENCE_S
) -> bytes | bytearray:
    """Return the whole body.

    Raises ClientDisconnect, and ServiceError: 413 for a body above `max_bytes`, 429 for one above the budget (both
    before the first read if the length is announced), 408 for a sender that pauses for `silence_s` or is too slow.
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
        raise _too_slow()
    try:
        async with asyncio.timeout(timeout_s):
            message = await receive()
    except TimeoutError:
        raise _too_slow() from None
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message


def _too_slow() -> ServiceError:
    return ServiceError(
        f"the body arrives too slowly; send at least {_SLOWEST_BYTES_PER_S} bytes a second, without long pauses",
        code="request_timeout",
        status=HTTPStatus.REQUEST_TIMEOUT,
        closes=True,
    )


def _check_size(size_bytes: int, max_bytes: int) -> None:
    if size_bytes > max_bytes:
        raise ServiceError(
            f"the request has more than the {max_bytes} bytes accepted",
            code="request_too_large",
            status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        )


def _kind(size_bytes: int) -> str:
    return "small" if size_bytes <= _SMALL_BYTES else "large"
