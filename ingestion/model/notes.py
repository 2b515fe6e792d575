"""What a user should know about a document that is ready, and that no error says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

_MOST_NOTES: Final = 50
_MOST_PAGES: Final = 100
_MOST_CHARS: Final = 200


class NoteKind(StrEnum):
    DAMAGED_PAGE = "damaged_page"
    """The file is damaged at this page: no engine draws it. The page is empty."""
    INCOMPLETE_PAGE = "incomplete_page"
    """The page's image lacks something that no installed engine draws: a part of a huge picture, a free text."""
    MISSING_FONT = "missing_font"
    """The page has letters of fonts that are neither in the file nor installed. `subject`: their script."""
    TEXT_LEFT_OUT = "text_left_out"
    """The page has more text than is kept, or than is embedded."""
    XFA_FORM = "xfa_form"
    """The document is an XFA form, which no engine shows."""
    ATTACHED_FILE = "attached_file"
    """The document carries a file, which is not ingested. `subject`: its name."""


@dataclass(frozen=True, slots=True)
class Note:
    """`pages`: the first pages that the note is about, in order. `count`: how many there are; 0 for the document."""

    kind: str
    subject: str = ""
    pages: tuple[int, ...] = ()
    count: int = 0

    @classmethod
    def of_page(cls, kind: NoteKind, page_number: int, subject: str = "") -> Note:
        return cls(kind.value, subject[:_MOST_CHARS], (page_number,), 1)

    @classmethod
    def of_document(cls, kind: NoteKind, subject: str = "") -> Note:
        return cls(kind.value, subject[:_MOST_CHARS])


def merged_notes(notes: Iterable[Note], more: Iterable[Note]) -> tuple[Note, ...]:
    """One note for each kind and subject, with the pages of all. Adding a page twice is the same as once."""
    found: dict[tuple[str, str], Note] = {}
    for note in (*notes, *more):
        key = note.kind, note.subject
        known = found.get(key)
        if known is None:
            if len(found) < _MOST_NOTES:
                found[key] = note
            continue
        new = [page for page in note.pages if page not in known.pages]
        pages = tuple(sorted({*known.pages, *new}))[:_MOST_PAGES]
        found[key] = replace(known, pages=pages, count=known.count + len(new))
    return tuple(found.values())
