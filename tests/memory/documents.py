"""Records of documents and pages."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields, replace

from ingestion.catalogue.generations import PageSize
from ingestion.errors import BadRequest, CollectionArchived, Conflict, NotFound
from ingestion.filters import Filter, matches
from ingestion.model import (
    SIGN_CODE_FORMAT,
    TERM_FORMAT,
    Document,
    DocumentState,
    EventType,
    Metadata,
    PageRecord,
    TextPages,
    newest_versions,
    sources_of,
    tenant_of,
)
from ingestion.ports import PageRange
from tests.memory.ledger import NO_LEASE
from tests.memory.state import MemoryPort, StoredDocument


class MemoryUploads(MemoryPort):
    async def reserve_page_keys(self, count: int) -> int:
        if count < 1:
            raise BadRequest(f"cannot reserve {count} page keys")
        first = self.state.next_page_key
        self.state.next_page_key += count
        return first

    async def insert(self, document: Document) -> bool:
        if document.id in self.state.documents:
            return False
        now = self.clock.now
        fresh = replace(document, state=DocumentState.RECEIVED, outbox="pending", created_at=now, updated_at=now)
        self.state.documents[document.id] = StoredDocument(fresh)
        return True

    async def with_content(self, collection: str, sha256: str) -> Document | None:
        def is_wanted(one: Document) -> bool:
            is_there = one.state not in (DocumentState.DELETING, DocumentState.DELETED) and not one.replaced_by
            return is_there and (one.collection, one.sha256) == (collection, sha256)

        return min(self._documents(is_wanted), key=lambda one: one.first_page_key, default=None)


class MemoryDocumentReader(MemoryPort):
    async def get(self, document_id: str) -> Document | None:
        stored = self.state.documents.get(document_id)
        return None if stored is None else stored.document

    async def count(self, collection: str, where: Filter) -> int:
        return len(await self.list(collection, limit=len(self.state.documents), where=where))

    async def known(self, document_ids: Collection[str]) -> dict[str, Document]:
        return {document.id: document for document in self._documents(lambda one: one.id in document_ids)}

    async def ready_documents(self, document_ids: Collection[str]) -> dict[str, Document]:
        known = await self.known(document_ids)
        return {id_: one for id_, one in known.items() if one.state is DocumentState.READY and one.is_readable}

    async def list(
        self,
        collection: str | None = None,
        *,
        tenant: str | None = None,
        limit: int = 100,
        after: str | None = None,
        where: Filter | None = None,
    ) -> list[Document]:
        if where is not None and collection is None:
            raise BadRequest("a filter needs a collection: name one")

        def is_wanted(one: Document) -> bool:
            is_there = one.state is not DocumentState.DELETED and collection in (None, one.collection)
            is_there = is_there and (collection is not None or tenant in (None, tenant_of(one.collection)))
            return is_there and (after is None or one.id > after) and (where is None or matches(where, one))

        return self._documents(is_wanted)[:limit]


class MemoryMetadataRecords(MemoryPort):
    async def change_metadata(self, known: Document, metadata: Metadata, tags: Sequence[str]) -> bool:
        stored = self.state.documents.get(known.id)
        if stored is None or stored.document.state in (
            DocumentState.ARCHIVED,
            DocumentState.DELETING,
            DocumentState.DELETED,
        ):
            return False
        found = stored.document
        of_found, of_known = ((one.first_page_key, one.metadata, one.tags) for one in (found, known))
        if of_found != of_known:
            return False
        self._change_version(found.collection)
        stored.document = replace(found, metadata=dict(metadata), tags=tuple(tags))
        return True


class MemoryDeletions(MemoryPort):
    async def begin_delete(self, document_id: str, *, first_page_key: int | None = None) -> Document:
        stored = self.state.documents.get(document_id)
        if stored is None:
            raise NotFound(f"there is no document {document_id}")
        document = stored.document
        self._mark_replaced(document.collection, document.key)
        if first_page_key not in (None, document.first_page_key):
            raise Conflict(f"document {document_id} was uploaded again")
        if document.state in sources_of(DocumentState.DELETING):
            self._change_version(document.collection)
            changes = {"state": DocumentState.DELETING, "fence": document.fence + 1, **NO_LEASE}
            document = self._change(document_id, changes)
        if document.state is DocumentState.ARCHIVED:
            raise CollectionArchived(f"document {document_id} is in a collection that is being archived or restored")
        return document

    async def remove(self, document: Document) -> None:
        stored = self.state.documents.get(document.id)
        if stored is not None:
            found = stored.document
            is_same = found.first_page_key == document.first_page_key
            is_removable = is_same and found.state in sources_of(DocumentState.DELETED)
            if not is_removable:
                raise Conflict(f"document {document.id} is {found.state}: its deletion has not begun")
            self._add_outbox_event(document.id, EventType.DELETED)
            del self.state.documents[document.id]
        for key in document.page_keys:
            self.state.pages.pop(key, None)


class MemoryReadyPages(MemoryPort):
    async def count_ready_pages(self, collection: str) -> int:
        return sum(one.pages for one in self._ready_in(collection))

    async def count_text_pages(self, collection: str) -> TextPages:
        counts = [one.text_pages for one in self._ready_in(collection) if one.text_pages is not None]
        names = [field.name for field in fields(TextPages)]
        return TextPages(**{name: sum(getattr(one, name) for one in counts) for name in names})

    async def ready_page_ranges(
        self, collection: str, generation: int, where: Filter | None = None
    ) -> list[PageRange]:
        ready = (one for one in self._ready_in(collection) if one.is_readable and one.is_in(generation))
        ranges = [
            PageRange(
                one.id,
                one.first_page_key,
                one.pages,
                has_codes=one.codes_format == SIGN_CODE_FORMAT,
                has_terms=one.terms_format == TERM_FORMAT,
            )
            for one in newest_versions(ready)
            if where is None or matches(where, one)
        ]
        return sorted(ranges, key=lambda one: one.first_page_key)

    async def filterable_documents(self, collection: str, *, after: int, limit: int) -> list[Document]:
        found = (one for one in self._ready_in(collection) if one.first_page_key > after)
        return sorted(found, key=lambda one: one.first_page_key)[:limit]

    async def newest_of_keys(self, collection: str, keys: Collection[str]) -> dict[str, Document]:
        ready = (one for one in self._ready_in(collection) if one.key in keys and one.is_readable)
        return {one.key: one for one in newest_versions(ready)}

    def _ready_in(self, collection: str) -> list[Document]:
        return self._documents(lambda one: one.collection == collection and one.state is DocumentState.READY)


class MemoryPageRecords(MemoryPort):
    async def put_pages(self, pages: Sequence[PageRecord]) -> None:
        for page in pages:
            try:
                page.text.encode()
            except UnicodeEncodeError as error:
                raise BadRequest(f"no store can hold this record: {error}") from error
        for page in pages:
            self.state.pages[page.page_key] = page
            self.state.page_sizes.pop(page.page_key, None)

    async def pages_by_key(
        self, page_keys: Collection[int], *, with_text: bool = False, with_words: bool = False
    ) -> dict[int, PageRecord]:
        found = {key: self.state.pages[key] for key in page_keys if key in self.state.pages}
        return {
            key: replace(page, text=page.text if with_text else "", words=page.words if with_words else b"")
            for key, page in found.items()
        }

    async def remove_pages(self, first_page_key: int, count: int) -> None:
        for key in range(first_page_key, first_page_key + count):
            self.state.pages.pop(key, None)

    async def put_page_sizes(self, generation: int, sizes: Sequence[PageSize]) -> None:
        for size in sizes:
            if size.page_key in self.state.pages:
                self.state.page_sizes[size.page_key] = generation, size
