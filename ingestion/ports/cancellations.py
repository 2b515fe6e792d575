"""Records of documents whose processing is cancelled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ingestion.filters import Filter
from ingestion.model import Document


class Cancellations(Protocol):
    async def begin_cancel(self, document_id: str) -> Document:
        """`received`, `queued` or `processing` becomes `cancelling`, and the fence grows: late writes are refused.

        Returns the record. A document that is `cancelling` or `cancelled` stays as it is. Raises NotFound,
        CollectionArchived where it is frozen for an archive, Conflict in any other state.
        """

    async def begin_cancels(self, collection: str, where: Filter | None = None) -> int:
        """As `begin_cancel`, for all documents of the collection that it applies to. Returns their number."""

    async def being_cancelled(self, collection: str, limit: int, *, after: str = "") -> Sequence[Document]:
        """Documents of the collection that are `cancelling`, in the order of their ids, from after the id `after`."""

    async def end_cancel(self, document: Document) -> Document | None:
        """`cancelling` becomes `cancelled`, without pages. The last step of a cancellation.

        Returns the record. None, and nothing changed, where it is not `cancelling` under the fence of `document`.
        """

    async def restart(self, cancelled: Document, document: Document) -> bool:
        """Put the record of a new upload in the place of a cancelled one, as `received` with the outbox pending.

        Returns False, and changes nothing, where the document is no longer `cancelled`, or was uploaded again.
        """
