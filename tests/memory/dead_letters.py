"""The dead-letter topic of a MemoryJobQueue."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

from ingestion.dead_letters import DeadLetter
from ingestion.errors import BadRequest
from ingestion.ports import PlacedLetter
from tests.memory.job_queue import MemoryJobQueue


class MemoryDeadLetters:
    def __init__(self, queue: MemoryJobQueue) -> None:
        self._queue = queue

    async def read(self) -> AsyncIterator[DeadLetter]:
        seen: set[str] = set()
        for letter in self._queue.letters:
            if letter.id not in seen:
                seen.add(letter.id)
                yield letter

    async def newest(self, before: str | None = None) -> AsyncGenerator[PlacedLetter, None]:
        letters = self._queue.letters
        if before is not None and not (before.isascii() and before.isdecimal()):
            raise BadRequest("`after` is no place in the list of dead letters")
        end = len(letters) if before is None else min(len(letters), int(before))
        for place in reversed(range(end)):
            yield PlacedLetter(letters[place], str(place))
