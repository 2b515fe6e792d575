"""Rendering of good and hostile files with both engines, in real child processes."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from ingestion import metrics
from ingestion.errors import (
    ChildStalled,
    CorruptPdf,
    EncryptedPdf,
    PageRenderFailed,
    PermanentError,
    RendererMissing,
    RenderTimeout,
    TooManyPages,
)
from ingestion.model import Note, Page
from ingestion.sandbox.pool import Sandbox
from ingestion.settings import RenderSettings
from ingestion.words.boxes import decode_words
from tests.support import pdfs
from tests.support.waiting import wait_until
from workers.rendering import poppler
from workers.rendering.dpi import PagePlan, plan_page
from workers.rendering.lanes import Lanes
from workers.rendering.page_source import PdfPageSource
from workers.rendering.render_child import RenderRequest, render_pages
from workers.rendering.renderer import PdfRenderer, engines

needs_poppler = pytest.mark.skipif(not poppler.is_installed(), reason="poppler is not installed")

Store = Callable[[bytes], Path]


@pytest.fixture
def stored(tmp_path: Path) -> Store:
    def store(content: bytes) -> Path:
        path = tmp_path / "source.pdf"
        path.write_bytes(content)
        return path

    return store


@pytest.fixture(params=[pytest.param("poppler", marks=needs_poppler), "pdfium"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs the test with each engine, without the other engine as fallback."""
    name = str(request.param)
    monkeypatch.setattr("workers.rendering.renderer.engines", lambda renderer: (name,))
    return name


def renderer(engine: str = "auto", **settings: Any) -> PdfRenderer:
    """Returns a renderer with 72 DPI, one pixel per point, unless `settings` change it."""
    chosen: dict[str, Any] = {"renderer": engine, "dpi_policy": "fixed", "fixed_dpi": 72, **settings}
    return PdfRenderer(RenderSettings(**chosen), max_pages=60)


async def windows_of(
    renderer: PdfRenderer, path: Path, *, first_page: int = 1, pixels: bool = False
) -> list[list[Page]]:
    source = await renderer.open(path, pixels=pixels)
    return [window async for window in source.windows(first_page)]


async def pages_of(renderer: PdfRenderer, path: Path, *, pixels: bool = False) -> list[Page]:
    return [page for window in await windows_of(renderer, path, pixels=pixels) for page in window]


def image_of(page: Page) -> Image.Image:
    return Image.open(io.BytesIO(page.image))


def processes_on(path: Path) -> list[psutil.Process]:
    """Processes with the file among their arguments, such as poppler's."""
    return [p for p in psutil.process_iter(["cmdline"]) if str(path) in (p.info["cmdline"] or [])]


async def test_pages_come_in_order_with_their_images_and_texts(engine: str, stored: Store) -> None:
    windows = await windows_of(renderer(engine, render_window_pages=2), stored(pdfs.numbered_pdf(5)))
    assert [[page.page_number for page in window] for window in windows] == [[1, 2], [3, 4], [5]]
    pages = [page for window in windows for page in window]
    assert [page.text for page in pages] == [f"This is page {number}." for number in range(1, 6)]
    assert [[word.text for word in decode_words(page.words)] for page in pages] == [
        ["This", "is", "page", str(number)] for number in range(1, 6)
    ]
    assert {(page.width_px, page.height_px) for page in pages} == {(595, 842)}
    assert {(image_of(page).format, image_of(page).size) for page in pages} == {("PNG", (595, 842))}
    assert len({page.image for page in pages}) == 5


async def test_rendering_resumes_at_any_page(stored: Store) -> None:
    windows = await windows_of(renderer(render_window_pages=2), stored(pdfs.numbered_pdf(5)), first_page=4)
    assert [[page.page_number for page in window] for window in windows] == [[4, 5]]
    assert windows[0][0].text == "This is page 4."


