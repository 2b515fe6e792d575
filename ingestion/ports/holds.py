"""Holds on collections.

A *hold* is a lease on a collection, by a token. A process that archives, restores or drops a collection holds it, and
every change that such work makes to the collection's record is refused without the hold. Holds end by the database's
clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ingestion.catalogue.states import Archive, CollectionRecord, CollectionState
from ingestion.model import Document


class Holds(Protocol):
    """Frozen documents are those in state ARCHIVED. Each carries the id of the archive that it is frozen for."""

    async def hold_collection(self, collection: str, token: str, lease_ms: int) -> CollectionRecord:
        """Take a hold, or extend that of the same token. Raises NotFound, CollectionHeld while another hold lasts."""

    async def renew_collection_hold(self, collection: str, token: str, lease_ms: int) -> None:
        """Move the end of the hold. Raises LeaseLost if another process has taken the collection."""

    async def release_collection(self, collection: str, token: str) -> None:
        """End the hold. No effect if it is not the present one."""

    async def move_collection(
        self, collection: str, token: str, state: CollectionState, archive: Archive | None
    ) -> None:
        """Change state and archive, and with them the collection's version, under the hold. Raises LeaseLost."""

    async def forget_collection(self, collection: str, token: str) -> None:
        """Remove the record, under the hold. Raises LeaseLost."""

    async def freeze(self, collection: str, archive_id: str) -> None:
        """Freeze ready, failed and cancelled documents, and documents of another archive, for this archive."""

    async def thaw(self, collection: str, archive_id: str) -> None:
        """Give documents that are frozen for this archive their former state: ready, failed or cancelled."""

    async def unfrozen(self, collection: str, limit: int) -> Sequence[Document]:
        """Return documents that are not frozen, in the order of their ids."""
