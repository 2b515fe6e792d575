"""Boxes of words from a PDF's text layer, compared with the ink of the rendered page."""

from __future__ import annotations

import io
from contextlib import closing

import numpy as np
import pypdfium2
import pytest
from fpdf import FPDF

from ingestion.words.boxes import SCALE, Word
from workers.rendering.page_words import page_words

WIDTH_PT, HEIGHT_PT = 300, 400


def a_page(rotation: int = 0, *, is_cropped: bool = False, turned_text: bool = False) -> pypdfium2.PdfPage:
    pdf = FPDF(unit="pt", format=(WIDTH_PT, HEIGHT_PT))
    pdf.set_font("helvetica", size=20)
    pdf.add_page()
    pdf.text(40, 100, "torque")
    if turned_text:
        with pdf.rotation(90, 200, 300):
            pdf.text(200, 300, "sideways")
    page = pypdfium2.PdfDocument(io.BytesIO(bytes(pdf.output())))[0]
    page.set_rotation(rotation)
    if is_cropped:
        page.set_cropbox(20, 200, 250, 380)
    return page


def words_on(page: pypdfium2.PdfPage, max_chars: int = 1000) -> list[Word]:
    with closing(page.get_textpage()) as textpage:
        return page_words(page, textpage, max_chars)


def ink_outside(page: pypdfium2.PdfPage, words: list[Word], slack_px: int = 3) -> tuple[int, int]:
    """Dark pixels outside of all boxes, and the pixels inside of them."""
    picture = np.asarray(page.render(scale=2).to_pil().convert("L")) < 128
    inside = np.zeros_like(picture)
    height_px, width_px = picture.shape
    for word in words:
        left, top, right, bottom = (side / SCALE for side in word.box)
        rows = slice(max(0, int(top * height_px) - slack_px), int(bottom * height_px) + slack_px)
        inside[rows, max(0, int(left * width_px) - slack_px) : int(right * width_px) + slack_px] = True
    return int((picture & ~inside).sum()), int(inside.sum())


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("is_cropped", [False, True])
def test_boxes_lie_around_the_ink_however_the_page_is_turned_and_cropped(rotation: int, is_cropped: bool) -> None:
    page = a_page(rotation, is_cropped=is_cropped)
    words = words_on(page)
    assert [word.text for word in words] == ["torque"]
    outside, inside = ink_outside(page, words)
    assert (outside, inside < 10_000) == (0, True)


def test_text_that_runs_upwards_has_its_box() -> None:
    page = a_page(turned_text=True)
    words = words_on(page)
    assert sorted(word.text for word in words) == ["sideways", "torque"]
    assert ink_outside(page, words)[0] == 0
    box = next(word.box for word in words if word.text == "sideways")
    assert (box[3] - box[1]) * HEIGHT_PT > (box[2] - box[0]) * WIDTH_PT


def test_words_outside_of_the_page_are_left_out() -> None:
    page = a_page()
    page.set_cropbox(0, 0, 300, 100)
    assert words_on(page) == []


def test_the_text_is_cut_at_its_limit() -> None:
    assert [word.text for word in words_on(a_page(), 3)] == ["tor"]
