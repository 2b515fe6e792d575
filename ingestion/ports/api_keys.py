"""Records of API keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ingestion.model import ApiKey


class ApiKeys(Protocol):
    async def insert_key(self, key: ApiKey) -> None:
        """Raises Conflict where the id exists."""

    async def api_key(self, key_id: str) -> ApiKey | None: ...

    async def api_keys(self, tenant: str | None = None) -> Sequence[ApiKey]:
        """Return the keys of one tenant, or of all, in the order of their ids. Also those that are no longer valid."""

    async def revoke_key(self, key_id: str, tenant: str | None = None) -> ApiKey:
        """Revoke the key for good, and return its record. Safe to repeat.

        Raises NotFound, also, with `tenant`, for a key of another tenant.
        """

    async def touch_key(self, key_id: str) -> None:
        """Record that the key is in use now."""
