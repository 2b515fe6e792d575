"""Insert, read and delete the records of documents. Concurrent uploads share a request for each step."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any

from pymongo import ReturnDocument

from ingestion.adapters.mongo.collection_versions import change_version
from ingestion.adapters.mongo.database import Database, MongoPort, insert_new
from ingestion.adapters.mongo.document_changes import NO_LEASE, DocumentChanges, pipeline_stage
from ingestion.adapters.mongo.document_events import EVENT_FACTS, keep_events
from ingestion.adapters.mongo.document_mapping import document_of, record_of, recorded_tenant
from ingestion.adapters.mongo.errors import DEPENDENCY, translated
from ingestion.adapters.mongo.filter_queries import query_of
from ingestion.adapters.mongo.inventory import PAGE_KEYS
from ingestion.adapters.mongo.revisions import NOT_REPLACED, mark_replaced
from ingestion.concurrency.request_batching import RequestBatcher
from ingestion.errors import BadRequest, CollectionArchived, Conflict, NotFound, WorkerFault
from ingestion.filters import Filter
from ingestion.model import Document, DocumentState, sources_of


class MongoUploads(MongoPort):
    """Implements the port Uploads."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._inserts: RequestBatcher[Document, bool] = RequestBatcher(self._insert_all, dependency=DEPENDENCY)
        self._reservations: RequestBatcher[int, int] = RequestBatcher(self._reserve_all, dependency=DEPENDENCY)
        self._contents: RequestBatcher[tuple[str, str], Document | None] = RequestBatcher(
            self._with_contents, dependency=DEPENDENCY
        )

    async def insert(self, document: Document) -> bool:
        return await self._inserts.call(document)

    async def reserve_page_keys(self, count: int) -> int:
        if count < 1:
            raise BadRequest(f"cannot reserve {count} page keys")
        return await self._reservations.call(count)

    async def with_content(self, collection: str, sha256: str) -> Document | None:
        return await self._contents.call((collection, sha256))

    @translated
    async def _with_contents(self, asked: Sequence[tuple[str, str]]) -> list[Document | None]:
        collections, contents = ([*dict.fromkeys(values)] for values in zip(*asked, strict=True))
        wanted = {"sha256": {"$in": contents}, "collection": {"$in": collections}, **NOT_REPLACED}
        first: dict[tuple[str, str], Document] = {}
        for document in map(document_of, await self._documents.find(wanted, {"story": 0}).to_list(None)):
            known = first.get((document.collection, document.sha256))
            is_earlier = known is None or document.first_page_key < known.first_page_key
            if is_earlier and document.state not in (DocumentState.DELETING, DocumentState.DELETED):
                first[document.collection, document.sha256] = document
        return [first.get(one) for one in asked]

    @translated
    async def _insert_all(self, documents: Sequence[Document]) -> list[bool]:
        now = datetime.now(UTC)
        records = [
            record_of(replace(one, state=DocumentState.RECEIVED, outbox="pending", created_at=now, updated_at=now))
            for one in documents
        ]
        known = await insert_new(self._documents, records)
        return [index not in known for index in range(len(documents))]

    @translated
    async def _reserve_all(self, counts: Sequence[int]) -> list[int]:
        total = sum(counts)
        counter = await self._counters.find_one_and_update(
            {"_id": PAGE_KEYS},
            {"$inc": {"next": total}},
            # Under concurrency a server returned a stale record for BEFORE. AFTER was always exact.
            return_document=ReturnDocument.AFTER,
        )
        if counter is None:
            raise WorkerFault("the counter of page keys is missing: the database has not been prepared")
        ends = accumulate(counts, initial=int(counter["next"]) - total)
        return list(ends)[:-1]


