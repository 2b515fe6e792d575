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

from ingestion.catalogue.generations import FIRST
from ingestion.errors import BadRecord, DependencyUnavailable
from ingestion.ports import BlobStore, CollectionCatalogue, VectorStore
from workers.audit.archives import ArchivesAudit
from workers.audit.contents import ContentsAudit, ContentsRecords
from workers.audit.mismatch import Mismatch, NotJudged, Recheck, TooYoung
from workers.audit.orphans import OrphanPagesAudit, PageOwners
from workers.audit.rows import RowRecords, RowsAudit

_SUSPECTS_AT_ONCE: Final = 500


class AuditRecords(ContentsRecords, PageOwners, RowRecords, CollectionCatalogue, Protocol):
    """The records that an audit reads."""


@dataclass(frozen=True, slots=True)
class Auditor:
    """`settle_s` is the pause before the recheck. A worker deletes its late writes within that time."""

    records: AuditRecords
    blobs: BlobStore
    vectors: VectorStore
    orphan_grace_s: float
    settle_s: float

    async def mismatches(
        self,
        *,
        collection: str | None = None,
        repair: bool = False,
        too_young: TooYoung | None = None,
        not_judged: NotJudged | None = None,
    ) -> AsyncIterator[Mismatch]:
        """The mismatches of one collection, or of all. `repair` deletes what no document refers to.

        `too_young` counts what cannot be judged yet. `not_judged` collects what cannot be judged: the stores may
        differ there.

        Raises DependencyUnavailable. Two audits side by side do no harm, and may both report the same.
        """
        suspects: list[Recheck] = []
        too_young, not_judged = too_young or TooYoung(), not_judged or NotJudged()
        async for suspect in self._suspects(collection, repair, too_young, not_judged):
            suspects.append(suspect)
            if len(suspects) == _SUSPECTS_AT_ONCE:
                async for mismatch in self._recheck(suspects, not_judged):
                    yield mismatch
                suspects.clear()
        async for mismatch in self._recheck(suspects, not_judged):
            yield mismatch

    async def _recheck(self, suspects: list[Recheck], not_judged: NotJudged) -> AsyncIterator[Mismatch]:
        if suspects:
            await asyncio.sleep(self.settle_s)
        for recheck in suspects:
            try:
                mismatches = await recheck()
            except DependencyUnavailable:
                raise
            except Exception as error:  # noqa: BLE001 - one check that fails must not end the audit
                not_judged.note(_subject_of(recheck), error)
                continue
            for mismatch in mismatches:
                yield mismatch

    async def _suspects(
        self, collection: str | None, repair: bool, too_young: TooYoung, not_judged: NotJudged
    ) -> AsyncIterator[Recheck]:
        end = await self.records.next_page_key()
        grace = timedelta(seconds=self.orphan_grace_s)
        for audit in (ContentsAudit, ArchivesAudit):
            compared = audit(self.records, self.blobs, grace, repair, too_young, not_judged)
            async for suspect in compared.suspects(collection):
                yield suspect
        if collection is None:
            async for suspect in OrphanPagesAudit(self.records, repair).suspects():
                yield suspect
        for name in await self._collections() if collection is None else [collection]:
            for generation in await self._generations(name, not_judged):
                rows = RowsAudit(self.records, self.vectors, end, repair, name, generation)
                async for suspect in rows.suspects():
                    yield suspect

    async def _generations(self, collection: str, not_judged: NotJudged) -> list[int]:
        """The generations whose rows can be judged: a leaving generation is partly removed."""
        try:
            bound, record = await self.records.binding(collection), await self.records.collection(collection)
        except BadRecord as error:
            not_judged.note(f"rows of collection {collection}", error)
            return []
        if bound is None:
            return [FIRST]
        if record is not None and record.state.is_under_way:
            return []  # Documents of old page keys, and their rows, come and go.
        return [generation.number for generation in bound.generations if generation not in bound.leaving]

    async def _collections(self) -> list[str]:
        bound, named = await self.records.collections(), await self.records.collections_of_documents()
        return sorted({*bound, *named})


def _subject_of(recheck: Recheck) -> str:
    """The kind and the first argument of a check, such as a document id or a range of page keys."""
    name, subjects = getattr(recheck, "func", recheck).__qualname__, getattr(recheck, "args", ())
    return " ".join([name.partition(".")[0], *map(str, subjects[:1])])
