"""The broker, and what people watch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import Protocol

from ingestion.dead_letters import DeadLetter
from ingestion.messages import Record
from ingestion.model import Document, IngestJob, LetterMark


class JobQueue(Protocol):
    """Where jobs are published and terminal changes announced. Each call returns once the broker has acknowledged."""

    async def publish(self, job: IngestJob) -> None:
        """Publish with key = document id. Twice makes two messages of one job, which workers treat as one."""

    async def retry(self, record: Record, delay_s: int) -> None:
        """Publish the record again, key and value untouched, on the retry topic of `delay_s`."""

    async def publish_dead_letter(self, letter: DeadLetter) -> None:
        """Publish on the dead-letter topic. Twice makes two records of one letter, which readers take for one."""

    async def replay(self, letter: DeadLetter) -> None:
        """Publish the letter's record on the jobs topic, with key, value and headers as they first came."""

    async def announce(self, document: Document) -> None:
        """Publish the document's present state on the events topic. At least once."""

    async def ping(self) -> None: ...


class DeadLetters(Protocol):
    """The dead-letter topic, read without a consumer group: looking at it changes nothing."""

    def read(self) -> AsyncIterator[DeadLetter]:
        """Every letter that is on the topic now, oldest first within a partition, each id once.

        Records that are no letters are skipped and logged.
        """


class DeadLetterNotes(Protocol):
    """What was done about dead letters. The topic itself is never changed."""

    async def mark_letter(self, mark: LetterMark) -> bool:
        """Record what was done about a dead letter. False, and nothing changed, where it has a mark already."""

    async def letter_marks(self, letter_ids: Collection[str]) -> dict[str, LetterMark]:
        """The marks that exist, by letter id."""


class Progress(Protocol):
    """Redis: what a person watches. Best effort: a Redis that is down loses progress, never a document, so the
    writing methods log and return instead of raising."""

    async def report(self, document_id: str, *, status: str, message: str, processed: int, total: int) -> None: ...

    async def read(self, document_id: str) -> dict[str, str]:
        """The task hash, empty where there is none or Redis is down."""

    async def forget(self, document_id: str) -> None: ...

    async def add(self, **amounts: int) -> None:
        """Add to the running totals of `metrics:ingestion`."""

    async def ping(self) -> None: ...
