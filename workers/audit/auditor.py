"""An audit compares MongoDB, S3 and Milvus while documents are uploaded and deleted.

It locks nothing. So a difference is a suspect at first, and is checked again after a pause: a document that was being
deleted or stored is in order by then. Memory does not grow with the size of the stores.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

import structlog

from ingestion.catalogue.generations import FIRST
from ingestion.errors import BadRecord, DependencyUnavailable, as_ingest_error
from ingestion.ports import BlobStore, CollectionCatalogue, VectorStore
from workers.audit.archives import ArchivesAudit
from workers.audit.contents import ContentsAudit, ContentsRecords
from workers.audit.mismatch import Mismatch, Recheck, TooYoung
from workers.audit.orphans import OrphanPagesAudit, PageOwners
from workers.audit.rows import RowRecords, RowsAudit

log = structlog.get_logger(__name__)

_SUSPECTS_AT_ONCE: Final = 500


class AuditRecords(ContentsRecords, PageOwners, RowRecords, CollectionCatalogue, Protocol):
    """What an audit reads."""


@dataclass(frozen=True, slots=True)
class Auditor:
    """`settle_s` is the pause before the recheck. A worker deletes its late writes within that time."""

    records: AuditRecords
    blobs: BlobStore
    vectors: VectorStore
    orphan_grace_s: float
    settle_s: float

    async def mismatches(
        self, *, collection: str | None = None, repair: bool = False, too_young: TooYoung | None = None
    ) -> AsyncIterator[Mismatch]:
        """The mismatches of one collection, or of all. `repair` deletes what no document refers to.

        `too_young` counts what cannot be judged yet.

        Raises DependencyUnavailable. Two audits side by side do no harm, and may both report the same.
        """
        suspects: list[Recheck] = []
        async for suspect in self._suspects(collection, repair, too_young or TooYoung()):
            suspects.append(suspect)
            if len(suspects) == _SUSPECTS_AT_ONCE:
                async for mismatch in self._recheck(suspects):
                    yield mismatch
                suspects.clear()
        async for mismatch in self._recheck(suspects):
            yield mismatch

    async def _recheck(self, suspects: list[Recheck]) -> AsyncIterator[Mismatch]:
        if suspects:
            await asyncio.sleep(self.settle_s)
        for recheck in suspects:
            try:
                mismatches = await recheck()
            except DependencyUnavailable:
                raise
            except Exception as error:  # noqa: BLE001 - an unreadable record is not judged
                log.error("not judged", cause=as_ingest_error(error).message)
                continue
            for mismatch in mismatches:
                yield mismatch

    async def _suspects(self, collection: str | None, repair: bool, too_young: TooYoung) -> AsyncIterator[Recheck]:
        end = await self.records.next_page_key()
        grace = timedelta(seconds=self.orphan_grace_s)
        for audit in (ContentsAudit, ArchivesAudit):
            async for suspect in audit(self.records, self.blobs, grace, repair, too_young).suspects(collection):
                yield suspect
        if collection is None:
            async for suspect in OrphanPagesAudit(self.records, repair).suspects():
                yield suspect
        for name in await self._collections() if collection is None else [collection]:
            for generation in await self._generations(name):
                rows = RowsAudit(self.records, self.vectors, end, repair, name, generation)
                async for suspect in rows.suspects():
                    yield suspect

    async def _generations(self, collection: str) -> list[int]:
        """The generations whose rows can be judged: a leaving generation is partly removed."""
        try:
            bound, record = await self.records.binding(collection), await self.records.collection(collection)
        except BadRecord as error:
            log.error("not judged", collection=collection, cause=error.message)
            return []
        if bound is None:
            return [FIRST]
        if record is not None and record.state.is_under_way:
            return []  # Documents of old page keys, and their rows, come and go.
        return [generation.number for generation in bound.generations if generation not in bound.leaving]

    async def _collections(self) -> list[str]:
        bound, named = await self.records.collections(), await self.records.collections_of_documents()
        return sorted({*bound, *named})
