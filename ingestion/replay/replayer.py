"""Finds, replays and discards dead letters.

Two processes may replay the same letter, and a replay may be cut short at any point and repeated:

- a document is queued again only out of the failure that its letter reports;
- only the process that sets the letter's mark publishes the job;
- the next replay, or the janitor, publishes a job that a replay left unpublished.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import anyio

from ingestion.concurrency.deadline import within_budget
from ingestion.dead_letters import DeadLetter
from ingestion.errors import NotFound
from ingestion.model import Document, LetterMark
from ingestion.ports import DeadLetters, JobQueue, Outbox, PlacedLetter, Progress
from ingestion.replay.entries import (
    DeadLetterEntry,
    DeadLetterStatus,
    EntryRecords,
    awaits_job,
    entries_of,
    entry_of,
)
from ingestion.replay.selection import Selection

T = TypeVar("T")

_BROKER: Final = "kafka"
_MOST_READ: Final = 2_000
"""The letters that one part of the list reads."""
_READ_AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True)
class Reason:
    """The person who replays or discards a letter, and the reason they give. Both are stored in the letter's mark."""

    by: str
    why: str


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """The entry after a replay or a discard. `is_changed` is False where the call changed nothing."""

    entry: DeadLetterEntry
    is_changed: bool


@dataclass(frozen=True, slots=True)
class EntryPage:
    """A part of the list of dead letters. `next` is the argument `before` of the next part, None after the last."""

    entries: list[DeadLetterEntry]
    next: str | None


class ReplayRecords(EntryRecords, Outbox, Protocol):
    """The records that a replay reads and writes."""


class Replayer:
    """All methods raise DependencyUnavailable."""

    def __init__(self, letters: DeadLetters, records: ReplayRecords, queue: JobQueue, progress: Progress) -> None:
        self._letters = letters
        self._records = records
        self._queue = queue
        self._progress = progress

    async def find(self, selection: Selection) -> list[DeadLetterEntry]:
        """The selected letters, oldest first. Raises NotFound where an id of the selection matches no letter."""
        letters = [letter async for letter in self._letters.read() if selection.takes(letter)]
        selection.check_ids_found(letters)
        return [entry for entry in await entries_of(self._records, letters) if selection.takes_status(entry)]

    async def newest(self, selection: Selection, limit: int, before: str | None = None) -> EntryPage:
        """At most `limit` of the selected letters, newest first.

        It reads _MOST_READ letters of the topic at most. So a part may have fewer entries, or none, and a `next`.
        Raises BadRequest where `before` is not the `next` of an earlier part.
        """
        entries: list[DeadLetterEntry] = []
        async with within_budget(_BROKER), aclosing(self._newest_entries(selection, before)) as found:
            async for place, entry in found:
                if entry is not None:
                    entries.append(entry)
                if entry is None or len(entries) == limit:
                    return EntryPage(entries, place)
        return EntryPage(entries, None)

    async def one(self, letter_id: str, selection: Selection) -> DeadLetterEntry:
        """The newest letter with this id, if the selection takes it. Raises NotFound.

        It reads the topic backwards until it finds the letter.
        """
        async with within_budget(_BROKER), aclosing(self._letters.newest()) as letters:
            async for found in letters:
                if found.letter.id == letter_id and selection.takes(found.letter):
                    return await entry_of(self._records, found.letter)
        raise NotFound(f"there is no dead letter {letter_id}")

    async def _newest_entries(
        self, selection: Selection, before: str | None
    ) -> AsyncGenerator[tuple[str, DeadLetterEntry | None], None]:
        """The selected letters, newest first, with their places. After _MOST_READ letters a place without an entry."""
        unread: list[PlacedLetter] = []
        seen: set[str] = set()
        count = 0
        async with aclosing(self._letters.newest(before)) as letters:
            async for found in letters:
                count += 1
                if selection.takes(found.letter) and found.letter.id not in seen:
                    seen.add(found.letter.id)
                    unread.append(found)
                if len(unread) == _READ_AT_ONCE or count == _MOST_READ:
                    for placed in await self._placed_entries(unread, selection):
                        yield placed
                    unread = []
                if count == _MOST_READ:
                    yield found.place, None
                    return
        for placed in await self._placed_entries(unread, selection):
            yield placed

    async def _placed_entries(
        self, letters: Sequence[PlacedLetter], selection: Selection
    ) -> list[tuple[str, DeadLetterEntry]]:
        entries = await entries_of(self._records, [one.letter for one in letters])
        return [
            (one.place, entry) for one, entry in zip(letters, entries, strict=True) if selection.takes_status(entry)
        ]

    async def replay(self, letter: DeadLetter, reason: Reason) -> ReplayResult:
        """Process the letter's document once more. Where the letter's record is no job, publish the record again.

        Only an open letter that has its whole record is replayed. The steps: queue the document with its outbox
        pending, mark the letter, publish the job.
        """
        entry = await entry_of(self._records, letter)
        if entry.status is not DeadLetterStatus.OPEN or letter.is_cut:
            return ReplayResult(entry, is_changed=False)
        document = await self._requeue(letter)
        is_marked = False
        if document is not None or not letter.document_id:
            is_marked = await self._mark(letter, DeadLetterStatus.REPLAYED, reason)
        if is_marked:
            await self._publish(letter, document)
        return ReplayResult(await entry_of(self._records, letter), is_marked)

    async def discard(self, letter: DeadLetter, reason: Reason) -> ReplayResult:
        """Mark an open letter as discarded. Its document stays failed.

        A discard between two steps of a replay does not stop the replay.
        """
        entry = await entry_of(self._records, letter)
        is_open = entry.status is DeadLetterStatus.OPEN
        is_marked = is_open and await self._mark(letter, DeadLetterStatus.DISCARDED, reason)
        return ReplayResult(await entry_of(self._records, letter), is_marked)

    async def _requeue(self, letter: DeadLetter) -> Document | None:
        """The letter's document, queued by this call or by a replay that was cut short; None for any other."""
        if not letter.document_id:
            return None
        is_requeued = await self._records.requeue(letter.document_id, fence=letter.fence)
        document = await self._records.get(letter.document_id)
        return document if document and (is_requeued or awaits_job(letter, document)) else None

    async def _mark(self, letter: DeadLetter, status: DeadLetterStatus, reason: Reason) -> bool:
        """False where another process has marked the letter."""
        return await self._records.mark_letter(LetterMark(letter.id, status.value, reason.by, reason.why))

    async def _publish(self, letter: DeadLetter, document: Document | None) -> None:
        if document is None:
            await self._queue.replay(letter)
            return
        # Before the job is published: a worker that takes it at once may report first otherwise.
        await self._progress.report(
            document.id, status="queued", message="replayed", processed=document.pages_done, total=document.pages
        )
        await self._queue.replay(letter)
        await self._records.mark_queued(document)


async def paced(items: Iterable[T], per_second: float | None) -> AsyncIterator[T]:
    """Yield the first item at once and the others at most `per_second` each second. None means no limit."""
    due_s = anyio.current_time()
    for item in items:
        await anyio.sleep_until(due_s)
        due_s = anyio.current_time() + (1 / per_second if per_second else 0.0)
        yield item
