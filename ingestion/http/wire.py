"""The transport as uvicorn's protocol sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class Wire:
    """Counts what is written. `close` asks the protocol, which may let the peer read its answer first."""

    __slots__ = ("_on_close", "_taken_bytes", "is_ending", "transport", "written_bytes")

    def __init__(self, transport: asyncio.Transport, on_close: Callable[[], None]) -> None:
        self.transport = transport
        self.written_bytes = 0
        self.is_ending = False
        """The last answer is written; what is written after it is dropped."""
        self._taken_bytes = 0
        self._on_close = on_close

    def write(self, data: bytes) -> None:
        if not self.is_ending:
            self.written_bytes += len(data)
            self.transport.write(data)

    def close(self) -> None:
        self._on_close()

    def is_closing(self) -> bool:
        return self.is_ending or self.transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        self.transport.resume_reading()

    def unsent_bytes(self) -> int:
        return self.transport.get_write_buffer_size()

    def taken_bytes(self, unsent_bytes: int) -> int:
        """What the kernel has taken since the last call, where `unsent_bytes` are still here."""
        before, self._taken_bytes = self._taken_bytes, self.written_bytes - unsent_bytes
        return self._taken_bytes - before
