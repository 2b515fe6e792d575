"""What a user should know about documents that are ready, in sentences."""

from __future__ import annotations

from typing import Final

from ingestion.model import Document, Note, NoteKind, TextPages

_SHOWN: Final = 10

_SENTENCES: Final[dict[str, str]] = {
    NoteKind.DAMAGED_PAGE: "the file is damaged: {pages} could not be read, and has no content here",
    NoteKind.INCOMPLETE_PAGE: "the image of {pages} lacks a part of a very large picture, or an annotation: install "
    "poppler-utils on the workers, and upload the file again",
    NoteKind.MISSING_FONT: "{pages} has {subject} letters that no installed font has, so its image lacks them: "
    "install a font on the workers (`pagemill doctor` names the package) and upload the file again",
    NoteKind.TEXT_LEFT_OUT: "{pages} has more text than is searched: its end may not be found; "
    "see PAGEMILL_MAX_TEXT_CHARS",
    NoteKind.XFA_FORM: "the document is an XFA form, which is not shown: print it to a PDF in Adobe Reader, and "
    "upload that",
    NoteKind.ATTACHED_FILE: "the document carries the file {subject!r}, which is not ingested: upload it by itself",
}


def warnings_of(document: Document) -> list[str]:
    return [*text_warnings(document.text_pages), *(_sentence(note) for note in document.notes)]


def text_warnings(counts: TextPages | None) -> list[str]:
    """What a user should know about pages that no search finds."""
    if counts is None or not counts.unsearchable:
        return []
    return [
        f"no search finds {counts.unsearchable} page(s): they are blank, or no text was read from them (OCR reads "
        "Latin letters and Chinese), and the embedder reads only texts; see PAGEMILL_OCR, or use a visual embedder"
    ]


def _sentence(note: Note) -> str:
    pattern = _SENTENCES.get(note.kind)
    if pattern is None:  # of a newer release
        return f"{note.kind}: {note.subject} {_pages(note)}".strip()
    return pattern.format(subject=note.subject, pages=_pages(note))


def _pages(note: Note) -> str:
    if not note.pages:
        return ""
    shown = ", ".join(str(page) for page in note.pages[:_SHOWN])
    more = note.count - min(len(note.pages), _SHOWN)
    return f"page {shown}" + (f" and {more} more" if more else "")
