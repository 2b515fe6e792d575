"""What happens inside a render child: some pages of a PDF become pictures, texts and encoded images.

The input is hostile: expect this process to be killed or to die at any line. It imports neither numpy nor a client of
any server, so that a fresh child is at work soon.
"""

from __future__ import annotations

import io
import re
import resource
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, Literal

import pypdfium2
from PIL import Image

from workers.dpi import POINTS_PER_INCH, PagePlan
from workers.poppler import PageRefused, draw_range

Engine = Literal["poppler", "pdfium"]

_BATCH_PX: Final = 32_000_000
"""Pixels that one call of poppler may return, three bytes each; a larger page is drawn by itself."""

_ENCODER_OPTIONS: Final[dict[str, dict[str, int]]] = {
    # On pages of text method 2 takes half the time of Pillow's default, 4, and makes files 3 % larger;
    # methods 0 and 1 take a quarter less again and make them 20 to 40 % larger.
    "webp": {"method": 2},
    "png": {},
    "jpeg": {},
}

# Control characters, which databases and terminals choke on, and U+FFFE, which PDFium writes for a hyphen that only
# breaks a line. Lone surrogates do not get this far: decoding PDFium's UTF-16 drops them.
_UNWANTED: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class DrawingOrder:
    """Consecutive pages of the PDF at `path`, to be drawn by `engine`; `timeout_s` limits each call of poppler."""

    path: str
    pages: tuple[PagePlan, ...]
    engine: Engine
    timeout_s: float
    image_format: str
    image_quality: int
    max_text_chars: int
    with_rgb: bool


@dataclass(frozen=True, slots=True)
class DrawnPage:
    """`image` is the encoded picture, `rgb` the raw one, (height, width, 3) bytes, where the order asked for it."""

    width_px: int
    height_px: int
    image: bytes
    text: str
    rgb: bytes | None


@dataclass(frozen=True, slots=True)
class Drawing:
    """What became of an order: each page number is in `pages`, or in `refused` with the cause."""

    pages: dict[int, DrawnPage] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=lambda: {"render": 0.0, "text": 0.0, "encode": 0.0})
    """CPU seconds by stage, those of poppler's processes included."""

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        before_s = _cpu_s()
        try:
            yield
        finally:
            self.cpu_s[stage] += _cpu_s() - before_s


def draw(order: DrawingOrder) -> Drawing:
    """Carry out `order`. What cannot be drawn is refused, and the rest is drawn all the same.

    Raises PopplerTimeout, and PdfiumError where the file does not open.
    """
    Image.MAX_IMAGE_PIXELS = None  # The plan says how large a picture may be, and `_check_size` holds it to that.
    drawing = Drawing()
    with pypdfium2.PdfDocument(order.path) as pdf:
        if order.engine == "pdfium":
            with suppress(pypdfium2.PdfiumError):
                pdf.init_forms()  # Without it, PDFium leaves out what was filled into forms.
        for batch in _batches(order.pages):
            try:
                _draw_batch(pdf, order, batch, drawing)
            except (PageRefused, pypdfium2.PdfiumError) as error:
                drawing.refused.update({plan.number: str(error) for plan in batch if plan.number not in drawing.pages})
    return drawing


def _batches(plans: Sequence[PagePlan]) -> Iterator[list[PagePlan]]:
    """Neighbours of one DPI, which poppler draws in one call, up to _BATCH_PX together."""
    batch: list[PagePlan] = []
    for plan in plans:
        if batch and (plan.dpi != batch[0].dpi or sum(p.pixels for p in batch) + plan.pixels > _BATCH_PX):
            yield batch
            batch = []
        batch.append(plan)
    if batch:
        yield batch


def _draw_batch(pdf: pypdfium2.PdfDocument, order: DrawingOrder, batch: Sequence[PagePlan], drawing: Drawing) -> None:
    with drawing.timed("render"):
        _check_loads(pdf, batch)
        pictures = _with_poppler(order, batch) if order.engine == "poppler" else _with_pdfium(pdf, batch)
        for picture, plan in zip(pictures, batch, strict=True):
            _check_size(picture, plan)
    for picture, plan in zip(pictures, batch, strict=True):
        with drawing.timed("text"):
            text = _text_layer(pdf, plan.number, order.max_text_chars)
        with drawing.timed("encode"):
            image = _encode(picture, order.image_format, order.image_quality)
        rgb = picture.tobytes() if order.with_rgb else None
        drawing.pages[plan.number] = DrawnPage(picture.width, picture.height, image, text, rgb)


def _with_poppler(order: DrawingOrder, batch: Sequence[PagePlan]) -> list[Image.Image]:
    return draw_range(order.path, batch[0].number, batch[-1].number, batch[0].dpi, order.timeout_s)


def _with_pdfium(pdf: pypdfium2.PdfDocument, batch: Sequence[PagePlan]) -> list[Image.Image]:
    pictures = []
    for plan in batch:
        with closing(pdf[plan.number - 1]) as page:
            bitmap = page.render(scale=plan.dpi / POINTS_PER_INCH, rev_byteorder=True)
            pictures.append(bitmap.to_pil())
    return pictures


def _check_loads(pdf: pypdfium2.PdfDocument, batch: Sequence[PagePlan]) -> None:
    """A page missing from the page tree is left out by poppler, which then draws the next one under its number."""
    for plan in batch:
        try:
            pdf.get_page_size(plan.number - 1)
        except pypdfium2.PdfiumError as error:
            raise PageRefused(f"page {plan.number} is missing or damaged") from error


def _check_size(picture: Image.Image, plan: PagePlan) -> None:
    """Success may be reported over a picture of 1 x 1 px. Engines do not round alike, so one pixel is nothing."""
    if abs(picture.width - plan.width_px) > 1 or abs(picture.height - plan.height_px) > 1:
        raise PageRefused(
            f"the picture has {picture.width} x {picture.height} px instead of {plan.width_px} x {plan.height_px} px"
        )


def _text_layer(pdf: pypdfium2.PdfDocument, page_number: int, max_chars: int) -> str:
    """The page's text in the file's own order, "" where there is none or it cannot be read."""
    try:
        with closing(pdf[page_number - 1]) as page, closing(page.get_textpage()) as textpage:
            text = textpage.get_text_bounded()
    except pypdfium2.PdfiumError:
        return ""
    return _UNWANTED.sub("", text)[:max_chars]


def _encode(picture: Image.Image, image_format: str, quality: int) -> bytes:
    encoded = io.BytesIO()
    picture.save(encoded, image_format, quality=quality, **_ENCODER_OPTIONS[image_format])
    return encoded.getvalue()


def _cpu_s() -> float:
    """CPU seconds of this process and of those it has started and waited for."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)
