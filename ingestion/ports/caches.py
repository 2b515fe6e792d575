"""Caches. Their entries may vanish at any time."""

from __future__ import annotations

from typing import Protocol


class QueryCache(Protocol):
    """Answers of searches. Best effort: where the cache is down nothing is found and nothing kept, and no error
    raised."""

    async def get(self, key: str) -> bytes | None: ...

    async def put(self, key: str, value: bytes, ttl_s: int) -> None:
        """Keep `value` for `ttl_s` seconds at most."""
