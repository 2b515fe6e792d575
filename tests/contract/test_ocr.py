"""Pages without a useful text layer are read from their images, in real children with real models."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ingestion.bootstrap import Services
from ingestion.model import DocumentState, Page, TextPages, TextSource
from ingestion.settings import OcrSettings
from ingestion.words.boxes import SCALE, decode_words
from tests.contract.test_conversion import converter
from tests.support.pipelines import ScriptedEmbedder, job, pipeline, read, submitted_again
from tests.support.uploaded_files import picture
from workers.ocr.reader import OcrReader
from workers.rendering.renderer import PdfRenderer

pytest.importorskip("rapidocr", reason="pip install 'pagemill[ocr]'")

_TEXT = "The quokka eats leaves\nInvoice 4711 of the harbour"


def reader(*, embeds_text: bool = True, **chosen: object) -> OcrReader:
    return OcrReader(OcrSettings(**chosen), max_chars=1000, embeds_text=embeds_text)


def page(image: bytes, text: str = "", number: int = 1) -> Page:
    return Page(number, 1240, 600, image, text)


async def test_only_pages_without_a_useful_text_are_read() -> None:
    shown, blank = picture(_TEXT), picture("")
    one = reader()
    pages = [page(shown, number=1), page(blank, number=2), page(shown, "A text of the file", 3), page(shown, "3", 4)]
    found = await one.with_text(pages, caller="c")
    assert [each.source_of_text for each in found] == [
        *(TextSource.OCR, TextSource.NONE, TextSource.FILE, TextSource.OCR)
    ]
    assert found[0].text == _TEXT
    words = decode_words(found[0].words)
    assert [word.text for word in words] == _TEXT.split()
    ink = np.asarray(Image.open(io.BytesIO(shown)).convert("L")) < 128
    height_px, width_px = ink.shape
    for word in words:
        left, top, right, bottom = (side / SCALE for side in word.box)
        inside = ink[int(top * height_px) : int(bottom * height_px), int(left * width_px) : int(right * width_px)]
        assert inside.mean() > 0.05, word
    assert found[2].words == b""
    assert found[2].text == "A text of the file"
    assert one.reads == 3


async def test_a_turned_page_is_read_and_an_unknown_script_is_not() -> None:
    upright = Image.open(io.BytesIO(picture("Turned timetable of the harbour", size=(1000, 260)))).convert("RGB")
    pictures = [upright.rotate(degrees, expand=True) for degrees in (90, 180, 270)]
    mirrored = upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT)  # letters of no script
    files = [io.BytesIO() for _ in (*pictures, mirrored)]
    for one, file in zip((*pictures, mirrored), files, strict=True):
        one.save(file, "PNG")
    pages = [page(file.getvalue(), number=number) for number, file in enumerate(files, start=1)]
    *turned, unknown = await reader().with_text(pages, caller="c")
    assert [one.text for one in turned] == ["Turned timetable of the harbour"] * 3
    assert (unknown.text, unknown.source_of_text) == ("", TextSource.NONE)
    ink = np.asarray(pictures[1].convert("L")) < 128
    for word in decode_words(turned[1].words):
        left, top, right, bottom = (side / SCALE for side in word.box)
        inside = ink[int(top * 260) : int(bottom * 260), int(left * 1000) : int(right * 1000)]
        assert inside.mean() > 0.05, word


@pytest.mark.parametrize(
    ("mode", "embeds_text", "reads"), [("off", True, 0), ("auto", False, 0), ("always", False, 1)]
)
async def test_the_mode_and_the_embedder_decide(mode: str, embeds_text: bool, reads: int) -> None:
    one = reader(ocr=mode, embeds_text=embeds_text)
    (found,) = await one.with_text([page(picture(_TEXT), "A text of the file")], caller="c")
    assert one.reads == reads
    assert ("quokka" in found.text) is bool(reads)


@pytest.mark.parametrize("limits", [{"ocr_timeout_s": 0.01}, {"ocr_memory_bytes": 200 * 1024**2}])
async def test_a_page_beyond_its_limits_stays_without_text(limits: dict[str, float]) -> None:
    (found,) = await reader(**limits).with_text([page(picture(_TEXT))], caller="c")
    assert (found.text, found.source_of_text) == ("", TextSource.NONE)


async def test_a_scan_becomes_ready_with_its_text_and_the_record_says_where_it_came_from(
    services: Services, tmp_path: Path
) -> None:
    path = tmp_path / "scan.tiff"
    path.write_bytes(picture("Quokka page", "TIFF", size=(800, 300), pages=2))
    document = await submitted_again(services, path)
    renderer = PdfRenderer(services.settings.render, max_pages=10)
    base = pipeline(services, ScriptedEmbedder())
    await replace(base, renderer=renderer, converter=converter(), reader=reader()).run(job(document))
    ready = await read(services, document)
    assert (ready.state, ready.pages) == (DocumentState.READY, 2)
    records = await services.documents.pages_by_key(ready.page_keys, with_text=True)
    assert [record.text_source for record in records.values()] == ["ocr", "ocr"]
    assert ready.text_pages == TextPages(ocr=2)
