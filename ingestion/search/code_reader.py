"""Reads the sign codes of segments from the object store, and keeps them in a bounded cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from ingestion import metrics
from ingestion.model import codes_key, terms_key
from ingestion.ports import BlobStore
from ingestion.search.code_scoring import pad_codes
from ingestion.search.segment_reader import SegmentKind, SegmentReader
from ingestion.vectors.sign_codes import CodeSegment, segment_pages, segment_start


@dataclass(frozen=True, slots=True)
class SegmentRef:
    """A segment of a ready document in one generation. Page numbers count from 1.

    The document's first page key is part of it: another upload of the same file has other page keys.
    """

    document_id: str
    first_page_key: int
    first_page: int
    pages: int
    generation: int

    @classmethod
    def of_page(cls, document_id: str, page_keys: range, page_number: int, generation: int) -> Self:
        """The segment that holds a page of the document whose pages have `page_keys`."""
        first = segment_start(page_number)
        return cls(document_id, page_keys.start, first, len(segment_pages(first, len(page_keys))), generation)

    @property
    def codes_key(self) -> str:
        return codes_key(self.document_id, self.first_page, self.generation)

    @property
    def terms_key(self) -> str:
        return terms_key(self.document_id, self.first_page)

    @property
    def page_keys(self) -> range:
        start = self.first_page_key + self.first_page - 1
        return range(start, start + self.pages)


def _padded(ref: SegmentRef, data: bytes) -> CodeSegment:
    segment = CodeSegment.decode(data)
    if segment.pages != ref.pages:
        raise ValueError(f"they are of {segment.pages} pages, not of {ref.pages}")
    return CodeSegment(segment.bits, segment.counts, pad_codes(segment.codes))


_CODES: Final = SegmentKind[SegmentRef, CodeSegment](
    "sign codes",
    key_of=lambda ref: ref.codes_key,
    decode=_padded,
    size_of=lambda segment: segment.size_bytes,
    outcomes=metrics.CODE_CACHE,
    bytes=metrics.CODE_CACHE_BYTES,
)


class CodeReader(SegmentReader[SegmentRef, CodeSegment]):
    """The segments that it reads have padded codes."""

    def __init__(self, blobs: BlobStore, cache_bytes: int) -> None:
        super().__init__(blobs, cache_bytes, _CODES)
