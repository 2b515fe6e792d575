"""Dead letters: which there are, what has become of each, and running their documents again.

A letter stays on its topic as it was written. What somebody did about it is a mark in the document store; what became
of it otherwise follows from its document. A replay may be repeated, cut short anywhere, or made by two people at once:
a document is queued again only out of the very failure that its letter reports, and only who sets the letter's mark
publishes. What is cut short before the publication is finished by the next replay or by the janitor.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol, TypeVar

import anyio

from ingestion.dead_letters import DeadLetter, letter_id
from ingestion.errors import NotFound
from ingestion.model import Document, DocumentState, LetterMark
from ingestion.open_enum import OpenStrEnum
from ingestion.ports import ArchivedDocuments, DeadLetterNotes, DeadLetters, DocumentReader, JobQueue, Outbox, Progress

T = TypeVar("T")

_LETTERS_AT_ONCE: Final = 500
"""Whose documents are read with one request."""
_GONE: Final = (DocumentState.DELETING, DocumentState.DELETED)


class DeadLetterStatus(OpenStrEnum):
    """What has become of a letter."""

    OPEN = "open"
    """Nothing yet: its document is still failed, or was about to be queued again."""
    REPLAYED = "replayed"
    DISCARDED = "discarded"
    MOVED_ON = "moved-on"
    """Its document left that failure in another way, say by being uploaded again."""
    ARCHIVED = "archived"
    """Its document is archived, with its collection. Restored, the document is as failed as it was."""
    DELETED = "deleted"
    """Its document is gone."""


@dataclass(frozen=True, slots=True)
class DeadLetterEntry:
    """A letter and what has become of it. `document` is the present one, read only where there is no mark."""

    letter: DeadLetter
    status: DeadLetterStatus
    mark: LetterMark | None = None
    document: Document | None = None


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What a replay or a discard came to. `is_changed` is False where it left everything as it was."""

    entry: DeadLetterEntry
    is_changed: bool


@dataclass(frozen=True, slots=True)
class Reason:
    """Who does something about letters, and why, in their own words."""

    by: str
    why: str


@dataclass(frozen=True, slots=True)
class Selection:
    """Which letters are meant; None is any. `ids` are those of letters or documents, times are those of the deaths."""

    ids: frozenset[str] | None = None
    code: str | None = None
    collection: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    statuses: frozenset[DeadLetterStatus] | None = None

    def takes(self, letter: DeadLetter) -> bool:
        """Whether the letter itself is as asked, whatever has become of it."""
        return (
            (self.ids is None or not self.ids.isdisjoint(ids_of(letter)))
            and (self.code is None or letter.failure.code == self.code)
            and (self.since is None or letter.timestamp >= self.since)
            and (self.until is None or letter.timestamp < self.until)
            and (self.collection is None or ((job := letter.job) is not None and job.collection == self.collection))
        )


def ids_of(letter: DeadLetter) -> set[str]:
    """What a person may call the letter by."""
    job = letter.job
    return {letter.id, letter.document_id, job.document_id if job else ""} - {""}


class ReplayRecords(DocumentReader, Outbox, DeadLetterNotes, ArchivedDocuments, Protocol):
    """What a replay reads and writes."""


