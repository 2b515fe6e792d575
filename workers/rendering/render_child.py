"""Code of a render child: renders pages of a PDF, extracts their texts and encodes their images.

The input is hostile: this process may be killed or crash at any line. It imports neither numpy nor a client of any
server, so that a new child starts fast.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Final, Literal

import pypdfium2
from PIL import Image

from ingestion.sandbox.child import programs_cpu_s
from ingestion.words.boxes import encode_words
from workers.rendering.annotations import flatten, with_values
from workers.rendering.dpi import POINTS_PER_INCH, PagePlan
from workers.rendering.huge_pictures import has_cut_picture
from workers.rendering.image_encoding import ImageFormat, encode_image, to_greyscale
from workers.rendering.ink import Letters, doubtful_letters, has_ink
from workers.rendering.page_text import has_text_objects, text_layer, vertical_text
from workers.rendering.page_words import page_words
from workers.rendering.pdf_cache import open_cached
from workers.rendering.poppler import PageNotRendered, page_text, render_range
from workers.rendering.unwanted import UNWANTED

Engine = Literal["poppler", "pdfium"]

STAGES: Final = ("render", "text", "encode")

_BATCH_PX: Final = 32_000_000
"""Most pixels of one call of poppler, at three bytes each. A larger page is rendered alone."""


@dataclass(frozen=True, slots=True)
class RenderRequest:
    """Consecutive pages of the PDF at `path` to render with `engine`."""

    path: str
    pages: tuple[PagePlan, ...]
    engine: Engine
    image_format: ImageFormat | Literal["auto"]
    image_quality: int
    max_text_chars: int
    with_pixels: bool


@dataclass(frozen=True, slots=True)
class RenderedPage:
    """`image` is the encoded image. `pixels` is the raw image, or None unless the request asked for it.

    Raw RGB images are (height, width, 3) bytes. Raw images of pages without colour are (height, width) bytes.
    """

    width_px: int
    height_px: int
    image: bytes
    image_format: ImageFormat
    text: str
    pixels: bytes | None
    is_blank: bool = False
    """The image has one colour."""
    is_incomplete: bool = False
    """The engine is known not to draw all of the page."""
    is_text_cut: bool = False
    undrawn: str = ""
    """Letters of fonts that are not in the file, without ink in the image: see `ink.Letters`."""
    substituted: str = ""
    """Letters of fonts that are not in the file, with ink in the image."""
    words: bytes = b""
    """The words of the text layer with their boxes: `ingestion.words.boxes`."""


@dataclass(frozen=True, slots=True)
class RenderResult:
    """Answer to a request. Each page number is either in `pages`, or in `refused` with the cause."""

    pages: dict[int, RenderedPage] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    """CPU seconds by stage, including poppler's processes."""

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        before_s = _cpu_s()
        try:
            yield
        finally:
            self.cpu_s[stage] += _cpu_s() - before_s


def render_pages(request: RenderRequest) -> RenderResult:
    """Render the pages of `request`. Pages that cannot be rendered are in `refused` of the result.

    Raises PdfiumError if the file does not open.
    """
    Image.MAX_IMAGE_PIXELS = None  # Pillow's limit is off: `_check_size` compares each image with its plan.
    result = RenderResult()
    with result.timed("render"):
        pdf = open_cached(request.path)
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
    """Yields the pages of each call: one page for PDFium; pages of equal DPI, up to _BATCH_PX, for poppler."""
    batch: list[PagePlan] = []
    for plan in request.pages:
        fits = request.engine == "poppler" and sum(p.pixels for p in batch) + plan.pixels <= _BATCH_PX
        if batch and (plan.dpi != batch[0].dpi or not fits):
            yield batch
            batch = []
        batch.append(plan)
    if batch:
        yield batch


@dataclass(slots=True)
class _Content:
    """What is known of a page besides its image."""

    text: str = ""
    letters: Letters = field(default_factory=Letters)
    is_incomplete: bool = False
    words: bytes = b""


