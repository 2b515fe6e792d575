"""Makes the sign codes of ready documents that lack them.

Such documents were stored by an earlier release, or an audit found that their sign codes are not complete. The codes
are made from the stored vectors. A search ranks such a document without them until then.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from ingestion import metrics
from ingestion.errors import DependencyUnavailable, NotFound, as_ingest_error
from ingestion.model import SIGN_CODE_FORMAT, Document, DocumentState, codes_key
from ingestion.ports import ArchivedDocuments, Bindings, BlobStore, DocumentReader, SignCodeRecords
from ingestion.retrying import retrying
from ingestion.vectors.blob_reader import VectorBlobs
from ingestion.vectors.sign_codes import CodeSegment, segment_pages, segment_starts
from ingestion.vectors.stored_codes import coded_generations, page_codes

log = structlog.get_logger(__name__)

_PAGES_A_ROUND: Final = 2048
"""About half a gigabyte of vectors."""
_DOCUMENTS_AT_ONCE: Final = 100
_COUNTED: Final = 100_000
"""More documents without sign codes are not counted."""

Written = list[tuple[int, str]]
"""The generation and the key of each object that was written."""


@dataclass(slots=True)
class BackfillResult:
    """The number of documents that a round gave sign codes."""

    made: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """The ids of documents that could not get sign codes, and the cause of each."""
    left: int = 0
    """Documents that lack sign codes after the round, counted up to 100,000."""


class BackfillRecords(DocumentReader, Bindings, ArchivedDocuments, SignCodeRecords, Protocol):
    """What the backfill reads and records."""


class CodeBackfill:
    """Each round begins after the last document of the round before. So documents that fail hide no others.

    Several backfills side by side do no harm: the same vectors have the same codes.
    """

    def __init__(self, records: BackfillRecords, blobs: BlobStore, pages_a_round: int = _PAGES_A_ROUND) -> None:
        self._records = records
        self._blobs = blobs
        self._vector_blobs = VectorBlobs(blobs)
        self._pages_a_round = pages_a_round
        self._after = ""

    async def round(self, collection: str | None = None) -> BackfillResult:
        """Make the codes of whole documents until these have so many pages as a round may have.

        A document whose vectors are missing or unreadable is logged, and the round goes on. Raises
        DependencyUnavailable. The next round makes the rest.
        """
        result, pages = BackfillResult(), 0
        while pages < self._pages_a_round:
            batch = await self._records.without_codes(_DOCUMENTS_AT_ONCE, after=self._after, collection=collection)
            if not batch:
                self._after = ""
                break
            for document in batch:
                await self._process(document, result)
                self._after = document.id
                pages += document.pages
                if pages >= self._pages_a_round:
                    break
        result.left = await self._records.count_without_codes(_COUNTED, collection=collection)
        if collection is None:
            metrics.DOCUMENTS_WITHOUT_CODES.set(result.left)
        return result

    async def _process(self, document: Document, result: BackfillResult) -> None:
        try:
            document.require_readable()
            is_made = await self._make(document)
        except DependencyUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - any error belongs to this one document
            cause = as_ingest_error(error)
            result.failed[document.id] = cause.message
            log.error("sign codes not made", document_id=document.id, code=cause.code, cause=cause.message)
            return
        if is_made:
            result.made += 1
            metrics.CODES_MADE.inc()
            log.info("sign codes made", document_id=document.id, pages=document.pages)

    async def _make(self, document: Document) -> bool:
        """Returns False where the document was deleted, changed, or given its codes by another process meanwhile."""
        written: Written = []
        try:
            await self._write(document, written)
        except (NotFound, ValueError):
            if await self._is_as_it_was(document):
                raise
        else:
            if await retrying(self._records.set_codes_format, document, SIGN_CODE_FORMAT):
                return True
        await self._delete_late_writes(document, written)
        return False

    async def _write(self, document: Document, written: Written) -> None:
        """Write all segments, one after another. Ends early where the document was deleted meanwhile."""
        binding = await retrying(self._records.binding, document.collection)
        for generation in coded_generations(document, binding):
            for first in segment_starts(document.pages):
                numbers = segment_pages(first, document.pages)
                codes = await page_codes(self._vector_blobs, document.id, numbers, generation)
                content = await asyncio.to_thread(lambda codes: CodeSegment.joined(codes).encode(), codes)
                if not await self._is_as_it_was(document):
                    return
                key = codes_key(document.id, first, generation)
                written.append((generation, key))
                await retrying(self._blobs.put, key, content, "application/octet-stream")

    async def _is_as_it_was(self, document: Document) -> bool:
        current = await retrying(self._records.get, document.id)
        is_ready = current is not None and current.state is DocumentState.READY
        return current is not None and is_ready and current.first_page_key == document.first_page_key

    async def _delete_late_writes(self, document: Document, written: Written) -> None:
        """Delete what may have been written after a delete, or after the removal of a generation.

        Where the same file has been uploaded anew, its codes have the same keys. They may be overwritten with those
        of other vectors, and are deleted as well. A later round makes them again.
        """
        current = await retrying(self._records.get, document.id)
        if current is None:
            is_archived = bool(await retrying(self._records.archived_ids, [document.id]))
            late = [] if is_archived else [key for _, key in written]
        elif current.state is DocumentState.DELETING or current.first_page_key != document.first_page_key:
            late = [key for _, key in written]
        else:
            late = [key for generation, key in written if not current.is_in(generation)]
        if not late:
            return
        await retrying(self._blobs.delete, late)
        if current is not None and current.codes_format == SIGN_CODE_FORMAT:
            await retrying(self._records.set_codes_format, current, 0)