async def test_pixels_equal_the_image_and_come_only_when_requested(engine: str, stored: Store) -> None:
    pdf_renderer = renderer(engine, image_format="png")
    path = stored(pdfs.picture_pdf())
    [page] = await pages_of(pdf_renderer, path, pixels=True)
    assert page.pixels is not None
    assert page.pixels.dtype == np.uint8
    assert np.array_equal(page.pixels, np.asarray(image_of(page)))
    assert page.pixels[600, 200].tolist() == [51, 102, 204], "rendered in RGB order"
    assert page.text == ""
    [page] = await pages_of(pdf_renderer, path)
    assert page.pixels is None


@pytest.mark.parametrize(("image_format", "kind"), [("webp", "WEBP"), ("png", "PNG"), ("jpeg", "JPEG")])
async def test_images_have_the_format_of_the_settings(image_format: str, kind: str, stored: Store) -> None:
    [page] = await pages_of(renderer(image_format=image_format), stored(pdfs.text_pdf("hello")))
    assert image_of(page).format == kind


async def test_grey_text_is_lossless_and_other_pages_are_jpeg(engine: str, stored: Store) -> None:
    path = stored(pdfs.make_pdf([pdfs.text_page("black"), pdfs.coloured_page(), pdfs.noise_page()]))
    text, coloured, noise = await pages_of(renderer(engine), path, pixels=True)
    assert [page.image_format for page in (text, coloured, noise)] == ["png", "jpeg", "jpeg"]
    assert [image_of(page).format for page in (text, coloured, noise)] == ["PNG", "JPEG", "JPEG"]
    assert text.pixels is not None
    assert np.array_equal(np.asarray(image_of(text).convert("RGB")), text.pixels)


async def test_pages_are_rendered_in_the_planned_size(engine: str, stored: Store) -> None:
    plans = [
        (pdfs.text_page("plain"), (1190, 1684)),
        (pdfs.text_page("rotated", entries="/Rotate 90"), (1684, 1190)),
        (pdfs.text_page("cropped", entries="/CropBox [30 600 230 900] /Rotate 270"), (484, 400)),
        (pdfs.text_page("user unit", entries="/UserUnit 10"), (1218, 1723)),
        (pdfs.text_page("dot", size_pt=(0.01, 0.01)), (1, 1)),
        (pdfs.text_page("poster", size_pt=(14_400, 14_400)), (1449, 1449)),
        (pdfs.text_page("country", size_pt=(1e9, 1e9)), (1449, 1449)),
        (pdfs.text_page("mile", size_pt=(1e9, 1)), (16_382, 1)),
    ]
    path = stored(pdfs.make_pdf([page for page, _ in plans]))
    rendered = await pages_of(renderer(engine, fixed_dpi=144, max_page_px=2_100_000), path)
    for page, (_, size_px) in zip(rendered, plans, strict=True):
        assert (page.width_px, page.height_px) == pytest.approx(size_px, abs=1)
        assert image_of(page).size == (page.width_px, page.height_px)
    assert [page.text for page in rendered[:4]] == ["plain", "rotated", "cropped", "user unit"]


async def test_the_dpi_policy_depends_on_the_number_of_pages(stored: Store) -> None:
    pdf_renderer = renderer(dpi_policy="two-tier")
    assert (await pdf_renderer.open(stored(pdfs.numbered_pdf(49)), pixels=False)).dpi == 200
    source = await pdf_renderer.open(stored(pdfs.numbered_pdf(50)), pixels=False)
    assert (source.dpi, source.pages) == (150, 50)


async def test_text_is_truncated_and_loses_characters_that_cannot_be_stored(stored: Store) -> None:
    path = stored(pdfs.make_pdf([pdfs.strange_characters_page(), pdfs.text_page("word " * 100)]))
    strange, long = await pages_of(renderer(max_text_chars=50), path)
    assert strange.text == "ab"
    assert long.text == ("word " * 10)


