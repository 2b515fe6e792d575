"""Checks the answer of a render child against the request, because the child has read a hostile file."""

from __future__ import annotations

from typing import Final

from ingestion.sandbox.failures import ChildCrashed
from ingestion.words.boxes import MOST_BYTES
from workers.rendering.dpi import PagePlan
from workers.rendering.image_encoding import ImageFormat
from workers.rendering.render_child import STAGES, RenderedPage, RenderRequest, RenderResult
from workers.rendering.unwanted import UNWANTED

_BYTES_PER_PX: Final = 4
_SLACK_BYTES: Final = 64 * 1024
_BEGINNINGS: Final[dict[ImageFormat, tuple[bytes, int, bytes]]] = {
    # first bytes of a file; an offset, and the bytes at it
    "png": (b"\x89PNG\r\n\x1a\n", 12, b"IHDR"),
    "jpeg": (b"\xff\xd8\xff", 2, b"\xff"),
    "webp": (b"RIFF", 8, b"WEBP"),
}


def max_answer_bytes(request: RenderRequest) -> int:
    """Upper bound on the size of an answer to `request`: raw and encoded images, and texts."""
    pixels = sum(plan.pixels + plan.width_px + plan.height_px + 1 for plan in request.pages)
    texts = len(request.pages) * (4 * request.max_text_chars + MOST_BYTES + _SLACK_BYTES)
    return pixels * _BYTES_PER_PX * (2 if request.with_pixels else 1) + texts


def check_answer(result: RenderResult, request: RenderRequest) -> RenderResult:
    """Returns `result`. Raises ChildCrashed if `result` cannot be the answer to `request`."""
    plans = {plan.number: plan for plan in request.pages}
    if result.pages.keys() | result.refused.keys() != plans.keys():
        raise ChildCrashed("the child answered for other pages than requested")
    if result.cpu_s.keys() != set(STAGES) or not all(0 <= used < float("inf") for used in result.cpu_s.values()):
        raise ChildCrashed("the child reported invalid CPU times")
    for number, page in result.pages.items():
        if (fault := _fault(page, plans[number], request)) is not None:
            raise ChildCrashed(f"the child answered for page {number} with {fault}")
    return result


def _fault(page: RenderedPage, plan: PagePlan, request: RenderRequest) -> str | None:
    if abs(page.width_px - plan.width_px) > 1 or abs(page.height_px - plan.height_px) > 1:
        return f"{page.width_px} x {page.height_px} px"
    if len(page.text) > request.max_text_chars or UNWANTED.search(page.text):
        return "text that cannot be stored"
    if max(len(page.undrawn), len(page.substituted)) > request.max_text_chars:
        return "too many letters"
    if len(page.words) > MOST_BYTES:
        return "boxes of words that cannot be stored"
    if request.image_format not in ("auto", page.image_format):
        return f"an image in {page.image_format}"
    beginning, offset, mark = _BEGINNINGS[page.image_format]
    if not page.image.startswith(beginning) or not page.image.startswith(mark, offset):
        return f"bytes that are not {page.image_format}"
    if (page.pixels is not None) is not request.with_pixels:
        return "pixels that were not requested, or without pixels"
    area_px = page.width_px * page.height_px
    if area_px <= 0 or (page.pixels is not None and len(page.pixels) not in (area_px, 3 * area_px)):
        return "pixels of another size"
    return None
