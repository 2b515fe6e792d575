"""Makes hits of ranked pages: their texts, snippets, labels and the addresses of their images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ingestion.concurrency.tasks import gather_or_cancel
from ingestion.hits import Hit
from ingestion.model import PageRecord
from ingestion.ports import BlobStore, PageRecords
from ingestion.search.cpu_threads import CpuThreads
from ingestion.search.page_finder import Ranked
from ingestion.search.snippets import snippet
from ingestion.search.stages import search_stage


class HitMaker:
    """Safe to use from many tasks at once."""

    def __init__(
        self, records: PageRecords, blobs: BlobStore, cpu_threads: CpuThreads, *, image_url_expires_s: int
    ) -> None:
        self._records = records
        self._blobs = blobs
        self._cpu_threads = cpu_threads
        self._image_url_expires_s = image_url_expires_s

    async def described(self, query: str, ranked: Ranked) -> list[Hit]:
        """The ranked pages as hits. Pages without a record are left out: their document is being deleted."""
        with search_stage("texts"):
            records = await self._records.pages_by_key([page.page_key for page, _ in ranked], with_text=True)
            return await self._cpu_threads.run(_hits_of, query, ranked, records)

    async def with_image_urls(self, hits: Sequence[Hit]) -> list[Hit]:
        expires_s = self._image_url_expires_s
        urls = await gather_or_cancel(*(self._blobs.presign(hit.image_key, expires_s) for hit in hits))
        return [hit.model_copy(update={"image_url": url}) for hit, url in zip(hits, urls, strict=True)]


def _hits_of(query: str, ranked: Ranked, records: Mapping[int, PageRecord]) -> list[Hit]:
    """CPU work: reads the whole text of each page, which may have 100,000 characters."""
    return [
        Hit(
            document_id=page.document.id,
            page_key=page.page_key,
            page=page.page_number,
            filename=page.document.filename,
            score=score,
            image_key=record.image_key,
            snippet=snippet(record.text, query),
            metadata=dict(page.document.metadata),
            tags=list(page.document.tags),
        )
        for page, score in ranked
        if (record := records.get(page.page_key)) is not None
    ]