async def test_equal_pages_are_rendered_as_they_are(engine: str, stored: Store) -> None:
    pages = await pages_of(renderer(engine), stored(pdfs.text_pdf("same", "same", "same")))
    assert [page.text for page in pages] == ["same"] * 3
    assert len({page.image for page in pages}) == 1


async def test_a_page_that_one_engine_cannot_render_is_rendered_by_the_other(stored: Store) -> None:
    # Poppler stops at such a page, exits with 0, and returns the image of page 1 for this page and all later ones.
    texts = ["first", "second", "third"]
    odd = [pdfs.text_page(text, entries="/Annots 42" if text == "second" else "") for text in texts]
    expected = await pages_of(renderer("pdfium"), stored(pdfs.text_pdf(*texts)))
    pages = await pages_of(renderer("auto"), stored(pdfs.make_pdf(odd)))
    assert [page.text for page in pages] == texts
    assert [page.image for page in pages[1:]] == [page.image for page in expected[1:]]


@pytest.mark.parametrize("first", [pytest.param("poppler", marks=needs_poppler), "pdfium"])
async def test_a_broken_page_is_white_and_named_and_the_others_are_rendered(first: str, stored: Store) -> None:
    pages = await pages_of(renderer(first, render_window_pages=2), stored(pdfs.broken_page_pdf(5, broken=4)))
    assert [page.text for page in pages] == [*(f"This is page {n}." for n in (1, 2, 3)), "", "This is page 5."]
    assert [page.notes for page in pages if page.notes] == [(Note("damaged_page", "", (4,), 1),)]
    assert image_of(pages[3]).getextrema() == (255, 255)


@needs_poppler
async def test_few_blank_pages_of_a_document_are_tried_with_the_other_engine(stored: Store) -> None:
    path = stored(pdfs.make_pdf([pdfs.RawPage(b"")] * 40))
    source = await renderer("pdfium", render_window_pages=8).open(path, pixels=False)
    assert sum([len(window) async for window in source.windows(1)]) == 40
    assert source.render_calls == 5 + 8, "five windows, then eight pages with poppler"


