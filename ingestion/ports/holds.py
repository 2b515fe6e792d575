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
        """Take a hold, or extend one's own. Raises NotFound, CollectionHeld while another hold lasts."""

    async def renew_collection_hold(self, collection: str, token: str, lease_ms: int) -> None:
        """Move the end of the hold. Raises LeaseLost where another process has taken the collection since."""

    async def release_collection(self, collection: str, token: str) -> None:
        """End the hold. No effect where it is not the present one."""

    async def move_collection(
        self, collection: str, token: str, state: CollectionState, archive: Archive | None
    ) -> None:
        """Change state and archive, and with them the collection's version, under the hold. Raises LeaseLost."""

    async def forget_collection(self, collection: str, token: str) -> None:
        """Remove the record, under the hold. Raises LeaseLost."""

    async def freeze(self, collection: str, archive_id: str) -> None:
        """Ready and failed documents become frozen, and those frozen for another archive are so for this one."""

    async def thaw(self, collection: str, archive_id: str) -> None:
        """Documents that are frozen for this archive become what they were, ready or failed."""

    async def unfrozen(self, collection: str, limit: int) -> Sequence[Document]:
        """Documents that are not frozen, in the order of their ids."""
