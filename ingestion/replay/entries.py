"""The status of dead letters.

A dead letter stays on its topic as it was written. A replay or a discard leaves a mark in the document store. The
status of a letter without a mark follows from its document.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from ingestion.dead_letters import DeadLetter, letter_id
from ingestion.model import Document, DocumentState, LetterMark
from ingestion.open_enum import OpenStrEnum
from ingestion.ports import ArchivedDocuments, DeadLetterNotes, DocumentReader

_LETTERS_PER_REQUEST: Final = 500
_DELETED: Final = (DocumentState.DELETING, DocumentState.DELETED)


class DeadLetterStatus(OpenStrEnum):
    OPEN = "open"
    """The document is still failed, or a replay was cut short before it marked the letter."""
    REPLAYED = "replayed"
    DISCARDED = "discarded"
    MOVED_ON = "moved-on"
    """The document left this failure without a replay of the letter: it was uploaded again, for example."""
    ARCHIVED = "archived"
    """The document is archived with its collection. After a restore the letter is open again."""
    DELETED = "deleted"
    """The document is deleted."""


@dataclass(frozen=True, slots=True)
class DeadLetterEntry:
    """A dead letter and its status. `document` is its present document; it is read only for letters without a mark."""

    letter: DeadLetter
    status: DeadLetterStatus
    mark: LetterMark | None = None
    document: Document | None = None


class EntryRecords(DocumentReader, DeadLetterNotes, ArchivedDocuments, Protocol):
    """The records that give the status of a letter."""


async def entries_of(records: EntryRecords, letters: Sequence[DeadLetter]) -> list[DeadLetterEntry]:
    """The entries of `letters`, in the same order. Costs at most three requests for every 500 letters.

    Raises DependencyUnavailable.
    """
    entries: list[DeadLetterEntry] = []
    for start in range(0, len(letters), _LETTERS_PER_REQUEST):
        entries += await _read_entries(records, letters[start : start + _LETTERS_PER_REQUEST])
    return entries


async def entry_of(records: EntryRecords, letter: DeadLetter) -> DeadLetterEntry:
    """Raises DependencyUnavailable."""
    [entry] = await _read_entries(records, [letter])
    return entry


def awaits_job(letter: DeadLetter, document: Document) -> bool:
    """True where a replay queued the document out of the letter's failure, and its job is not published yet."""
    is_unpublished = document.state is DocumentState.QUEUED and document.outbox == "pending"
    return is_unpublished and letter.id == letter_id(document)


async def _read_entries(records: EntryRecords, letters: Sequence[DeadLetter]) -> list[DeadLetterEntry]:
    marks = await records.letter_marks([letter.id for letter in letters])
    ids = {letter.document_id for letter in letters if letter.id not in marks} - {""}
    known = await records.known(ids) if ids else {}
    missing = ids - known.keys()
    archived = await records.archived_ids(missing) if missing else set()
    return [_entry(letter, marks.get(letter.id), known, archived) for letter in letters]


def _entry(
    letter: DeadLetter, mark: LetterMark | None, known: Mapping[str, Document], archived: Collection[str]
) -> DeadLetterEntry:
    if mark is not None:
        return DeadLetterEntry(letter, DeadLetterStatus(mark.action), mark)
    if not letter.document_id:
        return DeadLetterEntry(letter, DeadLetterStatus.OPEN)
    if letter.document_id in archived:
        return DeadLetterEntry(letter, DeadLetterStatus.ARCHIVED)
    document = known.get(letter.document_id)
    return DeadLetterEntry(letter, _unmarked_status(letter, document), document=document)


def _unmarked_status(letter: DeadLetter, document: Document | None) -> DeadLetterStatus:
    if document is None or document.state in _DELETED:
        return DeadLetterStatus.DELETED
    if document.state is DocumentState.ARCHIVED:
        return DeadLetterStatus.ARCHIVED
    is_its_failure = document.state is DocumentState.FAILED and letter.id == letter_id(document)
    return DeadLetterStatus.OPEN if is_its_failure or awaits_job(letter, document) else DeadLetterStatus.MOVED_ON
