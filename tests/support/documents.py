"""Documents and pages for tests of the document store, and the way into each state."""

from __future__ import annotations

from typing import Final

from ingestion.bootstrap import DocumentStore
from ingestion.model import Document, DocumentState, Failure, PageRecord

S = DocumentState
LEASE_MS: Final = 60_000
FAILURE: Final = Failure(code="corrupt_pdf", stage="render", message="$page {7} is — unreadable")


def document(document_id: str = "d1", collection: str = "c") -> Document:
    return Document(
        id=document_id,
        collection=collection,
        filename="a $b «ü».pdf",
        object_key=f"documents/{document_id}/source.pdf",
        sha256="0" * 64,
        size_bytes=3 * 1024**3,
        pages=60,
        first_page_key=2**45,
    )


def page(page_key: int, document_id: str = "d1", text: str = "text") -> PageRecord:
    return PageRecord(page_key, document_id, page_key, 1240, 1754, 700, f"documents/{document_id}/{page_key}", text)


async def in_state(
    store: DocumentStore, state: DocumentState, document_id: str = "d1", *, collection: str = "c"
) -> Document:
    """A document that has got into `state` on the legal way."""
    await store.insert(document(document_id, collection=collection))
    if state is S.QUEUED:
        await store.mark_queued(document(document_id, collection=collection))
    elif state is S.DELETING:
        await store.begin_delete(document_id)
    elif state in (S.CANCELLING, S.CANCELLED):
        begun = await store.begin_cancel(document_id)
        if state is S.CANCELLED:
            await store.end_cancel(begun)
    elif state is not S.RECEIVED:
        claimed = await store.claim(document_id, "w", LEASE_MS)
        if state is S.READY:
            await store.finish(claimed)
        elif state is S.FAILED:
            await store.fail(document_id, claimed.fence, FAILURE)
    found = await store.get(document_id)
    assert found is not None
    assert found.state is state
    return found


async def expired(store: DocumentStore, document_id: str = "d1") -> Document:
    """A claimed document whose lease has run out."""
    await store.insert(document(document_id))
    return await store.claim(document_id, "dead", lease_ms=0)
