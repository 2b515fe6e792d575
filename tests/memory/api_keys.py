"""Records of API keys in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ingestion.errors import Conflict, NotFound
from ingestion.model import ApiKey
from tests.memory.state import MemoryPort


class MemoryApiKeys(MemoryPort):
    async def insert_key(self, key: ApiKey) -> None:
        if key.id in self.state.keys:
            raise Conflict(f"there is an API key {key.id} already")
        self.state.keys[key.id] = replace(key, created_at=self.clock.now)

    async def api_key(self, key_id: str) -> ApiKey | None:
        return self.state.keys.get(key_id)

    async def api_keys(self, tenant: str | None = None) -> Sequence[ApiKey]:
        return [key for _, key in sorted(self.state.keys.items()) if tenant in (None, key.tenant)]

    async def revoke_key(self, key_id: str, tenant: str | None = None) -> ApiKey:
        key = self.state.keys.get(key_id)
        if key is None or tenant not in (None, key.tenant):
            raise NotFound(f"there is no API key {key_id}")
        self.state.keys[key_id] = revoked = replace(key, revoked_at=key.revoked_at or self.clock.now)
        return revoked

    async def touch_key(self, key_id: str) -> None:
        if key_id in self.state.keys:
            self.state.keys[key_id] = replace(self.state.keys[key_id], last_used_at=self.clock.now)
