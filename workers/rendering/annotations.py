"""Annotations of a page in a render child: what they show becomes part of the page, in picture and text.

PDFium draws form fields only where the form lists them, and leaves annotations out of the page's text.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pypdfium2
from pypdfium2 import raw

_NOT_SHOWN: Final = frozenset((raw.FPDF_ANNOT_LINK, raw.FPDF_ANNOT_POPUP))
_HIDDEN_FLAGS: Final = raw.FPDF_ANNOT_FLAG_HIDDEN | raw.FPDF_ANNOT_FLAG_NOVIEW
_PASSWORD_FLAG: Final = 1 << 13
_MOST_ANNOTATIONS: Final = 5000
_MOST_OPTIONS: Final = 200
_MOST_BYTES: Final = 200_000
_TAG: Final = re.compile(r"<[^>]*>")
_ON_OFF: Final = frozenset(("", "yes", "no", "on", "off", "1", "0", "true", "false", "x"))
_BOXES: Final = (raw.FPDF_FORMFIELD_CHECKBOX, raw.FPDF_FORMFIELD_RADIOBUTTON)
_CHOICES: Final = (raw.FPDF_FORMFIELD_COMBOBOX, raw.FPDF_FORMFIELD_LISTBOX)


def flatten(pdf: pypdfium2.PdfDocument, index: int) -> tuple[list[str], bool]:
    """Make the shown annotations of page `index` (from 0) part of its content. Load the page after this call.

    Returns the values of its form fields, and whether an annotation has a text that PDFium does not draw.
    """
    values: list[str] = []
    is_incomplete = False
    page = pdf[index]
    try:
        count = min(raw.FPDFPage_GetAnnotCount(page), _MOST_ANNOTATIONS)
        has_shown = False
        for position in range(count):
            with _annotation(page, position) as annotation:
                kind = raw.FPDFAnnot_GetSubtype(annotation)
                if kind in _NOT_SHOWN or raw.FPDFAnnot_GetFlags(annotation) & _HIDDEN_FLAGS:
                    continue
                has_shown = True
                if kind == raw.FPDF_ANNOT_WIDGET:
                    values += _values(pdf, annotation)
                elif kind == raw.FPDF_ANNOT_FREETEXT and not raw.FPDFAnnot_HasKey(annotation, b"AP"):
                    values.append(_plain(_string(annotation, b"Contents") or _string(annotation, b"RC")))
                    is_incomplete = True
        if has_shown:
            raw.FPDFPage_Flatten(page, raw.FLAT_NORMALDISPLAY)
    finally:
        page.close()
    return [value for value in values if value.strip()], is_incomplete


def with_values(text: str, values: list[str]) -> str:
    """The page's text, and those values that are not in it."""
    known = "".join(text.split())
    missing = [value for value in dict.fromkeys(values) if "".join(value.split()) not in known]
    return "\n".join([text, *missing]) if text else "\n".join(missing)


@contextmanager
def _annotation(page: pypdfium2.PdfPage, position: int) -> Iterator[Any]:
    annotation = raw.FPDFPage_GetAnnot(page, position)
    try:
        yield annotation
    finally:
        raw.FPDFPage_CloseAnnot(annotation)


def _values(pdf: pypdfium2.PdfDocument, annotation: Any) -> list[str]:
    """What a field says: its text, the chosen options, the name of a box that is checked."""
    form = pdf.formenv
    if form is None:
        return [_plain(_string(annotation, b"V") or _string(annotation, b"RV"))]
    kind = raw.FPDFAnnot_GetFormFieldType(form, annotation)
    if kind in _BOXES:
        if not raw.FPDFAnnot_IsChecked(form, annotation):
            return []
        said = _read(lambda *to: raw.FPDFAnnot_GetFormFieldExportValue(form, annotation, *to))
        label = _read(lambda *to: raw.FPDFAnnot_GetFormFieldAlternateName(form, annotation, *to))
        return [label, "" if said.lower() in _ON_OFF else said]
    if kind in _CHOICES:
        count = min(max(raw.FPDFAnnot_GetOptionCount(form, annotation), 0), _MOST_OPTIONS)
        chosen = [n for n in range(count) if raw.FPDFAnnot_IsOptionSelected(form, annotation, n)]
        labels = [_read(lambda *to, n=n: raw.FPDFAnnot_GetOptionLabel(form, annotation, n, *to)) for n in chosen]
        if labels:
            return labels
    elif kind != raw.FPDF_FORMFIELD_TEXTFIELD:
        return []
    if raw.FPDFAnnot_GetFormFieldFlags(form, annotation) & _PASSWORD_FLAG:
        return []
    value = _read(lambda *to: raw.FPDFAnnot_GetFormFieldValue(form, annotation, *to))
    return [_plain(value or _string(annotation, b"V") or _string(annotation, b"RV"))]


def _string(annotation: Any, key: bytes) -> str:
    return _read(lambda *to: raw.FPDFAnnot_GetStringValue(annotation, key, *to))


def _read(call: Callable[[Any, int], int]) -> str:
    """The text that a function of PDFium writes as UTF-16 to a buffer and ends with a NUL."""
    size = call(None, 0)
    if not 2 < size <= _MOST_BYTES:
        return ""
    buffer = ctypes.create_string_buffer(size)
    call(ctypes.cast(buffer, ctypes.POINTER(raw.FPDF_WCHAR)), size)
    return buffer.raw[: size - 2].decode("utf-16-le", "ignore")


def _plain(text: str) -> str:
    """Rich text is XHTML."""
    return " ".join(_TAG.sub(" ", text).split()) if text.lstrip().startswith(("<?xml", "<body")) else text
