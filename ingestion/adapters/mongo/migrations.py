"""Records of `pagemill migrate`: the steps that were applied, and the lock that lets one process apply them."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

from pymongo.errors import DuplicateKeyError

from ingestion.adapters.mongo.database import MongoPort
from ingestion.adapters.mongo.errors import translated
from ingestion.adapters.mongo.expressions import NOW_MS, ms_from_now

_LOCK: Final = "lock"
_LOCK_ENDS: Final = {"$ifNull": ["$lock_until", 0]}


class MongoMigrations(MongoPort):
    """Implements `workers.migrations.migrator.MigrationRecords`."""

    @translated
    async def applied_versions(self) -> dict[str, int]:
        found = await self._migrations.find({"_id": {"$ne": _LOCK}}).to_list(None)
        return {str(record["_id"]): int(record["version"]) for record in found}

    @translated
    async def record_step(self, name: str, step_version: int) -> None:
        """Keep the time of the first application of a version. Safe to repeat."""
        applied: dict[str, Any] = {
            "version": step_version,
            "release": version("pagemill"),
            "applied_at": datetime.now(UTC),
        }
        changed = await self._migrations.update_one({"_id": name, "version": {"$lt": step_version}}, {"$set": applied})
        if changed.matched_count:
            return
        try:
            await self._migrations.insert_one({"_id": name, **applied})
        except DuplicateKeyError:
            return

    @translated
    async def lock(self, token: str, lease_ms: int) -> bool:
        """Take the lock, or renew it. Returns False while another process has it."""
        is_free = {"$or": [{"$lte": [_LOCK_ENDS, NOW_MS]}, {"$eq": ["$lock", token]}]}
        held = [{"$set": {"lock": token, "lock_until": ms_from_now(lease_ms)}}]
        for _ in range(2):
            changed = await self._migrations.update_one({"_id": _LOCK, "$expr": is_free}, held)
            if changed.matched_count:
                return True
            try:
                await self._migrations.insert_one({"_id": _LOCK, "lock": "", "lock_until": 0})
            except DuplicateKeyError:
                return False
        return False

    @translated
    async def unlock(self, token: str) -> None:
        await self._migrations.update_one({"_id": _LOCK, "lock": token}, {"$set": {"lock": "", "lock_until": 0}})
