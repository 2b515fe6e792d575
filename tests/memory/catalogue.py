"""Collections: records, bindings, versions and holds."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

from ingestion.catalogue.generations import FIRST, Binding, Generation
from ingestion.catalogue.states import Archive, CollectionRecord, CollectionState, CollectionTotals
from ingestion.errors import CollectionArchived, CollectionHeld, Conflict, LeaseLost, NotFound
from ingestion.model import Document, DocumentState, tenant_of
from ingestion.ports import Searchable
from tests.memory.state import MemoryPort, StoredCollection


class MemoryCollectionCatalogue(MemoryPort):
    async def collection(self, collection: str) -> CollectionRecord | None:
        stored = self.state.collections.get(collection)
        return None if stored is None else record_of(stored)

    async def collection_records(self) -> Sequence[CollectionRecord]:
        return [record_of(stored) for _, stored in sorted(self.state.collections.items())]

    async def collections(self) -> Sequence[str]:
        return sorted(self.state.collections)

    async def collection_fingerprint(self, collection: str) -> str | None:
        stored = self.state.collections.get(collection)
        return None if stored is None else stored.binding.current.fingerprint

    async def collection_totals(self, tenant: str | None = None) -> dict[str, CollectionTotals]:
        totals: dict[str, CollectionTotals] = {}
        for one in self._documents(lambda one: tenant in (None, tenant_of(one.collection))):
            before = totals.get(one.collection, CollectionTotals())
            totals[one.collection] = CollectionTotals(
                before.documents + Counter([one.state.value]),
                before.pages + (one.pages if one.state is DocumentState.READY else one.pages_done),
                before.source_bytes + one.size_bytes,
            )
        return totals

    async def require_active(self, collection: str) -> None:
        require_active(collection, self.state.collections.get(collection))

    async def touch_collections(self, collections: Collection[str]) -> None:
        for name in collections:
            if name in self.state.collections:
                self.state.collections[name].last_used_at = self.clock.now


class MemoryBindings(MemoryPort):
    async def binding(self, collection: str) -> Binding | None:
        stored = self.state.collections.get(collection)
        return None if stored is None else stored.binding

    async def bind_collection(self, collection: str, fingerprint: str, dim: int) -> Binding:
        fresh = StoredCollection(Binding(collection, Generation(FIRST, fingerprint, dim)))
        stored = self.state.collections.setdefault(collection, fresh)
        if stored is fresh:
            self._change_version(collection)
        require_active(collection, stored)
        stored.binding.require_current(fingerprint, dim)
        return stored.binding


class MemoryGenerations(MemoryPort):
    """`Generations`, as far as a worker meets them: begun, closed, opened, switched and abandoned."""

    async def begin_generation(self, collection: str, fingerprint: str, dim: int) -> Binding:
        stored = self._bound(collection)
        require_active(collection, stored)
        binding = stored.binding
        if binding.next is None and binding.current.fingerprint == fingerprint:
            raise Conflict(f"collection {collection!r} holds vectors of {fingerprint!r} already")
        if binding.next is None:
            stored.last_generation += 1
            binding = replace(binding, next=Generation(stored.last_generation, fingerprint, dim))
        assert binding.next is not None
        if binding.next.fingerprint != fingerprint:
            raise Conflict(f"collection {collection!r} is being re-embedded with {binding.next.fingerprint!r}")
        stored.closing, stored.binding = "", replace(binding, is_closing=False)
        return stored.binding

    async def close_generation(self, collection: str, generation: int) -> str:
        stored = self._bound(collection)
        if stored.binding.next is None or stored.binding.next.number != generation:
            raise Conflict(f"generation {generation} of collection {collection!r} has been abandoned, or taken over")
        stored.closing, stored.binding = secrets.token_hex(8), replace(stored.binding, is_closing=True)
        return stored.closing

    async def open_generation(self, collection: str, closing: str) -> None:
        stored = self._bound(collection)
        if stored.closing == closing:
            stored.closing, stored.binding = "", replace(stored.binding, is_closing=False)

    async def switch_generation(self, collection: str, generation: int, closing: str, rest_ms: int) -> Binding:
        stored = self._bound(collection)
        former, coming = stored.binding.current, stored.binding.next
        if coming is None or coming.number != generation or not closing or stored.closing != closing:
            raise Conflict(f"collection {collection!r} was changed by another process shortly before the switch")
        stored.closing = ""
        stored.binding = replace(
            stored.binding,
            current=coming,
            next=None,
            is_closing=False,
            leaving=(*stored.binding.leaving, former),
            retired=stored.binding.retired | {former.fingerprint},
        )
        self._change_version(collection)
        return stored.binding

    async def abandon_generation(self, collection: str) -> Binding:
        stored = self._bound(collection)
        coming = stored.binding.next
        if coming is not None:
            leaving = (*stored.binding.leaving, coming)
            stored.closing = ""
            stored.binding = replace(stored.binding, next=None, is_closing=False, leaving=leaving)
        return stored.binding

    def _bound(self, collection: str) -> StoredCollection:
        stored = self.state.collections.get(collection)
        if stored is None:
            raise NotFound(f"there is no collection {collection!r}")
        return stored


class MemoryCollectionVersions(MemoryPort):
    async def searchable(self, collection: str) -> Searchable | None:
        stored = self.state.collections.get(collection)
        if stored is None:
            return None
        require_active(collection, stored)
        return Searchable(stored.binding, stored.version)


class MemoryHolds(MemoryPort):
    async def hold_collection(self, collection: str, token: str, lease_ms: int) -> CollectionRecord:
        stored = self.state.collections.get(collection)
        if stored is None:
            raise NotFound(f"there is no collection {collection!r} with pages in it")
        remaining_ms = stored.hold_until_ms - self.clock.now_ms
        if remaining_ms > 0 and stored.hold != token:
            raise CollectionHeld(collection, retry_in_s=remaining_ms / 1000)
        stored.hold, stored.hold_until_ms = token, self.clock.now_ms + lease_ms
        return record_of(stored)

    async def renew_collection_hold(self, collection: str, token: str, lease_ms: int) -> None:
        self._held_collection(collection, token).hold_until_ms = self.clock.now_ms + lease_ms

    async def release_collection(self, collection: str, token: str) -> None:
        stored = self.state.collections.get(collection)
        if stored is not None and stored.hold == token:
            stored.hold, stored.hold_until_ms = "", 0

    async def move_collection(
        self, collection: str, token: str, state: CollectionState, archive: Archive | None
    ) -> None:
        stored = self._held_collection(collection, token)
        stored.state, stored.archive = state, archive
        self._change_version(collection)

    async def forget_collection(self, collection: str, token: str) -> None:
        self._held_collection(collection, token)
        del self.state.collections[collection]

    async def freeze(self, collection: str, archive_id: str) -> None:
        for one in self._documents(lambda one: one.collection == collection):
            stored = self.state.documents[one.id]
            if one.state in (DocumentState.READY, DocumentState.FAILED, DocumentState.CANCELLED):
                stored.frozen_from = one.state
                stored.document = replace(one, state=DocumentState.ARCHIVED, updated_at=self.clock.now)
            if stored.document.state is DocumentState.ARCHIVED:
                stored.archive = archive_id

    async def thaw(self, collection: str, archive_id: str) -> None:
        for one in self._documents(lambda one: one.collection == collection):
            stored = self.state.documents[one.id]
            if stored.frozen_from is not None and stored.archive == archive_id:
                stored.document = replace(one, state=stored.frozen_from, updated_at=self.clock.now)
                stored.frozen_from, stored.archive = None, ""

    async def unfrozen(self, collection: str, limit: int) -> Sequence[Document]:
        def is_wanted(one: Document) -> bool:
            return one.collection == collection and one.state is not DocumentState.ARCHIVED

        return self._documents(is_wanted)[:limit]

    def _held_collection(self, collection: str, token: str) -> StoredCollection:
        stored = self.state.collections.get(collection)
        if stored is None or stored.hold != token:
            raise LeaseLost(f"collection {collection!r} is no longer held by this process")
        return stored


class MemoryArchivedDocuments(MemoryPort):
    async def archived_ids(self, document_ids: Collection[str]) -> set[str]:
        return set(document_ids) & set(self.state.archived)

    async def archived_collection(self, document_id: str) -> str | None:
        return self.state.archived.get(document_id, (None, ""))[0]

    async def archived_in(self, collection: str, limit: int) -> Sequence[str]:
        return [id_ for id_, (name, _) in self.state.archived.items() if name == collection][:limit]

    async def forget_archived(self, collection: str, archive_id: str) -> None:
        await self.forget_archived_ids(
            [id_ for id_, found in self.state.archived.items() if found == (collection, archive_id)]
        )

    async def forget_archived_ids(self, document_ids: Collection[str]) -> None:
        for id_ in document_ids:
            self.state.archived.pop(id_, None)


def record_of(stored: StoredCollection) -> CollectionRecord:
    current = stored.binding.current
    return CollectionRecord(
        name=stored.binding.collection,
        embedder=current.fingerprint,
        dim=current.dim,
        generation=current.number,
        state=stored.state,
        archive=stored.archive,
        last_used_at=stored.last_used_at,
    )


def require_active(collection: str, stored: StoredCollection | None) -> None:
    if stored is not None and stored.state is not CollectionState.ACTIVE:
        raise CollectionArchived(f"collection {collection!r} is {stored.state.shown}")
