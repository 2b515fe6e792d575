"""Objects and page records: of a document by its id, against what its pages should have."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, Protocol

from ingestion.catalogue.generations import Binding
from ingestion.errors import BadRecord, NewerRecord
from ingestion.model import (
    DOCUMENTS_PREFIX,
    SIGN_CODE_FORMAT,
    TERM_FORMAT,
    Document,
    DocumentState,
    PageRecord,
    both_vectors_keys,
    codes_keys,
    converted_key,
    document_prefix,
    pages_prefix,
    terms_keys,
)
from ingestion.ports import (
    ArchivedDocuments,
    Bindings,
    BlobEntry,
    BlobStore,
    DocumentReader,
    PageRecords,
    SignCodeRecords,
    TermRecords,
)
from ingestion.vectors.stored_codes import coded_generations
from workers.audit.mismatch import Mismatch, MismatchKind, NotJudged, Recheck, TooYoung

_DOCUMENTS_AT_ONCE: Final = 100
_PAGES_AT_ONCE: Final = 500


class ContentsRecords(
    DocumentReader, PageRecords, Bindings, ArchivedDocuments, SignCodeRecords, TermRecords, Protocol
):
    """The records that say which objects there should be."""


@dataclass(frozen=True, slots=True)
class ContentsAudit:
    """Compares records and objects, both read in the order of document ids.

    An upload stores its file before its record: an object without a record is an orphan once it is old enough.
    """

    records: ContentsRecords
    blobs: BlobStore
    orphan_grace: timedelta
    repair: bool
    too_young: TooYoung = field(default_factory=TooYoung)
    not_judged: NotJudged = field(default_factory=NotJudged)

    async def suspects(self, collection: str | None) -> AsyncIterator[Recheck]:
        """With `collection`, only its documents: an object without a record does not say where it belongs."""
        listing = _grouped(self.blobs.entries(DOCUMENTS_PREFIX))
        async for id_, document, entries in _joined(self._documents(collection), listing):
            if document is None and collection is not None:
                continue
            if document is not None and not document.is_readable:
                self._note_unreadable(document)
                continue
            if document is None and not self._are_old(entries):
                if not await self.records.archived_ids([id_]):
                    self.too_young.note(entries, self.orphan_grace)
            elif await self._difference(id_, document, entries):
                yield partial(self._recheck, id_)

    def _note_unreadable(self, document: Document) -> None:
        try:
            document.require_readable()
        except (BadRecord, NewerRecord) as error:
            self.not_judged.note(f"document {document.id}", error)

    async def _recheck(self, id_: str) -> list[Mismatch]:
        """The record is read before and after: as long as it stays the same, nothing of the document is in motion."""
        document = await self.records.get(id_)
        entries = [entry async for entry in self.blobs.entries(document_prefix(id_))]
        difference = await self._difference(id_, document, entries)
        if not difference or await self.records.get(id_) != document:
            return []
        found = difference.mismatches(id_, document)
        if self.repair and difference.extra:
            await self.blobs.delete(difference.extra)
            found[-1] = replace(found[-1], is_repaired=True)
        if self.repair and document is not None and (difference.codes or difference.terms):
            is_repaired = await self._have_remade(document, difference)
            found = [replace(one, is_repaired=is_repaired) if one.is_remade else one for one in found]
        return found

    async def _have_remade(self, document: Document, difference: _Difference) -> bool:
        """The next round of a backfill makes what the document's record says that it lacks."""
        codes = not difference.codes or await self.records.set_codes_format(document, 0)
        terms = not difference.terms or await self.records.set_terms_format(document, 0)
        return codes and terms

    async def _difference(self, id_: str, document: Document | None, entries: Sequence[BlobEntry]) -> _Difference:
        """An archived document has its objects and no record. Its id is asked for after the record was found missing,
        and a repair asks for the record once more: archiving notes the id first, restoring forgets it last."""
        keys = {entry.key for entry in entries}
        if document is None:
            is_orphan = self._are_old(entries) and not await self.records.archived_ids([id_])
            return _Difference(extra=sorted(keys) if is_orphan else [])
        if document.state is not DocumentState.READY or not document.is_readable:
            return _Difference()
        return _compared(document, await self._pages(document), keys, await self.records.binding(document.collection))

    def _are_old(self, entries: Sequence[BlobEntry]) -> bool:
        latest = datetime.now(UTC) - self.orphan_grace
        return all(entry.modified < latest for entry in entries)

    async def _pages(self, document: Document) -> dict[int, PageRecord]:
        """The document's page records that are right, by page number."""
        right = {}
        keys = document.page_keys
        for start in range(0, len(keys), _PAGES_AT_ONCE):
            for key, page in (await self.records.pages_by_key(keys[start : start + _PAGES_AT_ONCE])).items():
                if page.document_id == document.id and document.page_key(page.page_number) == key:
                    right[page.page_number] = page
        return right

    async def _documents(self, collection: str | None) -> AsyncIterator[Document]:
        after: str | None = None
        while batch := await self.records.list(collection, limit=_DOCUMENTS_AT_ONCE, after=after):
            for document in batch:
                yield document
            after = batch[-1].id


