"""Errors whose cause lies in the state of a collection."""

from __future__ import annotations

from ingestion.errors.base import Fault, PermanentError, RetryableError
from ingestion.errors.requests import Conflict


class EmbedderNotCurrent(RetryableError):
    """The collection changes, or has changed, its embedder, and this embedder may not fill it now."""

    code = "embedder_not_current"
    fault = Fault.TURN


class EmbedderMismatch(PermanentError):
    """The collection holds vectors of another embedder."""

    code = "embedder_mismatch"
    fault = Fault.COLLECTION


class CollectionArchived(Conflict):
    """The collection is archived, or is being archived, restored or dropped. It accepts no uploads and no searches."""

    code = "collection_archived"


class CollectionBusy(Conflict):
    """The collection cannot be archived or dropped now: it is being filled, lacks vectors, or has just changed."""

    code = "collection_busy"


class CollectionHeld(RetryableError):
    """Another process archives, restores or drops the collection; `retry_in_s` is the rest of its hold."""

    code = "collection_held"
    fault = Fault.TURN

    def __init__(self, collection: str, retry_in_s: float) -> None:
        super().__init__(f"another process is at collection {collection!r}, for {retry_in_s:.1f} s more at least")
        self.retry_in_s = retry_in_s
