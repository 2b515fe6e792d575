"""Change the metadata and tags of a document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from ingestion.errors import CollectionArchived, Conflict, NotFound
from ingestion.model import Document, DocumentState, Metadata, merged_metadata
from ingestion.ports import DocumentReader, MetadataRecords

_TRIES: Final = 8


class PatchRecords(DocumentReader, MetadataRecords, Protocol):
    """The ports that a change of metadata uses."""


async def patch_document(
    records: PatchRecords, document_id: str, metadata: Metadata | None, tags: Sequence[str] | None
) -> Document:
    """Return the document as it is then. The same patch twice is the same as once.

    `metadata` is a JSON merge patch: see `merged_metadata`. `tags` replace all tags. None changes nothing. Changes of
    other keys at the same time are kept.

    Raises BadRequest, NotFound, CollectionArchived, Conflict where it is being deleted or is changed all the time,
    DependencyUnavailable.
    """
    for _ in range(_TRIES):
        document = await records.get(document_id)
        if document is None:
            raise NotFound(f"no document {document_id}")
        if document.state in (DocumentState.DELETING, DocumentState.DELETED):
            raise Conflict(f"document {document_id} is being deleted")
        if document.state is DocumentState.ARCHIVED:
            raise CollectionArchived(f"document {document_id} is in a collection that is being archived or restored")
        wanted = merged_metadata(document.metadata, metadata or {})
        wanted_tags = document.tags if tags is None else tuple(tags)
        if (wanted, wanted_tags) == (document.metadata, document.tags):
            return document
        if await records.change_metadata(document, wanted, wanted_tags):
            return await records.get(document_id) or document
    raise Conflict(f"document {document_id} is being changed by other requests; try again")
