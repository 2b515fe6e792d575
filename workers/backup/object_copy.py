"""Copies objects from one store to another, through a file."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final
from uuid import uuid4

from ingestion.catalogue.holds import Hold
from ingestion.errors import WorkerFault
from ingestion.formats.media_types import BY_SUFFIX, content_type_of
from ingestion.ports import BlobStore
from ingestion.retrying import retrying
from workers.lifecycle.parts import StoredObject, fingerprint_of

OBJECTS_AT_ONCE: Final = 8


class HoldKeeper:
    """Extends a hold while many small steps are made, a few times within each lease."""

    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        self._renewed_at = time.monotonic()

    async def keep(self) -> None:
        """Raises LeaseLost. The hold then outlives one more step, also the copy of a large file."""
        if time.monotonic() - self._renewed_at > self._hold.lease_s / 4:
            await self._hold.renew(long=True)
            self._renewed_at = time.monotonic()


async def copy_object(
    source: BlobStore, key: str, target: BlobStore, target_key: str, folder: Path, expected: StoredObject | None = None
) -> StoredObject:
    """Returns the object as it is in the source, under `key`. `folder` holds it meanwhile.

    Raises NotFound, WorkerFault where it is not as `expected`, DependencyUnavailable.
    """
    path = folder / uuid4().hex
    try:
        await retrying(source.fetch_file, key, path)
        sha256, size_bytes = await asyncio.to_thread(fingerprint_of, path)
        if expected is not None and (sha256, size_bytes) != (expected.sha256, expected.size_bytes):
            raise WorkerFault(f"{key} is not what was written", stage="restore")
        content_type = content_type_of(BY_SUFFIX.get(Path(key).suffix))
        await retrying(target.put_file, target_key, path, content_type)
    finally:
        path.unlink(missing_ok=True)
    return StoredObject(key, size_bytes, sha256)
