"""The stage `read`: pages without a useful text layer get the text of their image."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Final

from ingestion.concurrency.tasks import map_ordered
from ingestion.model import Document, Page
from ingestion.ports import TextReader
from workers.attempt.stall import WatchedAttempt

_WINDOWS_AHEAD: Final = 2


async def with_text(
    windows: AsyncIterator[list[Page]], reader: TextReader | None, document: Document, watched: WatchedAttempt
) -> AsyncGenerator[list[Page], None]:
    """The windows, in order. Without a `reader` all pages stay as they are. Raises as TextReader.with_text."""

    async def read(window: list[Page]) -> list[Page]:
        if reader is None:
            return window
        with watched.stage("read", lambda: reader.reads):
            return await reader.with_text(window, caller=document.turn_name)

    async with aclosing(map_ordered(read, windows, width=_WINDOWS_AHEAD)) as ordered:
        async for window in ordered:
            yield window
