"""Writes the terms of a document's pages, from the texts in their records: one object for each segment of pages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from ingestion.errors import NotFound
from ingestion.model import Document, terms_key
from ingestion.ports import BlobStore, PageRecords
from ingestion.retrying import retrying
from ingestion.terms.segment import TermSegment
from ingestion.vectors.sign_codes import segment_pages, segment_starts

CONTENT_TYPE: Final = "application/octet-stream"


async def term_objects(records: PageRecords, document: Document) -> AsyncIterator[tuple[str, bytes]]:
    """Key and content of each segment, one after another. Tokenizing is CPU work, and runs in a thread.

    Raises NotFound where a page has no record, DependencyUnavailable.
    """
    for first in segment_starts(document.pages):
        keys = [document.page_key(number) for number in segment_pages(first, document.pages)]
        pages = await retrying(records.pages_by_key, keys, with_text=True)
        lacking = [key for key in keys if key not in pages or pages[key].document_id != document.id]
        if lacking:
            raise NotFound(f"page {lacking[0] - document.first_page_key + 1} of document {document.id} has no record")
        texts = [pages[key].text for key in keys]
        content = await asyncio.to_thread(lambda texts: TermSegment.of(texts).encode(), texts)
        yield terms_key(document.id, first), content


async def write_object(blobs: BlobStore, key: str, content: bytes) -> None:
    await retrying(blobs.put, key, content, CONTENT_TYPE)
