"""Chooses between the images of two engines, and says what is missing in a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from PIL import Image

from ingestion.model import Note, NoteKind
from ingestion.pdf.pdfium import PdfLayout
from workers.rendering.dpi import PagePlan
from workers.rendering.image_encoding import encode_image
from workers.rendering.render_child import RenderedPage

_WHITE: Final = 255


def better(first: RenderedPage, second: RenderedPage | None) -> RenderedPage:
    """The page that shows more. The text of the first one stays, where it has any."""
    if second is None or _rank(second) <= _rank(first):
        return first
    if not first.text:
        return second
    return replace(second, text=first.text, is_text_cut=first.is_text_cut, words=first.words)


def _rank(page: RenderedPage) -> tuple[bool, bool, int]:
    return not page.is_blank, not page.is_incomplete, -len(page.undrawn)


def blank_page(plan: PagePlan, *, with_pixels: bool) -> RenderedPage:
    """Stands in for a page that no engine draws."""
    image = Image.new("L", (plan.width_px, plan.height_px), _WHITE)
    encoded, image_format = encode_image(image, "png", 1)
    pixels = image.tobytes() if with_pixels else None
    return RenderedPage(image.width, image.height, encoded, image_format, "", pixels, is_blank=True)


def document_notes(layout: PdfLayout) -> tuple[Note, ...]:
    xfa = [Note.of_document(NoteKind.XFA_FORM)] if layout.is_xfa else []
    return (*xfa, *(Note.of_document(NoteKind.ATTACHED_FILE, name) for name in layout.attachments))


def page_notes(number: int, page: RenderedPage, missing_scripts: Sequence[str]) -> tuple[Note, ...]:
    notes = [Note.of_page(NoteKind.MISSING_FONT, number, script) for script in missing_scripts]
    if page.is_text_cut:
        notes.append(Note.of_page(NoteKind.TEXT_LEFT_OUT, number))
    if page.is_incomplete:
        notes.append(Note.of_page(NoteKind.INCOMPLETE_PAGE, number))
    return tuple(notes)
