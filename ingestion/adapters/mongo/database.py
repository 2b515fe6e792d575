"""The database and its client. This is the only module of the product that imports motor.

The product uses only what motor and PyMongo's own asynchronous client have in common: the options of the client,
`find` with cursors that have `sort`, `limit`, `to_list` and `async for`, and the methods of collections that both make
awaitable: `find_one`, `find_one_and_update`, `insert_one`, `insert_many`, `update_one`, `update_many`, `delete_one`,
`delete_many`, `replace_one`, `bulk_write`, `count_documents`, `distinct`, `create_index`, `index_information`. Two
calls differ: only PyMongo makes `aggregate` and `close` awaitable. Only this module makes these calls, so that a
change of the client changes no other module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection
from pymongo import ReadPreference
from pymongo.errors import BulkWriteError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from ingestion.adapters.mongo.command_times import CommandTimes
from ingestion.adapters.mongo.errors import DUPLICATE, translating
from ingestion.settings import MongoSettings

MongoCollection: TypeAlias = AsyncIOMotorCollection[dict[str, Any]]

# The driver's default of one retry stays: its transaction number makes the retried write the same write, which a
# retry by the caller cannot do. Within a time budget the retry ends with the budget.
_SELECTION_TIMEOUT_MS: Final = 3_000
_SOCKET_TIMEOUT_MS: Final = 20_000


class Database:
    """A client and the collections of one database. Reads and writes use the concern "majority"."""

    def __init__(self, settings: MongoSettings) -> None:
        """Makes no request. Raises WorkerFault if the address cannot be parsed."""
        with translating():
            self._client = client_of(
                settings.mongo_uri,
                selection_timeout_ms=_SELECTION_TIMEOUT_MS,
                socketTimeoutMS=_SOCKET_TIMEOUT_MS,
                tz_aware=True,
                event_listeners=[CommandTimes()],
                # One record with a damaged text, or a time after the year 9999, must not make a whole answer
                # unreadable.
                unicode_decode_error_handler="replace",
                datetime_conversion="DATETIME_AUTO",
            )
            database = self._client.get_database(
                settings.mongo_database,
                read_preference=ReadPreference.PRIMARY,
                read_concern=ReadConcern("majority"),
                write_concern=WriteConcern("majority"),
            )
        self.is_stand_in = settings.mongo_stand_in
        self.documents: MongoCollection = database["documents"]
        self.pages: MongoCollection = database["pages"]
        self.collections: MongoCollection = database["collections"]
        self.counters: MongoCollection = database["counters"]
        self.letters: MongoCollection = database["letters"]
        self.archived: MongoCollection = database["archived"]
        self.keys: MongoCollection = database["keys"]
        self.flows: MongoCollection = database["flows"]
        self.migrations: MongoCollection = database["migrations"]
        self.events: MongoCollection = database["events"]
        self.webhooks: MongoCollection = database["webhooks"]
        self.deliveries: MongoCollection = database["deliveries"]

    async def ping(self) -> None:
        """Read a record: a server answers the command `ping` also to a client without a login or a right."""
        await self.counters.find_one({"_id": ""})

    async def now(self) -> datetime:
        """Return the time of the server's clock."""
        answer = await self._client.admin.command("hello")
        now: datetime = answer["localTime"]
        return now

    async def close(self) -> None:
        self._client.close()


def client_of(uri: str, *, selection_timeout_ms: int, **options: Any) -> AsyncIOMotorClient[dict[str, Any]]:
    """Return a client that connects with its first request. Raises PyMongoError if `uri` cannot be parsed."""
    return AsyncIOMotorClient(
        uri, serverSelectionTimeoutMS=selection_timeout_ms, connectTimeoutMS=selection_timeout_ms, **options
    )


async def aggregated(
    collection: MongoCollection, pipeline: Sequence[Mapping[str, Any]], *, limit: int | None = None
) -> list[dict[str, Any]]:
    """Return the records of an aggregation pipeline, at most `limit`."""
    return await collection.aggregate(pipeline).to_list(limit)


async def ping(uri: str, *, timeout_ms: int) -> None:
    """Wait until the server at `uri` has answered. Raises PyMongoError."""
    client = client_of(uri, selection_timeout_ms=timeout_ms)
    try:
        await client.admin.command("ping")
    finally:
        client.close()


async def insert_new(collection: MongoCollection, records: Sequence[dict[str, Any]]) -> set[int]:
    """Insert the records whose `_id` is new. Returns the indexes of the others. Raises BulkWriteError."""
    try:
        await collection.insert_many(records, ordered=False)
    except BulkWriteError as error:
        details = error.details or {}
        failed = details.get("writeErrors", [])
        is_unsafe = bool(details.get("writeConcernErrors"))  # too few servers have the records that were inserted
        if is_unsafe or not failed or any(one["code"] != DUPLICATE for one in failed):
            raise
        return {one["index"] for one in failed}
    return set()


class MongoPort:
    """The base of the adapters for the document store's ports. Each adapter uses the collections that it needs."""

    def __init__(self, database: Database) -> None:
        self._is_stand_in = database.is_stand_in
        self._server_time = database.now
        self._documents = database.documents
        self._pages = database.pages
        self._collections = database.collections
        self._counters = database.counters
        self._letters = database.letters
        self._archived = database.archived
        self._keys = database.keys
        self._flows = database.flows
        self._migrations = database.migrations
        self._events = database.events
        self._webhooks = database.webhooks
        self._deliveries = database.deliveries
