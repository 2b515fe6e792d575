"""Rounds that make what ready documents lack beside their vectors and texts.

Such documents were stored by an earlier release, or an audit found that what they should have is not complete.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final, Protocol

import structlog
from prometheus_client import Counter, Gauge

from ingestion.errors import DependencyUnavailable, as_ingest_error
from ingestion.model import Document, DocumentState
from ingestion.ports import ArchivedDocuments, DocumentReader
from ingestion.retrying import retrying

log = structlog.get_logger(__name__)

PAGES_A_ROUND: Final = 2048
"""About half a gigabyte of vectors."""
_DOCUMENTS_AT_ONCE: Final = 100
_COUNTED: Final = 100_000
"""More documents that lack something are not counted."""


@dataclass(slots=True)
class BackfillResult:
    """`made`: the number of documents that got in a round what they lacked."""

    made: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """The ids of documents that could not get it, and the cause of each."""
    left: int = 0
    """Documents that lack it after the round, counted up to 100,000."""


class BackfilledRecords(DocumentReader, ArchivedDocuments, Protocol):
    """What every backfill reads."""


class Backfill(ABC):
    """Each round begins after the last document of the round before. So documents that fail hide no others.

    Several backfills side by side do no harm: each makes the same.
    """

    what: ClassVar[str]
    """What is made, for log lines and people."""
    _made: ClassVar[Counter]
    _left: ClassVar[Gauge]

    def __init__(self, records: BackfilledRecords, pages_a_round: int) -> None:
        self._documents = records
        self._pages_a_round = pages_a_round
        self._after = ""

    async def round(self, collection: str | None = None) -> BackfillResult:
        """Complete whole documents until these have so many pages as a round may have.

        A document that cannot be completed is logged, and the round goes on. Raises DependencyUnavailable. The next
        round makes the rest.
        """
        result, pages = BackfillResult(), 0
        while pages < self._pages_a_round:
            batch = await self._lacking(_DOCUMENTS_AT_ONCE, self._after, collection)
            if not batch:
                self._after = ""
                break
            for document in batch:
                await self._process(document, result)
                self._after = document.id
                pages += document.pages
                if pages >= self._pages_a_round:
                    break
        result.left = await self._count_lacking(_COUNTED, collection)
        if collection is None:
            self._left.set(result.left)
        return result

    @abstractmethod
    async def _lacking(self, limit: int, after: str, collection: str | None) -> Sequence[Document]:
        """Ready documents that lack it, by id, from after the id `after`."""

    @abstractmethod
    async def _count_lacking(self, limit: int, collection: str | None) -> int: ...

    @abstractmethod
    async def _make(self, document: Document) -> bool:
        """Returns False where the document was deleted, changed, or completed by another process meanwhile."""

    async def _process(self, document: Document, result: BackfillResult) -> None:
        try:
            document.require_readable()
            is_made = await self._make(document)
        except DependencyUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - any error belongs to this one document
            cause = as_ingest_error(error)
            result.failed[document.id] = cause.message
            log.error(f"{self.what} not made", document_id=document.id, code=cause.code, cause=cause.message)
            return
        if is_made:
            result.made += 1
            self._made.inc()
            log.info(f"{self.what} made", document_id=document.id, pages=document.pages)

    async def _is_as_it_was(self, document: Document) -> bool:
        current = await retrying(self._documents.get, document.id)
        is_ready = current is not None and current.state is DocumentState.READY
        return current is not None and is_ready and current.first_page_key == document.first_page_key

    async def _is_archived(self, document: Document) -> bool:
        return bool(await retrying(self._documents.archived_ids, [document.id]))