@needs_poppler
async def test_blank_pages_that_the_other_engine_fails_on_are_limited_too(
    stored: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    async def fail(self: PdfPageSource, plan: PagePlan, engines: object) -> None:
        tried.append(plan.number)
        raise RenderTimeout(f"page {plan.number}")

    monkeypatch.setattr(PdfPageSource, "_render_alone", fail)
    assert len(await pages_of(renderer("pdfium"), stored(pdfs.make_pdf([pdfs.RawPage(b"")] * 40)))) == 40
    assert len(tried) == 8


async def test_the_media_box_stands_in_for_an_empty_crop_box(stored: Store) -> None:
    nowhere = pdfs.text_page("x", entries="/CropBox [2000 2000 3000 3000]")
    [page] = await pages_of(renderer(), stored(pdfs.make_pdf([nowhere])))
    assert (page.width_px, page.height_px, page.text) == (595, 842, "x")


async def test_a_page_that_needs_too_much_memory_is_named(stored: Store) -> None:
    ordinary, huge = pdfs.text_page("x"), pdfs.text_page("x", size_pt=(14_400, 14_400))
    pdf_renderer = renderer(render_memory_bytes=450 * 1024**2, max_page_px=200_000_000)
    with pytest.raises(PageRenderFailed, match="page 2 "):
        await pages_of(pdf_renderer, stored(pdfs.make_pdf([ordinary, huge, ordinary])))


async def test_an_ordinary_document_is_rendered_in_short_tries(
    engine: str, stored: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This includes the first document of a worker, whose children have not rendered before."""
    monkeypatch.delattr(Lanes, "long_try")
    assert len(await pages_of(renderer(engine), stored(pdfs.numbered_pdf(9)))) == 9


async def test_a_bomb_behind_a_harmless_first_page_is_named(stored: Store) -> None:
    pdf_renderer = renderer(render_memory_bytes=512 * 1024**2, render_timeout_s=20)
    with pytest.raises(PageRenderFailed, match=r"page 2 .*pdfium: .*died"):
        await pages_of(pdf_renderer, stored(pdfs.form_cycle_pdf(pages=2)))


async def test_a_page_that_takes_too_long_is_named_and_leaves_no_process(stored: Store) -> None:
    path = stored(pdfs.make_pdf([pdfs.text_page("quick"), pdfs.slow_page()]))
    with pytest.raises(RenderTimeout, match=r"page 2 .* not done within 1 s"):
        await pages_of(renderer(render_timeout_s=1), path)
    wait_until(lambda: not processes_on(path), 10)


async def test_a_page_is_not_blamed_where_its_child_gets_no_cpu_time(
    stored: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = await renderer().open(stored(pdfs.make_pdf([pdfs.text_page("quick"), pdfs.slow_page()])), pixels=False)
    monkeypatch.setattr("workers.rendering.page_source.WALL_FACTOR", 0.002)
    with pytest.raises(ChildStalled):
        async for _ in source.windows(1):
            pass


@needs_poppler
async def test_poppler_dies_with_the_child_that_runs_it(stored: Store) -> None:
    path = stored(pdfs.make_pdf([pdfs.slow_page()]))
    request = RenderRequest(str(path), (plan_page(1, *pdfs.A4_PT, 200, 10**7),), "poppler", "webp", 85, 1000, False)
    sandbox = Sandbox(processes=1, memory_bytes=2 * 1024**3)
    call = sandbox.run(render_pages, request, timeout_s=60, file=path, programs=poppler.programs(str(path)))
    result = asyncio.create_task(call)
    await asyncio.to_thread(wait_until, lambda: [p for p in processes_on(path) if p.name() == "pdftoppm"], 20)
    result.cancel()
    with pytest.raises(asyncio.CancelledError):
        await result
    await asyncio.to_thread(wait_until, lambda: not processes_on(path), 10)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        pytest.param(pdfs.encrypted_pdf("x"), EncryptedPdf, id="encrypted"),
        pytest.param(pdfs.truncated_pdf()[:200], CorruptPdf, id="cut off"),
        pytest.param(pdfs.numbered_pdf(61), TooManyPages, id="too many pages"),
    ],
)
async def test_files_that_cannot_be_rendered_are_refused_at_once(
    content: bytes, error: type[PermanentError], stored: Store
) -> None:
    with pytest.raises(error):
        await renderer().open(stored(content), pixels=False)


async def test_an_encrypted_file_without_user_password_is_rendered(engine: str, stored: Store) -> None:
    [page] = await pages_of(renderer(engine), stored(pdfs.encrypted_pdf("readable", user_password="")))
    assert page.text == "readable"


async def test_cpu_time_is_counted_by_stage(stored: Store) -> None:
    stages = [metrics.STAGE_CPU.labels(stage) for stage in ("render", "text", "encode")]
    before_s = [stage._value.get() for stage in stages]
    await pages_of(renderer(fixed_dpi=200), stored(pdfs.text_pdf("word " * 500)))
    assert all(stage._value.get() > before for stage, before in zip(stages, before_s, strict=True))


async def test_without_poppler_pdfium_renders_and_requiring_poppler_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stored: Store
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert engines("auto") == engines("pdfium") == ("pdfium",)
    with pytest.raises(RendererMissing, match="apt-get install poppler-utils"):
        renderer("poppler")
    [page] = await pages_of(renderer("auto"), stored(pdfs.text_pdf("hello")))
    assert page.text == "hello"


@needs_poppler
def test_pdfium_is_first_unless_poppler_is_chosen_and_the_other_engine_is_the_fallback() -> None:
    assert engines("poppler") == ("poppler", "pdfium")
    assert engines("auto") == engines("pdfium") == ("pdfium", "poppler")
