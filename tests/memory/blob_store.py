"""The object store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from ingestion.errors import NotFound
from ingestion.ports import BlobEntry
from tests.memory.clock import Clock


class MemoryBlobStore:
    """BlobStore. `objects` is open to tests: content and content type by key."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.objects: dict[str, tuple[bytes, str]] = {}
        self._entries: dict[str, BlobEntry] = {}

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        self.objects[key] = data, content_type
        self._entries[key] = BlobEntry(key, self.clock.now)

    async def put_file(self, key: str, path: Path, content_type: str) -> None:
        await self.put(key, path.read_bytes(), content_type)

    async def get(self, key: str) -> bytes:
        if key not in self.objects:
            raise NotFound(f"there is no object {key!r}")
        return self.objects[key][0]

    async def get_many(self, keys: Sequence[str]) -> list[bytes]:
        return [await self.get(key) for key in keys]

    async def fetch_file(self, key: str, path: Path) -> None:
        path.write_bytes(await self.get(key))

    async def delete_prefix(self, prefix: str) -> int:
        keys = await self.list_keys(prefix)
        await self.delete(keys)
        return len(keys)

    async def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.objects.pop(key, None)
            self._entries.pop(key, None)

    async def list_keys(self, prefix: str) -> list[str]:
        return sorted(key for key in self.objects if key.startswith(prefix))

    async def entries(self, prefix: str) -> AsyncIterator[BlobEntry]:
        for key in await self.list_keys(prefix):
            yield self._entries[key]

    async def presign(self, key: str, expires_s: int) -> str:
        return f"memory://{key}?expires_s={expires_s}"

    async def prove(self) -> None: ...

    async def ping(self) -> None: ...
