"""Makes the sign codes of pages from their stored vectors."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from ingestion.catalogue.generations import Binding
from ingestion.model import Document
from ingestion.retrying import retrying
from ingestion.vectors.blob_reader import VectorBlobRef, VectorBlobs
from ingestion.vectors.sign_codes import CodeSegment

_BLOBS_AT_ONCE: Final = 16
"""Blobs in memory at a time. A page's blob has up to some megabytes, its codes an eighth of that at most."""


async def page_codes(
    blobs: VectorBlobs, document_id: str, page_numbers: Sequence[int], generation: int
) -> list[CodeSegment]:
    """The codes of each page, in the order of `page_numbers`.

    Raises NotFound where a page lacks its blob, ValueError where a blob cannot be read, DependencyUnavailable.
    """
    found: list[CodeSegment] = []
    for start in range(0, len(page_numbers), _BLOBS_AT_ONCE):
        numbers = page_numbers[start : start + _BLOBS_AT_ONCE]
        contents = await retrying(blobs.read, [VectorBlobRef(document_id, number, generation) for number in numbers])
        found += await asyncio.to_thread(lambda read: [CodeSegment.of([blob]) for blob in read], contents)
    return found


def coded_generations(document: Document, binding: Binding | None) -> list[int]:
    """The generations whose sign codes a ready document should have: those that it is completely in.

    Not those that are being removed. `binding` is that of its collection.
    """
    live = [document.generation] if binding is None else [generation.number for generation in binding.live]
    return [generation for generation in live if document.is_in(generation)]
