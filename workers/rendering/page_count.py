"""Check that a worker counts the pages that the upload counted."""

from __future__ import annotations

from ingestion.errors import CorruptPdf
from ingestion.model import Document
from ingestion.ports import PageSource


def require_same_pages(source: PageSource, document: Document) -> None:
    """Page keys were reserved for the pages that the upload counted. Raises CorruptPdf for another number."""
    if source.pages != document.pages:
        raise CorruptPdf(
            f"this worker counts {source.pages} pages in the file, and the upload counted {document.pages}: "
            "delete the document and upload it again"
        )