@dataclass(frozen=True, slots=True)
class _Difference:
    """`pages` are the numbers of pages without a record, `missing` and `extra` keys of objects."""

    pages: Sequence[int] = ()
    missing: Sequence[str] = ()
    extra: Sequence[str] = ()
    codes: Sequence[str] = ()
    """Keys of missing objects with sign codes."""
    terms: Sequence[str] = ()
    """Keys of missing objects with terms."""

    def __bool__(self) -> bool:
        return bool(self.pages or self.missing or self.extra or self.codes or self.terms)

    def mismatches(self, id_: str, document: Document | None) -> list[Mismatch]:
        """At most one of each sort: missing records, objects, sign codes and terms, and what is extra."""
        collection = document.collection if document else ""
        too_many = MismatchKind.EXTRA if document else MismatchKind.ORPHAN
        found = []
        if self.pages:
            what = f"record of page {self.pages[0]}"
            found.append(Mismatch("mongodb", MismatchKind.MISSING, what, len(self.pages), id_, collection))
        for kind, keys in (
            (MismatchKind.MISSING, self.missing),
            (MismatchKind.MISSING, self.codes),
            (MismatchKind.MISSING, self.terms),
            (too_many, self.extra),
        ):
            if keys:
                what = keys[0].removeprefix(document_prefix(id_))
                is_remade = keys is self.codes or keys is self.terms
                found.append(Mismatch("s3", kind, what, len(keys), id_, collection, is_remade=is_remade))
        return found


def _compared(
    document: Document, pages: dict[int, PageRecord], keys: set[str], binding: Binding | None
) -> _Difference:
    numbers = range(1, document.pages + 1)
    wanted = {document.object_key}
    if document.is_converted:
        wanted.add(converted_key(document.id))
    generations = [] if binding is None else [generation.number for generation in binding.generations]
    whole = [generation for generation in generations if document.is_in(generation)] or [document.generation]
    wanted.update(
        _stored_vectors_key(document, number, generation, keys) for generation in whole for number in numbers
    )
    wanted.update(page.image_key for page in pages.values())
    # What a re-embedding is writing or removing is neither missing nor extra.
    keys = keys - {
        key
        for generation in generations
        if generation not in whole
        for number in numbers
        for key in both_vectors_keys(document.id, number, generation)
    }
    lacking_codes = _expected_codes(document, binding) - keys
    terms = set(terms_keys(document.id, document.pages))
    lacking_terms = terms - keys if document.terms_format == TERM_FORMAT else set()
    # The janitor writes sign codes and terms before the record says so.
    keys -= terms
    keys -= {key for one in {*generations, *whole} for key in codes_keys(document.id, document.pages, one)}
    unrecorded = [number for number in numbers if number not in pages]
    # The name of a page's image is in its record; without that, any name will do.
    spared = {f"{pages_prefix(document.id)}{number:06d}" for number in unrecorded}
    extra = sorted(key for key in keys - wanted if key.rpartition(".")[0] not in spared)
    return _Difference(unrecorded, sorted(wanted - keys), extra, sorted(lacking_codes), sorted(lacking_terms))


def _expected_codes(document: Document, binding: Binding | None) -> set[str]:
    if document.codes_format != SIGN_CODE_FORMAT:
        return set()
    generations = coded_generations(document, binding)
    return {key for generation in generations for key in codes_keys(document.id, document.pages, generation)}


def _stored_vectors_key(document: Document, page_number: int, generation: int, keys: set[str]) -> str:
    """The old key where the vectors exist only under that, as in documents of an earlier release, else the new key."""
    new, old = both_vectors_keys(document.id, page_number, generation)
    return old if old in keys and new not in keys else new


async def _grouped(entries: AsyncIterator[BlobEntry]) -> AsyncIterator[tuple[str, list[BlobEntry]]]:
    """The objects of one document after another. What is not in a document's folder is not ours to judge."""
    id_, group = "", list[BlobEntry]()
    async for entry in entries:
        _, found, name = entry.key.split("/", 2) if entry.key.count("/") >= 2 else ("", "", "")
        if not name:
            continue
        if found != id_:
            if group:
                yield id_, group
            id_, group = found, []
        group.append(entry)
    if group:
        yield id_, group


async def _joined(
    documents: AsyncIterator[Document], listing: AsyncIterator[tuple[str, list[BlobEntry]]]
) -> AsyncIterator[tuple[str, Document | None, list[BlobEntry]]]:
    """Every document id that either side has, with what both sides have of it.

    A side that was not quite in order would yield suspects that the recheck, one by one, finds in order.
    """
    document, group = await anext(documents, None), await anext(listing, None)
    while document is not None or group is not None:
        if group is None or (document is not None and document.id < group[0]):
            assert document is not None
            yield document.id, document, []
            document = await anext(documents, None)
        elif document is None or group[0] < document.id:
            yield group[0], None, group[1]
            group = await anext(listing, None)
        else:
            yield document.id, document, group[1]
            document, group = await anext(documents, None), await anext(listing, None)