class Replayer:
    """Where dead letters are looked through, sent again or laid aside. All methods raise DependencyUnavailable."""

    def __init__(self, letters: DeadLetters, documents: ReplayRecords, queue: JobQueue, progress: Progress) -> None:
        self._letters = letters
        self._documents = documents
        self._queue = queue
        self._progress = progress

    async def find(self, selection: Selection) -> list[DeadLetterEntry]:
        """The letters meant, oldest first. Raises NotFound where one of the ids is that of none."""
        letters = [letter async for letter in self._letters.read() if selection.takes(letter)]
        _check_all_found(selection.ids or (), letters)
        entries = [entry for page in batched(letters, _LETTERS_AT_ONCE) for entry in await self._entries_of(page)]
        wanted = selection.statuses
        return [entry for entry in entries if wanted is None or entry.status in wanted]

    async def replay(self, letter: DeadLetter, reason: Reason) -> ReplayResult:
        """Run the letter's document once more, or publish its record again where it is no job.

        In three steps, of which each may be the last before a crash: the document is queued with its outbox pending,
        the letter marked, the job published. Only an open letter is replayed.
        """
        entry = await self._examine(letter)
        if entry.status is not DeadLetterStatus.OPEN:
            return ReplayResult(entry, is_changed=False)
        document = await self._queued_again(letter)
        if letter.document_id and document is None:
            return ReplayResult(await self._examine(letter), is_changed=False)
        is_changed = await self._mark(letter, DeadLetterStatus.REPLAYED, reason)
        if is_changed:  # else somebody else has marked it, and publishes
            await self._publish(letter, document)
        return ReplayResult(await self._examine(letter), is_changed)

    async def discard(self, letter: DeadLetter, reason: Reason) -> ReplayResult:
        """Mark an open letter as dealt with. Its document stays as it is: failed.

        A discard that comes between the steps of a replay does not stop it any more.
        """
        entry = await self._examine(letter)
        is_changed = entry.status is DeadLetterStatus.OPEN and await self._mark(
            letter, DeadLetterStatus.DISCARDED, reason
        )
        return ReplayResult(await self._examine(letter), is_changed)

    async def _examine(self, letter: DeadLetter) -> DeadLetterEntry:
        [entry] = await self._entries_of([letter])
        return entry

    async def _entries_of(self, letters: Sequence[DeadLetter]) -> list[DeadLetterEntry]:
        """Three requests to the document store at most, however many letters there are."""
        marks = await self._documents.letter_marks([letter.id for letter in letters])
        ids = {letter.document_id for letter in letters if letter.id not in marks} - {""}
        documents = await self._documents.known(ids) if ids else {}
        missing = ids - documents.keys()
        archived = await self._documents.archived_ids(missing) if missing else set()
        return [_entry_of(letter, marks.get(letter.id), documents, archived) for letter in letters]

    async def _queued_again(self, letter: DeadLetter) -> Document | None:
        """The letter's document, if it waits for this letter's job: from now on, or since a replay was cut short."""
        if not letter.document_id:
            return None
        is_requeued = await self._documents.requeue(letter.document_id, fence=letter.fence)
        document = await self._documents.get(letter.document_id)
        return document if document and (is_requeued or _awaits_job(letter, document)) else None

    async def _mark(self, letter: DeadLetter, action: DeadLetterStatus, reason: Reason) -> bool:
        return await self._documents.mark_letter(LetterMark(letter.id, action.value, reason.by, reason.why))

    async def _publish(self, letter: DeadLetter, document: Document | None) -> None:
        if document is None:
            await self._queue.replay(letter)
            return
        # Before the job is published, so that it never hides what a quick worker reports.
        await self._progress.report(
            document.id, status="queued", message="replayed", processed=document.pages_done, total=document.pages
        )
        await self._queue.replay(letter)
        await self._documents.mark_queued(document)


def _entry_of(
    letter: DeadLetter, mark: LetterMark | None, documents: Mapping[str, Document], archived: Collection[str]
) -> DeadLetterEntry:
    if mark is not None:
        return DeadLetterEntry(letter, DeadLetterStatus(mark.action), mark)
    if not letter.document_id:
        return DeadLetterEntry(letter, DeadLetterStatus.OPEN)
    if letter.document_id in archived:
        return DeadLetterEntry(letter, DeadLetterStatus.ARCHIVED)
    document = documents.get(letter.document_id)
    return DeadLetterEntry(letter, _status_of(letter, document), document=document)


def _status_of(letter: DeadLetter, document: Document | None) -> DeadLetterStatus:
    """Of a letter without a mark."""
    if document is None or document.state in _GONE:
        return DeadLetterStatus.DELETED
    if document.state is DocumentState.ARCHIVED:
        return DeadLetterStatus.ARCHIVED
    is_its_failure = document.state is DocumentState.FAILED and letter.id == letter_id(document)
    return DeadLetterStatus.OPEN if is_its_failure or _awaits_job(letter, document) else DeadLetterStatus.MOVED_ON


def _awaits_job(letter: DeadLetter, document: Document) -> bool:
    """Whether the document has been queued again out of the failure that the letter reports, and not published yet."""
    is_unpublished = document.state is DocumentState.QUEUED and document.outbox == "pending"
    return is_unpublished and letter.id == letter_id(document)


def _check_all_found(ids: Collection[str], letters: Iterable[DeadLetter]) -> None:
    found = {id_ for letter in letters for id_ in ids_of(letter)}
    if missing := sorted(set(ids) - found):
        raise NotFound(f"no dead letter matches {', '.join(missing)}")


def batched(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """`items` in pages of `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


async def paced(items: Iterable[T], per_second: float | None) -> AsyncIterator[T]:
    """The first at once, and no more of the others than `per_second`, where that is given."""
    due_s = anyio.current_time()
    for item in items:
        await anyio.sleep_until(due_s)
        due_s = anyio.current_time() + (1 / per_second if per_second else 0.0)
        yield item
