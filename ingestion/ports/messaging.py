"""The broker, marks of dead letters, and progress."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ingestion.dead_letters import DeadLetter
from ingestion.messages import Record
from ingestion.model import Document, IngestJob, LetterMark


class JobQueue(Protocol):
    """Publishes jobs and announces terminal changes. Each call returns once the broker has acknowledged."""

    async def publish(self, job: IngestJob) -> None:
        """Publish with key = document id. A second call makes a second message; workers process the job once."""

    async def retry(self, record: Record, delay_s: int) -> None:
        """Publish the record again, key and value untouched, on the retry topic of `delay_s`."""

    async def publish_dead_letter(self, letter: DeadLetter) -> None:
        """Publish on the dead-letter topic. A second call makes a second record; readers return the letter once."""

    async def replay(self, letter: DeadLetter) -> None:
        """Publish the letter's record on the jobs topic, with its original key, value and headers."""

    async def announce(self, document: Document) -> None:
        """Publish the document's present state on the events topic. At least once."""

    async def ping(self) -> None: ...


@dataclass(frozen=True, slots=True)
class PlacedLetter:
    """A dead letter and its place on the topic. `place` is the argument `before` for the letters that are older."""

    letter: DeadLetter
    place: str


class DeadLetters(Protocol):
    """The dead-letter topic, read without a consumer group, so that reading changes nothing."""

    def read(self) -> AsyncIterator[DeadLetter]:
        """Every letter that is on the topic now, oldest first within a partition, each id once.

        Records that are no letters are skipped and logged.
        """

    def newest(self, before: str | None = None) -> AsyncGenerator[PlacedLetter, None]:
        """The letters that are on the topic now, newest first within a partition, from before the place `before`.

        It reads the topic backwards in small parts: a caller that needs few letters ends the iteration early. A letter
        that was published twice may come twice. Raises BadRequest where `before` is no place.
        """


class DeadLetterNotes(Protocol):
    """Marks of dead letters that were replayed or discarded. The topic itself is never changed."""

    async def mark_letter(self, mark: LetterMark) -> bool:
        """Mark a dead letter. Returns False, and changes nothing, if it has a mark."""

    async def letter_marks(self, letter_ids: Collection[str]) -> dict[str, LetterMark]:
        """The marks that exist, by letter id."""


class Progress(Protocol):
    """Progress of documents, for people. While Redis is down, the writing methods log and return: progress is lost,
    documents are not."""

    async def report(self, document_id: str, *, status: str, message: str, processed: int, total: int) -> None: ...

    async def read(self, document_id: str) -> dict[str, str]:
        """Return the task hash, empty if there is none or Redis is down."""

    async def read_many(self, document_ids: Sequence[str]) -> list[dict[str, str]]:
        """As `read`, for each document."""

    async def report_outages(self, since: Mapping[str, datetime]) -> None:
        """Say that workers wait for these servers, since then. A report holds for some seconds: repeat it."""

    async def outages(self) -> dict[str, datetime]:
        """The servers that a worker waits for now, and since when. Empty if Redis is down."""

    async def forget(self, document_id: str) -> None: ...

    async def add(self, **amounts: int) -> None:
        """Add to the running totals of `metrics:ingestion`."""

    async def ping(self) -> None: ...
