"""Check that a worker counts the pages that were counted before, or count those of a converted file."""

from __future__ import annotations

from dataclasses import replace

from ingestion.errors import CorruptPdf, TooManyPages
from ingestion.formats.media_types import media_type_of
from ingestion.model import MOST_CONVERTED_PAGES, Document
from ingestion.ports import PageSource


def with_counted_pages(document: Document, source: PageSource) -> Document:
    """`document` with its page count. Page keys were reserved for the pages that the upload counted.

    Raises CorruptPdf for another number than before, TooManyPages for a converted file with more pages than keys.
    """
    if document.is_converted and not document.pages:
        media_type = media_type_of(document.media_type)
        most_pages = media_type.most_pages if media_type else MOST_CONVERTED_PAGES
        if source.pages > most_pages:
            raise TooManyPages(f"the file has {source.pages} pages as a PDF; at most {most_pages} are accepted")
        return replace(document, pages=source.pages)
    if source.pages != document.pages:
        raise CorruptPdf(
            f"this worker counts {source.pages} pages in the file, and {document.pages} were counted before: "
            "delete the document and upload it again"
        )
    return document