class MongoDocumentReader(MongoPort):
    """Implements the port DocumentReader."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._reads: RequestBatcher[str, Document | None] = RequestBatcher(self._get_all, dependency=DEPENDENCY)

    async def get(self, document_id: str) -> Document | None:
        return await self._reads.call(document_id)

    @translated
    async def _get_all(self, ids: Sequence[str]) -> list[Document | None]:
        found = await self._documents.find({"_id": {"$in": list(ids)}}).to_list(None)
        documents = {record["_id"]: document_of(record) for record in found}
        return [documents.get(id_) for id_ in ids]

    @translated
    async def list(
        self,
        collection: str | None = None,
        *,
        tenant: str | None = None,
        limit: int = 100,
        after: str | None = None,
        where: Filter | None = None,
    ) -> list[Document]:
        wanted: dict[str, Any] = {"state": {"$ne": DocumentState.DELETED}}
        if where is not None:
            if collection is None:
                raise BadRequest("a filter needs a collection: name one")
            wanted["$and"] = [query_of(where)]
        if collection is not None:
            wanted["collection"] = collection
        elif tenant is not None:
            wanted["tenant"] = recorded_tenant(tenant)
        if after is not None:
            wanted["_id"] = {"$gt": after}
        found = await self._documents.find(wanted).sort("_id", 1).limit(limit).to_list(None)
        return [document_of(record) for record in found]

    @translated
    async def count(self, collection: str, where: Filter) -> int:
        wanted = {"collection": collection, "state": {"$ne": DocumentState.DELETED}, "$and": [query_of(where)]}
        return int(await self._documents.count_documents(wanted))

    @translated
    async def known(self, document_ids: Collection[str]) -> dict[str, Document]:
        found = await self._documents.find({"_id": {"$in": list(document_ids)}}, {"story": 0}).to_list(None)
        return {record["_id"]: document_of(record) for record in found}

    @translated
    async def ready_documents(self, document_ids: Collection[str]) -> dict[str, Document]:
        wanted = {"_id": {"$in": list(document_ids)}, "state": DocumentState.READY}
        found = await self._documents.find(wanted, {"story": 0}).to_list(None)
        documents = [document_of(record) for record in found]
        return {document.id: document for document in documents if document.is_readable}


class MongoDeletions(DocumentChanges):
    """Implements the port Deletions."""

    @translated
    async def begin_delete(self, document_id: str, *, first_page_key: int | None = None) -> Document:
        deletable: dict[str, Any] = {"_id": document_id, "state": {"$in": sources_of(DocumentState.DELETING)}}
        if first_page_key is not None:
            deletable["first_page_key"] = first_page_key
        collection, key = await self._collection_and_key_of(document_id)
        await mark_replaced(self._documents, collection, key)
        await change_version(self._collections, collection)
        begun = {"state": DocumentState.DELETING, "fence": {"$add": ["$fence", 1]}, **NO_LEASE}
        record = await self._change_and_read(deletable, pipeline_stage(begun))
        if record is None:
            record = await self._documents.find_one({"_id": document_id})
        if record is None:
            raise NotFound(f"there is no document {document_id}")
        document = document_of(record)
        if not document.state.is_known:
            document.require_readable()
        if document.state is DocumentState.ARCHIVED:
            raise CollectionArchived(f"document {document_id} is in a collection that is being archived or restored")
        if document.state is not DocumentState.DELETING or first_page_key not in (None, document.first_page_key):
            raise Conflict(f"document {document_id} was restored, or uploaded again, meanwhile; delete it again")
        return document

    @translated
    async def remove(self, document: Document) -> None:
        removable = sources_of(DocumentState.DELETED)
        shown = dict.fromkeys(("state", "first_page_key", *EVENT_FACTS), 1)
        record = await self._documents.find_one({"_id": document.id}, shown)
        # If the page keys cannot be read, only the record is removed. The audit finds the pages and rows.
        same_upload = {} if document.damage else {"first_page_key": document.first_page_key}
        is_same = record is None or same_upload.items() <= record.items()
        if record is not None and not (is_same and record.get("state") in removable):
            raise Conflict(f"document {document.id} is {record.get('state')}: its deletion has not begun")
        if record is not None:
            await keep_events(self._events, record)
        end = document.first_page_key + document.pages
        await self._pages.delete_many({"_id": {"$gte": document.first_page_key, "$lt": end}})
        await self._documents.delete_one({"_id": document.id, **same_upload, "state": {"$in": removable}})
