"""Reads the vectors of pages from the object store.

Releases before 0.2 called these objects `.bf16`, for every precision. They keep that name: readers try the
new name and then the old one, and deletes and audits know both names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cachetools import LRUCache

from ingestion.concurrency.tasks import gather_or_cancel
from ingestion.errors import NotFound
from ingestion.model import old_vectors_key, vectors_key
from ingestion.ports import BlobStore

_MAX_DOCUMENTS: Final = 10_000


@dataclass(frozen=True, slots=True)
class VectorBlobRef:
    """The vectors of one page in one generation. `page_number` counts from 1."""

    document_id: str
    page_number: int
    generation: int

    @property
    def key(self) -> str:
        return vectors_key(self.document_id, self.page_number, self.generation)

    @property
    def old_key(self) -> str:
        return old_vectors_key(self.document_id, self.page_number, self.generation)


class VectorBlobs:
    """Safe to use from many tasks at once."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._old_documents: LRUCache[str, None] = LRUCache(_MAX_DOCUMENTS)
        """Documents whose objects were last found under their old names."""

    async def read(self, refs: Sequence[VectorBlobRef]) -> list[bytes]:
        """The blobs in the order of `refs`. Raises NotFound where one exists under neither name.

        A document's objects mostly have one kind of name. This remembers which documents have old names, so that only
        the first read of such a document costs requests for objects that do not exist.
        """
        of_document: dict[str, list[VectorBlobRef]] = defaultdict(list)
        for ref in refs:
            of_document[ref.document_id].append(ref)
        answers = await gather_or_cancel(*(self._read_document(id_, own) for id_, own in of_document.items()))
        blob_of = {
            ref: blob
            for own, blobs in zip(of_document.values(), answers, strict=True)
            for ref, blob in zip(own, blobs, strict=True)
        }
        return [blob_of[ref] for ref in refs]

    async def _read_document(self, document_id: str, refs: Sequence[VectorBlobRef]) -> list[bytes]:
        is_old = document_id in self._old_documents
        for old in (is_old, not is_old):
            try:
                blobs = await self._blobs.get_many([ref.old_key if old else ref.key for ref in refs])
            except NotFound:
                continue
            self._note(document_id, old=old)
            return blobs
        # An attempt that an earlier release began, and this release went on with, leaves both kinds of names.
        return await gather_or_cancel(*(self._read_page(ref) for ref in refs))

    async def _read_page(self, ref: VectorBlobRef) -> bytes:
        try:
            return (await self._blobs.get_many([ref.key]))[0]
        except NotFound:
            return (await self._blobs.get_many([ref.old_key]))[0]

    def _note(self, document_id: str, *, old: bool) -> None:
        if old:
            self._old_documents[document_id] = None
        else:
            self._old_documents.pop(document_id, None)
