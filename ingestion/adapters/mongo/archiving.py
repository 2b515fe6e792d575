"""Move the records of a collection into an archive and back, as extended JSON with all their fields.

A document is frozen before it is packed: its state is ARCHIVED, `frozen_from` is the state before, `archive` is the id
of the archive. A request that removes documents contains that id, so that a process that was stopped for a while
removes nothing of a later archive.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bson import json_util
from bson.int64 import Int64
from pymongo import ReplaceOne
from pymongo.errors import DuplicateKeyError

from ingestion.adapters.mongo.collection_changes import CollectionChanges
from ingestion.adapters.mongo.collection_versions import changed_version
from ingestion.adapters.mongo.database import MongoCollection, MongoPort
from ingestion.adapters.mongo.document_mapping import document_of
from ingestion.adapters.mongo.errors import translated
from ingestion.adapters.mongo.fields import MongoRecord
from ingestion.adapters.mongo.holds import FREEZE_FIELDS, FROZEN
from ingestion.adapters.mongo.revisions import NOT_REPLACED
from ingestion.catalogue.states import Archive, CollectionRecord, CollectionState
from ingestion.errors import CollectionBusy, Conflict
from ingestion.model import DocumentState, first_fence
from ingestion.ports import PackedDocument, PackedPage


class MongoArchiving(CollectionChanges):
    """Implements the port Archiving."""

    @translated
    async def begin_archive(self, collection: str, token: str, archive_id: str) -> None:
        archive = asdict(Archive(archive_id))
        begun = {
            "state": CollectionState.ARCHIVING.value,
            "archive": {"$literal": archive},
            "version": changed_version(),
        }
        whole: dict[str, Any] = {"_id": collection, "hold": token, "next": None, "leaving": {"$in": [None, []]}}
        if await self._change_collection(whole, begun) is None:
            await self._change_held_collection(collection, token, {"hold": token})
            raise CollectionBusy(f"collection {collection!r} is being re-embedded; archive it after that")

    @translated
    async def collections_with_frozen(self) -> list[str]:
        return sorted(await self._documents.distinct("collection", {"state": FROZEN}))

    @translated
    async def pack_documents(self, collection: str, *, after: int, limit: int) -> list[PackedDocument]:
        wanted = {"collection": collection, "state": FROZEN, "first_page_key": {"$gt": after}}
        found = await self._documents.find(wanted).sort("first_page_key", 1).limit(limit).to_list(None)
        return [_packed_document(record) for record in found]

    @translated
    async def pack_ready_documents(self, collection: str, *, after: int, limit: int) -> list[PackedDocument]:
        ready = DocumentState.READY.value
        wanted = {"collection": collection, "state": ready, "first_page_key": {"$gt": after}, **NOT_REPLACED}
        found = await self._documents.find(wanted).sort("first_page_key", 1).limit(limit).to_list(None)
        return [_packed_document({**record, "frozen_from": ready}) for record in found]

    @translated
    async def pack_pages(self, page_keys: range, generation: int) -> list[PackedPage]:
        wanted = {"_id": {"$gte": page_keys.start, "$lt": page_keys.stop}}
        found = await self._pages.find(wanted).sort("_id", 1).to_list(None)
        return [_packed_page(record, generation) for record in found]

    @translated
    async def unpack_documents(self, collection: str, archive_id: str, documents: Iterable[str]) -> None:
        records = [_loaded(text) for text in documents]
        for record in records:
            document_of(record).require_readable()
            record |= {"frozen_from": record["state"], "state": FROZEN, "archive": archive_id}
        await _put(self._documents, records)

    @translated
    async def unpack_pages(self, pages: Iterable[str]) -> None:
        await _put(self._pages, [_loaded(text) for text in pages])

    @translated
    async def free_documents(self, collection: str, archive_id: str, limit: int) -> int:
        frozen = {"collection": collection, "state": FROZEN, "archive": archive_id}
        found = await self._documents.find(frozen, {"collection": 1, "archive": 1}).limit(limit).to_list(None)
        ids = [record["_id"] for record in found]
        await _put(self._archived, found)
        await self._pages.delete_many({"document_id": {"$in": ids}})
        await self._documents.delete_many({**frozen, "_id": {"$in": ids}})
        return len(ids)

    @translated
    async def count_frozen(self, collection: str, archive_id: str) -> tuple[int, int]:
        documents = pages = 0
        frozen = {"collection": collection, "state": FROZEN, "archive": archive_id}
        async for record in self._documents.find(frozen, {"first_page_key": 1, "pages": 1}):
            documents += 1
            first = record["first_page_key"]
            pages += await self._pages.count_documents({"_id": {"$gte": first, "$lt": first + record["pages"]}})
        return documents, pages


class MongoReceiving(MongoPort):
    """Implements the port Receiving."""

    @translated
    async def receive_collection(self, record: CollectionRecord, retired: Collection[str]) -> None:
        received = {
            "_id": record.name,
            "embedder": record.embedder,
            "dim": record.dim,
            "generation": record.generation,
            "last_generation": record.generation,
            "retired": sorted(retired),
            "state": record.state.value,
            "archive": None if record.archive is None else asdict(record.archive),
            "last_used_at": record.last_used_at,
        }
        try:
            await self._collections.insert_one(received)
        except DuplicateKeyError as error:
            raise Conflict(f"there is a collection {record.name!r} already") from error

    @translated
    async def note_archived(self, collection: str, archive_id: str, document_ids: Collection[str]) -> None:
        await _put(
            self._archived, [{"_id": id_, "collection": collection, "archive": archive_id} for id_ in document_ids]
        )

    def packed_document(self, record: str) -> PackedDocument:
        loaded = _loaded(record)
        return _packed_document({**loaded, "frozen_from": loaded.get("state")})

    def renumbered_document(self, record: str, first_page_key: int, generation: int, revision: int) -> str:
        loaded = _loaded(record)
        loaded |= {"first_page_key": Int64(first_page_key), "fence": Int64(first_fence(first_page_key))}
        if revision:
            loaded["revision"] = Int64(revision)
        if loaded.get("next_generation") != generation:  # its number will be given to another generation
            loaded |= {"next_generation": 0, "next_pages_done": 0}
        return json_util.dumps(loaded, json_options=json_util.CANONICAL_JSON_OPTIONS)

    def renumbered_page(self, record: str, page_key: int, generation: int) -> str:
        loaded = {**_loaded(record), "_id": Int64(page_key)}
        coming = loaded.get("next")
        if not (isinstance(coming, Mapping) and coming.get("generation") == generation):
            loaded.pop("next", None)
        return json_util.dumps(loaded, json_options=json_util.CANONICAL_JSON_OPTIONS)


class MongoArchivedDocuments(MongoPort):
    """Implements the port ArchivedDocuments."""

    @translated
    async def archived_ids(self, document_ids: Collection[str]) -> set[str]:
        found = await self._archived.find({"_id": {"$in": list(document_ids)}}, {"_id": 1}).to_list(None)
        return {record["_id"] for record in found}

    @translated
    async def archived_collection(self, document_id: str) -> str | None:
        record = await self._archived.find_one({"_id": document_id}, {"collection": 1})
        return None if record is None else str(record.get("collection", ""))

    @translated
    async def archived_in(self, collection: str, limit: int) -> list[str]:
        found = await self._archived.find({"collection": collection}, {"_id": 1}).limit(limit).to_list(None)
        return [record["_id"] for record in found]

    @translated
    async def forget_archived(self, collection: str, archive_id: str) -> None:
        await self._archived.delete_many({"collection": collection, "archive": archive_id})

    @translated
    async def forget_archived_ids(self, document_ids: Collection[str]) -> None:
        await self._archived.delete_many({"_id": {"$in": list(document_ids)}})


def _loaded(record: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json_util.loads(record, json_options=json_util.CANONICAL_JSON_OPTIONS)
    return loaded


def _packed_document(record: MongoRecord) -> PackedDocument:
    """Return the record as it was before the freeze, also the fields that are unknown here. Raises BadRecord."""
    thawed = {name: value for name, value in record.items() if name not in FREEZE_FIELDS}
    thawed["state"] = record.get("frozen_from")
    document = document_of(thawed)
    document.require_readable()
    return PackedDocument(
        id=document.id,
        page_keys=document.page_keys,
        is_ready=document.state is DocumentState.READY,
        record=json_util.dumps(thawed, json_options=json_util.CANONICAL_JSON_OPTIONS),
        revision=document.revision,
    )


def _packed_page(record: MongoRecord, generation: int) -> PackedPage:
    coming = record.get("next")
    sizes = coming if isinstance(coming, Mapping) and coming.get("generation") == generation else record
    rows = sizes.get("rows")
    return PackedPage(
        page_key=int(record["_id"]),
        rows=int(sizes["patches"] if rows is None else rows),
        record=json_util.dumps(record, json_options=json_util.CANONICAL_JSON_OPTIONS),
    )


async def _put(collection: MongoCollection, records: Sequence[dict[str, Any]]) -> None:
    """Insert or replace by id."""
    if records:
        await collection.bulk_write(
            [ReplaceOne({"_id": record["_id"]}, record, upsert=True) for record in records], ordered=False
        )
