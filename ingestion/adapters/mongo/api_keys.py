"""Records of API keys in MongoDB."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from ingestion.adapters.mongo.database import Database, MongoPort
from ingestion.adapters.mongo.errors import DEPENDENCY, translated
from ingestion.adapters.mongo.fields import FieldReader, MongoRecord, moment_of
from ingestion.concurrency.request_batching import RequestBatcher
from ingestion.errors import Conflict, NotFound
from ingestion.model import ApiKey, Role


class MongoApiKeys(MongoPort):
    """Implements the port ApiKeys. Concurrent look-ups share a request."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._lookups: RequestBatcher[str, ApiKey | None] = RequestBatcher(self._find_keys, dependency=DEPENDENCY)

    @translated
    async def insert_key(self, key: ApiKey) -> None:
        record = {
            "_id": key.id,
            "tenant": key.tenant,
            "role": key.role.value,
            "secret_sha256": key.secret_sha256,
            "name": key.name,
            "created_at": datetime.now(UTC),
            "expires_at": key.expires_at,
            "revoked_at": None,
            "last_used_at": None,
        }
        try:
            await self._keys.insert_one(record)
        except DuplicateKeyError as error:
            raise Conflict(f"there is an API key {key.id} already") from error

    async def api_key(self, key_id: str) -> ApiKey | None:
        return await self._lookups.call(key_id)

    @translated
    async def api_keys(self, tenant: str | None = None) -> list[ApiKey]:
        wanted = {} if tenant is None else {"tenant": tenant}
        found = await self._keys.find(wanted).sort("_id", 1).to_list(None)
        return [_key_of(record) for record in found]

    @translated
    async def revoke_key(self, key_id: str, tenant: str | None = None) -> ApiKey:
        wanted: dict[str, Any] = {"_id": key_id}
        if tenant is not None:
            wanted["tenant"] = tenant
        first_time = {"$ifNull": ["$revoked_at", "$$NOW"]}
        record = await self._keys.find_one_and_update(
            wanted, [{"$set": {"revoked_at": first_time}}], return_document=ReturnDocument.AFTER
        )
        if record is None:
            raise NotFound(f"there is no API key {key_id}")
        return _key_of(record)

    @translated
    async def touch_key(self, key_id: str) -> None:
        await self._keys.update_one({"_id": key_id}, {"$set": {"last_used_at": datetime.now(UTC)}})

    @translated
    async def _find_keys(self, ids: Sequence[str]) -> list[ApiKey | None]:
        found = await self._keys.find({"_id": {"$in": list(set(ids))}}).to_list(None)
        keys = {record["_id"]: _key_of(record) for record in found}
        return [keys.get(id_) for id_ in ids]


def _key_of(record: MongoRecord) -> ApiKey:
    """A key whose record does not say what it may do, or until when, has `damage`."""
    reader = FieldReader(record)
    texts = {name: reader.text(name) for name in ("tenant", "role", "secret_sha256")}
    if texts["role"] not in list(Role):
        reader.damage.append(f"role is {texts['role'][:40]!r}")
    times = {name: moment_of(record.get(name)) for name in ("created_at", "expires_at", "revoked_at", "last_used_at")}
    for name in ("expires_at", "revoked_at"):
        if times[name] is None and record.get(name) is not None:
            reader.damage.append(f"{name} is no time")
    return ApiKey(
        id=str(record["_id"]),
        tenant=texts["tenant"],
        role=Role(texts["role"]) if texts["role"] in list(Role) else Role.READ,
        secret_sha256=texts["secret_sha256"],
        name=reader.text("name", optional=True),
        **times,
        damage="; ".join(reader.damage),
    )
