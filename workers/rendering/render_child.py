"""What happens inside a render child: some pages of a PDF become pictures, texts and encoded images.

The input is hostile: expect this process to be killed or to die at any line. It imports neither numpy nor a client of
any server, so that a fresh child is at work soon.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Final, Literal

import pypdfium2
from PIL import Image

from ingestion.sandbox.child import programs_cpu_s
from workers.rendering.dpi import POINTS_PER_INCH, PagePlan
from workers.rendering.image_encoding import ImageFormat, encode_image, to_greyscale
from workers.rendering.pdf_cache import open_cached
from workers.rendering.poppler import PageNotRendered, render_range

Engine = Literal["poppler", "pdfium"]

STAGES: Final = ("render", "text", "encode")

_BATCH_PX: Final = 32_000_000
"""Pixels that one call of poppler may return, three bytes each; a larger page is drawn by itself."""

# Control characters, which databases and terminals choke on, and U+FFFE, which PDFium writes for a hyphen that only
# breaks a line. Lone surrogates do not get this far: decoding PDFium's UTF-16 drops them.
UNWANTED: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class RenderRequest:
    """Consecutive pages of the PDF at `path`, to be drawn by `engine`."""

    path: str
    pages: tuple[PagePlan, ...]
    engine: Engine
    image_format: ImageFormat | Literal["auto"]
    image_quality: int
    max_text_chars: int
    with_pixels: bool


@dataclass(frozen=True, slots=True)
class RenderedPage:
    """`image` is the encoded picture, `pixels` the raw one where the order asked for it: (height, width, 3) bytes of
    RGB, or (height, width) bytes where the page has no colour."""

    width_px: int
    height_px: int
    image: bytes
    image_format: ImageFormat
    text: str
    pixels: bytes | None


@dataclass(frozen=True, slots=True)
class RenderResult:
    """What became of a request: each page number is in `pages`, or in `refused` with the cause."""

    pages: dict[int, RenderedPage] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    """CPU seconds by stage, those of poppler's processes included."""

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        before_s = _cpu_s()
        try:
            yield
        finally:
            self.cpu_s[stage] += _cpu_s() - before_s


def render_pages(request: RenderRequest) -> RenderResult:
    """Carry out `request`. What cannot be drawn is refused, and the rest is drawn all the same.

    Raises PdfiumError where the file does not open.
    """
    Image.MAX_IMAGE_PIXELS = None  # The plan says how large a picture may be, and `_check_size` holds it to that.
    result = RenderResult()
    with result.timed("render"):
        pdf = open_cached(request.path, with_forms=request.engine == "pdfium")
    for batch in _batches(request):
        try:
            if request.engine == "pdfium":
                _render_with_pdfium(pdf, request, batch[0], result)
            else:
                _render_with_poppler(pdf, request, batch, result)
        except (PageNotRendered, pypdfium2.PdfiumError) as error:
            result.refused.update({plan.number: str(error) for plan in batch if plan.number not in result.pages})
    return result


def _batches(request: RenderRequest) -> Iterator[list[PagePlan]]:
    """What is drawn in one call: by PDFium a page, by poppler neighbours of one DPI, up to _BATCH_PX together."""
    batch: list[PagePlan] = []
    for plan in request.pages:
        fits = request.engine == "poppler" and sum(p.pixels for p in batch) + plan.pixels <= _BATCH_PX
        if batch and (plan.dpi != batch[0].dpi or not fits):
            yield batch
            batch = []
        batch.append(plan)
    if batch:
        yield batch


def _render_with_pdfium(
    pdf: pypdfium2.PdfDocument, request: RenderRequest, plan: PagePlan, result: RenderResult
) -> None:
    with result.timed("render"):
        _check_loads(pdf, [plan])
        page = pdf[plan.number - 1]
    with closing(page):
        with result.timed("render"):
            # Four bytes a pixel, of which the last is not used: Pillow takes over such a picture without a copy.
            bitmap = page.render(scale=plan.dpi / POINTS_PER_INCH, rev_byteorder=True, prefer_bgrx=True)
            picture = bitmap.to_pil()
            _check_size(picture, plan)
        with result.timed("text"):
            text = _text_layer(page, request.max_text_chars)
    _keep(picture, plan.number, text, request, result)


def _render_with_poppler(
    pdf: pypdfium2.PdfDocument, request: RenderRequest, batch: Sequence[PagePlan], result: RenderResult
) -> None:
    with result.timed("render"):
        _check_loads(pdf, batch)
        pictures = render_range(request.path, batch[0].number, batch[-1].number, batch[0].dpi)
        for picture, plan in zip(pictures, batch, strict=True):
            _check_size(picture, plan)
    for picture, plan in zip(pictures, batch, strict=True):
        with result.timed("text"):
            text = _text_of(pdf, plan.number, request.max_text_chars)
        _keep(picture, plan.number, text, request, result)


def _keep(picture: Image.Image, number: int, text: str, request: RenderRequest, result: RenderResult) -> None:
    with result.timed("encode"):
        plain = to_greyscale(picture) or picture
        image, image_format = encode_image(plain, request.image_format, request.image_quality)
        pixels = None
        if request.with_pixels:
            pixels = (plain if plain.mode == "L" else plain.convert("RGB")).tobytes()
    result.pages[number] = RenderedPage(picture.width, picture.height, image, image_format, text, pixels)


def _check_loads(pdf: pypdfium2.PdfDocument, batch: Sequence[PagePlan]) -> None:
    """Raises PageNotRendered for a page that is missing from the page tree.

    Poppler would leave it out and draw the next one under its number.
    """
    for plan in batch:
        try:
            pdf.get_page_size(plan.number - 1)
        except pypdfium2.PdfiumError as error:
            raise PageNotRendered(f"page {plan.number} is missing or damaged") from error


def _check_size(picture: Image.Image, plan: PagePlan) -> None:
    """Success may be reported over a picture of 1 x 1 px. Engines do not round alike, so one pixel is nothing."""
    if abs(picture.width - plan.width_px) > 1 or abs(picture.height - plan.height_px) > 1:
        raise PageNotRendered(
            f"the picture has {picture.width} x {picture.height} px instead of {plan.width_px} x {plan.height_px} px"
        )


def _text_of(pdf: pypdfium2.PdfDocument, number: int, max_chars: int) -> str:
    """As `_text_layer`, "" also where PDFium cannot load the page."""
    try:
        with closing(pdf[number - 1]) as page:
            return _text_layer(page, max_chars)
    except pypdfium2.PdfiumError:
        return ""


def _text_layer(page: pypdfium2.PdfPage, max_chars: int) -> str:
    """The page's text in the file's own order, "" where it cannot be read."""
    try:
        with closing(page.get_textpage()) as textpage:
            text = textpage.get_text_bounded()
    except pypdfium2.PdfiumError:
        return ""
    return UNWANTED.sub("", text)[:max_chars]


def _cpu_s() -> float:
    """CPU seconds of this process and of the programs that it had run."""
    # A child has one thread. Linux counts the time of a process that has a limit in ticks, that of a thread exactly.
    return time.thread_time() + programs_cpu_s()
