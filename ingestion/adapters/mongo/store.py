"""MongoDB through motor: documents, pages, collections and counters."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from types import TracebackType
from typing import Any, Final, Self

from bson.int64 import Int64
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import ReadPreference, UpdateOne
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from ingestion.adapters.mongo.archiving import MongoPacking
from ingestion.adapters.mongo.bindings import binding_of
from ingestion.adapters.mongo.collections import MongoCollections
from ingestion.adapters.mongo.generations import MongoGenerations
from ingestion.adapters.mongo.inventory import PAGE_KEYS, MongoInventory
from ingestion.adapters.mongo.janitor import MongoUpkeep
from ingestion.adapters.mongo.ledger import MongoLedger
from ingestion.adapters.mongo.records import (
    document_of,
    page_record_of,
    pages_of,
    translated,
)
from ingestion.adapters.mongo.uploads import MongoArrivals
from ingestion.adapters.mongo.versions import MongoVersions
from ingestion.errors import Conflict
from ingestion.model import Document, DocumentState, PageRecord, sources_of
from ingestion.settings import MongoSettings

# The driver repeats a read or a write once, as it does by default: a repeated write is the same write by its
# transaction number, which one from further up would not be. Within a budget of time it ends with that.
_SELECTION_TIMEOUT_MS: Final = 3_000
_SOCKET_TIMEOUT_MS: Final = 20_000


class MongoDocumentStore(
    MongoArrivals,
    MongoLedger,
    MongoUpkeep,
    MongoInventory,
    MongoCollections,
    MongoPacking,
    MongoGenerations,
    MongoVersions,
):
    """DocumentStore. Reads come from the primary and, like writes, count once a majority has them."""

    def __init__(self, settings: MongoSettings) -> None:
        super().__init__()
        self._settings = settings

    @translated
    async def __aenter__(self) -> Self:
        self._client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(
            self._settings.mongo_uri,
            serverSelectionTimeoutMS=_SELECTION_TIMEOUT_MS,
            connectTimeoutMS=_SELECTION_TIMEOUT_MS,
            socketTimeoutMS=_SOCKET_TIMEOUT_MS,
            tz_aware=True,
            # One record with a broken text, or a time beyond the year 9999, must not make a whole answer unreadable.
            unicode_decode_error_handler="replace",
            datetime_conversion="DATETIME_AUTO",
        )
        database = self._client.get_database(
            self._settings.mongo_database,
            read_preference=ReadPreference.PRIMARY,
            read_concern=ReadConcern("majority"),
            write_concern=WriteConcern("majority"),
        )
        self._documents = database["documents"]
        self._pages = database["pages"]
        self._collections = database["collections"]
        self._counters = database["counters"]
        self._letters = database["letters"]
        self._archived = database["archived"]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    @translated
    async def prepare(self) -> None:
        """Create the indexes and the counter of page keys where they are missing. Safe to repeat and to race."""
        await self._documents.create_index([("collection", 1), ("_id", 1)])
        await self._documents.create_index([("collection", 1), ("first_page_key", 1)])
        await self._documents.create_index([("state", 1), ("updated_at", 1)])
        await self._pages.create_index("document_id")
        await self._archived.create_index("collection")
        try:
            await self._counters.insert_one({"_id": PAGE_KEYS, "next": Int64(1)})
        except DuplicateKeyError:
            return

    @translated
    async def ping(self) -> None:
        await self._client.admin.command("ping")

    @translated
    async def collection_fingerprint(self, collection: str) -> str | None:
        bound = await self._collections.find_one({"_id": collection})
        return None if bound is None else binding_of(bound).current.fingerprint

    @translated
    async def collections(self) -> Sequence[str]:
        bound = await self._collections.find({}, {"_id": 1}).sort("_id", 1).to_list(None)
        return [str(record["_id"]) for record in bound]

    @translated
    async def list(
        self, collection: str | None = None, *, limit: int = 100, after: str | None = None
    ) -> list[Document]:
        wanted: dict[str, Any] = {"state": {"$ne": DocumentState.DELETED}}
        if collection is not None:
            wanted["collection"] = collection
        if after is not None:
            wanted["_id"] = {"$gt": after}
        found = await self._documents.find(wanted).sort("_id", 1).limit(limit).to_list(None)
        return [document_of(record) for record in found]

    @translated
    async def ready_documents(self, document_ids: Collection[str]) -> dict[str, Document]:
        wanted = {"_id": {"$in": list(document_ids)}, "state": DocumentState.READY}
        found = await self._documents.find(wanted, {"story": 0}).to_list(None)
        documents = [document_of(record) for record in found]
        return {document.id: document for document in documents if document.is_readable}

    @translated
    async def remove(self, document: Document) -> None:
        removable = sources_of(DocumentState.DELETED)
        record = await self._documents.find_one({"_id": document.id}, {"state": 1, "first_page_key": 1})
        # A record whose page keys cannot be read is removed as it is; the audit finds its pages and rows.
        same_upload = {} if document.damage else {"first_page_key": document.first_page_key}
        is_same = record is None or same_upload.items() <= record.items()
        if record is not None and not (is_same and record.get("state") in removable):
            raise Conflict(f"document {document.id} is {record.get('state')}: its deletion has not begun")
        await self.remove_pages(document.first_page_key, document.pages)
        await self._documents.delete_one({"_id": document.id, **same_upload, "state": {"$in": removable}})

    @translated
    async def remove_pages(self, first_page_key: int, count: int) -> None:
        await self._pages.delete_many({"_id": {"$gte": first_page_key, "$lt": first_page_key + count}})

    @translated
    async def put_pages(self, pages: Sequence[PageRecord]) -> None:
        if not pages:
            return
        records = [page_record_of(page) for page in pages]
        # What it came to in a coming generation no longer holds; fields of a newer release are left alone.
        await self._pages.bulk_write(
            [
                UpdateOne({"_id": record.pop("_id")}, {"$set": record, "$unset": {"next": ""}}, upsert=True)
                for record in records
            ],
            ordered=False,
        )

    @translated
    async def pages_by_key(self, page_keys: Collection[int], *, with_text: bool = False) -> dict[int, PageRecord]:
        fields = None if with_text else {"text": 0}
        found = await self._pages.find({"_id": {"$in": list(page_keys)}}, fields).to_list(None)
        return {page.page_key: page for page in pages_of(found)}
