"""The transport of a connection, with counters of the bytes written and of the bytes that the peer has taken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class MeteredTransport:
    """Counts written bytes. `close` calls `on_close` instead of closing, so that the protocol can delay it.

    Writes between `hold` and `release` become one system call. Each call gives up the interpreter lock and may wait
    for the threads of this process to get it back.
    """

    __slots__ = ("_held", "_on_close", "_taken_bytes", "inner", "is_ending", "written_bytes")

    def __init__(self, inner: asyncio.Transport, on_close: Callable[[], None]) -> None:
        self.inner = inner
        self.written_bytes = 0
        self.is_ending = False
        """The last answer is written. Later writes are dropped."""
        self._held: list[bytes] | None = None
        self._taken_bytes = 0
        self._on_close = on_close

    def write(self, data: bytes) -> None:
        if self.is_ending:
            return
        self.written_bytes += len(data)
        if self._held is None:
            self.inner.write(data)
        else:
            self._held.append(data)

    def hold(self) -> None:
        """Keep writes back until `release`."""
        self._held = []

    def release(self) -> None:
        """Write what is held. Safe to repeat."""
        held, self._held = self._held, None
        if held:
            self.inner.write(b"".join(held))

    def close(self) -> None:
        self._on_close()

    def is_closing(self) -> bool:
        return self.is_ending or self.inner.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.inner.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self.inner.pause_reading()

    def resume_reading(self) -> None:
        self.inner.resume_reading()

    def unsent_bytes(self) -> int:
        return self.inner.get_write_buffer_size() + sum(map(len, self._held or ()))

    def taken_bytes(self, unsent_bytes: int) -> int:
        """Bytes that the kernel has taken since the last call, if `unsent_bytes` are still buffered here."""
        before, self._taken_bytes = self._taken_bytes, self.written_bytes - unsent_bytes
        return self._taken_bytes - before
