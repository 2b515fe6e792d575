"""Uploaded pictures and office files become pages: on real stores, with Pillow's children and LibreOffice."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pypdfium2
import pytest
from PIL import Image

from ingestion.bootstrap import Services
from ingestion.errors import ConversionFailed, TooManyPages
from ingestion.formats.media_types import MediaType
from ingestion.model import Document, DocumentState, converted_key, document_prefix, vectors_key
from ingestion.settings import ConversionSettings
from tests.support.libreoffice import needs_libreoffice
from tests.support.pipelines import ScriptedEmbedder, job, pipeline, read, submitted_again
from tests.support.uploaded_files import docx, picture
from workers.conversion.converter import FileConverter
from workers.conversion.soffice import LibreOffice
from workers.wiring import remover_of

_PAGES = 20


def converter(*, pages: int = _PAGES, **chosen: object) -> FileConverter:
    settings = ConversionSettings(**chosen)
    return FileConverter(settings, LibreOffice(settings, most_pages=pages), most_pages=pages, page_px=16_000_000)


async def uploaded(services: Services, path: Path, content: bytes) -> Document:
    path.write_bytes(content)
    return await submitted_again(services, path)


async def ingested(services: Services, document: Document, files: FileConverter | None) -> Document:
    await replace(pipeline(services, ScriptedEmbedder()), converter=files).run(job(document))
    return await read(services, document)


class NoConverter:
    async def convert(self, source: Path, media_type: str, target: Path, *, caller: str = "") -> None:
        raise AssertionError("the document has been converted before")


async def test_a_tiff_becomes_pages_once_and_its_objects_go_with_it(services: Services, tmp_path: Path) -> None:
    content = picture("page", "TIFF", size=(300, 200), pages=3)
    document = await uploaded(services, tmp_path / "scan.tif", content)
    assert (document.media_type, document.pages) == (MediaType.TIFF, 0)
    embedder = ScriptedEmbedder()
    embedder.fail_once_at = 2
    first = replace(pipeline(services, embedder), converter=converter())
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Exception, match="scripted"):
        patch.setattr("ingestion.retrying.ATTEMPTS", 1)
        await first.run(job(document))
    ready = await ingested(services, document, NoConverter())  # type: ignore[arg-type]
    assert (ready.state, ready.pages, ready.pages_done) == (DocumentState.READY, 3, 3)
    keys = set(await services.blobs.list_keys(document_prefix(document.id)))
    assert {document.object_key, converted_key(document.id), vectors_key(document.id, 3)} <= keys
    assert await services.blobs.get(document.object_key) == content
    await remover_of(services).delete_document(document.id)
    assert await services.blobs.list_keys(document_prefix(document.id)) == []


@needs_libreoffice
async def test_a_docx_is_converted_rendered_and_has_its_text(services: Services, tmp_path: Path) -> None:
    document = await uploaded(services, tmp_path / "letter.docx", docx("The quokka eats leaves."))
    ready = await ingested(services, document, converter())
    assert (ready.state, ready.pages, ready.error) == (DocumentState.READY, 1, None)
    pages = await services.documents.pages_by_key([document.page_key(1)], with_text=True)
    assert "quokka" in pages[document.page_key(1)].text


async def test_without_libreoffice_a_docx_fails_and_the_error_says_what_to_install(
    services: Services, tmp_path: Path
) -> None:
    document = await uploaded(services, tmp_path / "letter.docx", docx("Hello"))
    failed = await ingested(services, document, converter(soffice_path="no-such-soffice"))
    assert failed.state is DocumentState.FAILED and failed.error is not None
    assert (failed.error.code, failed.error.stage) == ("converter_missing", "convert")
    assert "apt-get install" in failed.error.message


@pytest.mark.parametrize(
    ("image_format", "pages"), [("PNG", 1), ("JPEG", 1), ("WEBP", 1), ("GIF", 1), ("BMP", 1), ("TIFF", 4)]
)
async def test_pictures_keep_their_pixels(tmp_path: Path, image_format: str, pages: int) -> None:
    source, target = tmp_path / "source", tmp_path / "converted.pdf"
    source.write_bytes(picture("x", image_format, size=(400, 200), pages=pages))
    await converter().convert(source, MediaType[image_format], target)
    with pypdfium2.PdfDocument(target) as pdf:
        assert len(pdf) == pages
        width_pt, height_pt = pdf[pages - 1].get_size()
    assert (round(width_pt * 200 / 72), round(height_pt * 200 / 72)) == (400, 200)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK", "I", "F"])
async def test_pictures_of_all_modes_are_converted(tmp_path: Path, mode: str) -> None:
    source, target = tmp_path / "source", tmp_path / "converted.pdf"
    Image.open(io.BytesIO(picture("x", size=(400, 200)))).convert(mode).save(source, "TIFF")
    await converter().convert(source, MediaType.TIFF, target)
    with pypdfium2.PdfDocument(target) as pdf:
        assert len(pdf) == 1
        darkest, lightest = pdf[0].render().to_pil().convert("L").getextrema()
        assert darkest < 64 and lightest == 255


async def test_a_picture_beyond_its_limits_fails_and_the_next_one_is_converted(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "converted.pdf"
    one = converter(max_picture_px=100_000, pages=2)
    source.write_bytes(picture("x", "PNG", size=(400, 300)))
    with pytest.raises(ConversionFailed, match="400 x 300 px; PAGEMILL_MAX_PICTURE_PX allows 100000"):
        await one.convert(source, MediaType.PNG, target)
    source.write_bytes(picture("x", "TIFF", size=(40, 30), pages=3))
    with pytest.raises(TooManyPages, match="more pages than the 2"):
        await one.convert(source, MediaType.TIFF, target)
    source.write_bytes(picture("x", "PNG", size=(400, 300))[:200])
    with pytest.raises(ConversionFailed, match="damaged"):
        await converter().convert(source, MediaType.PNG, target)
    source.write_bytes(picture("x", "PNG", size=(40, 30)))
    await one.convert(source, MediaType.PNG, target)
    assert target.read_bytes().startswith(b"%PDF")