def _render_with_pdfium(
    pdf: pypdfium2.PdfDocument, request: RenderRequest, plan: PagePlan, result: RenderResult
) -> None:
    with result.timed("render"):
        _check_loads(pdf, [plan])
        values, is_incomplete = flatten(pdf, plan.number - 1)
        page = pdf[plan.number - 1]
    with closing(page):
        with result.timed("render"):
            # Four bytes a pixel, the last one unused: Pillow wraps this layout without a copy.
            bitmap = page.render(scale=plan.dpi / POINTS_PER_INCH, rev_byteorder=True, prefer_bgrx=True)
            image = bitmap.to_pil()
            _check_size(image, plan)
        with result.timed("text"):
            content = _content(page, plan.number, request, image, values)
            content.is_incomplete = is_incomplete or has_cut_picture(page)
    _keep(image, plan.number, content, request, result)


def _render_with_poppler(
    pdf: pypdfium2.PdfDocument, request: RenderRequest, batch: Sequence[PagePlan], result: RenderResult
) -> None:
    with result.timed("render"):
        _check_loads(pdf, batch)
        images = render_range(request.path, batch[0].number, batch[-1].number, batch[0].dpi)
        for image, plan in zip(images, batch, strict=True):
            _check_size(image, plan)
    for image, plan in zip(images, batch, strict=True):
        with result.timed("text"):
            content = _content_by_pdfium(pdf, plan.number, request, image)
            if not content.text and has_ink(image):
                content.text = UNWANTED.sub("", page_text(request.path, plan.number)).strip()
        _keep(image, plan.number, content, request, result)


def _keep(image: Image.Image, number: int, content: _Content, request: RenderRequest, result: RenderResult) -> None:
    with result.timed("encode"):
        output = to_greyscale(image) or image
        encoded, image_format = encode_image(output, request.image_format, request.image_quality)
        pixels = None
        if request.with_pixels:
            pixels = (output if output.mode == "L" else output.convert("RGB")).tobytes()
        is_blank = not has_ink(output)
    result.pages[number] = RenderedPage(
        image.width,
        image.height,
        encoded,
        image_format,
        content.text[: request.max_text_chars],
        pixels,
        is_blank=is_blank,
        is_incomplete=content.is_incomplete,
        is_text_cut=len(content.text) > request.max_text_chars,
        undrawn=content.letters.undrawn,
        substituted=content.letters.substituted,
        words=content.words,
    )


def _check_loads(pdf: pypdfium2.PdfDocument, batch: Sequence[PagePlan]) -> None:
    """Raises PageNotRendered if a page is missing from the page tree.

    Poppler would skip the page and return the image of the next page for its number.
    """
    for plan in batch:
        try:
            pdf.get_page_size(plan.number - 1)
        except pypdfium2.PdfiumError as error:
            raise PageNotRendered(f"page {plan.number} is missing or damaged") from error


def _check_size(image: Image.Image, plan: PagePlan) -> None:
    """Raises PageNotRendered if the size differs from the plan by more than one pixel.

    An engine may report success with an image of 1 x 1 px. Engines round sizes differently, by up to one pixel.
    """
    if abs(image.width - plan.width_px) > 1 or abs(image.height - plan.height_px) > 1:
        raise PageNotRendered(
            f"the image has {image.width} x {image.height} px instead of {plan.width_px} x {plan.height_px} px"
        )


def _content_by_pdfium(
    pdf: pypdfium2.PdfDocument, number: int, request: RenderRequest, image: Image.Image
) -> _Content:
    """The text that PDFium reads, for an image of another engine. Nothing if PDFium cannot load the page."""
    try:
        values, _ = flatten(pdf, number - 1)
        with closing(pdf[number - 1]) as page:
            return _content(page, number, request, image, values)
    except pypdfium2.PdfiumError:
        return _Content()


def _content(
    page: pypdfium2.PdfPage, number: int, request: RenderRequest, image: Image.Image, values: list[str]
) -> _Content:
    try:
        textpage = page.get_textpage()
    except pypdfium2.PdfiumError:
        return _Content(with_values("", values))
    with closing(textpage):
        text = text_layer(textpage)
        letters = doubtful_letters(page, textpage, text, image)
        words = encode_words(page_words(page, textpage, request.max_text_chars))
    if not text and has_text_objects(page):
        text = vertical_text(request.path, number)
        letters = Letters(undrawn=text if not has_ink(image) else "")
    return _Content(with_values(text, values), letters, words=words)


def _cpu_s() -> float:
    """CPU seconds of this process and of the programs that its parent ran for it."""
    # A child has one thread. With a CPU limit, Linux counts process time in ticks, but thread time exactly.
    return time.thread_time() + programs_cpu_s()
