"""A file that tells how much of it was read, for the progress of an upload."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import BinaryIO, TypeAlias

OnSent: TypeAlias = Callable[[int, int], None]
"""Gets the bytes that were sent, and the bytes of the file."""


class CountedFile:
    """What httpx uses of a file."""

    def __init__(self, file: BinaryIO, on_sent: OnSent) -> None:
        self._file = file
        self._on_sent = on_sent
        self._size = os.fstat(file.fileno()).st_size

    def fileno(self) -> int:
        return self._file.fileno()

    def seek(self, offset: int) -> int:
        return self._file.seek(offset)

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(size)
        self._on_sent(self._file.tell(), self._size)
        return chunk
