"""What a render child has answered, checked against what it was ordered: the child has read a hostile file."""

from __future__ import annotations

from typing import Final

from ingestion.sandbox import ChildCrashed
from workers.rendering.dpi import PagePlan
from workers.rendering.image_encoding import ImageFormat
from workers.rendering.render_child import STAGES, UNWANTED, Drawing, DrawingOrder, DrawnPage

_BYTES_PER_PX: Final = 4
_SLACK_BYTES: Final = 64 * 1024
_BEGINNINGS: Final[dict[ImageFormat, tuple[bytes, int, bytes]]] = {
    # beginning, and what stands at an offset
    "png": (b"\x89PNG\r\n\x1a\n", 12, b"IHDR"),
    "jpeg": (b"\xff\xd8\xff", 2, b"\xff"),
    "webp": (b"RIFF", 8, b"WEBP"),
}


def most_bytes(order: DrawingOrder) -> int:
    """More than the answer to `order` takes: pictures, raw and encoded, and texts."""
    pixels = sum(plan.pixels + plan.width_px + plan.height_px + 1 for plan in order.pages)
    texts = len(order.pages) * (4 * order.max_text_chars + _SLACK_BYTES)
    return pixels * _BYTES_PER_PX * (2 if order.with_pixels else 1) + texts


def check(drawing: Drawing, order: DrawingOrder) -> Drawing:
    """`drawing` itself. Raises ChildCrashed where it cannot have come of `order`."""
    plans = {plan.number: plan for plan in order.pages}
    if drawing.pages.keys() | drawing.refused.keys() != plans.keys():
        raise ChildCrashed("the child answered for other pages than were ordered")
    if drawing.cpu_s.keys() != set(STAGES) or not all(0 <= used < float("inf") for used in drawing.cpu_s.values()):
        raise ChildCrashed("the child reports CPU time of no known stage")
    for number, page in drawing.pages.items():
        if (fault := _fault(page, plans[number], order)) is not None:
            raise ChildCrashed(f"the child answered for page {number} with {fault}")
    return drawing


def _fault(page: DrawnPage, plan: PagePlan, order: DrawingOrder) -> str | None:
    if abs(page.width_px - plan.width_px) > 1 or abs(page.height_px - plan.height_px) > 1:
        return f"{page.width_px} x {page.height_px} px"
    if len(page.text) > order.max_text_chars or UNWANTED.search(page.text):
        return "text that cannot be stored"
    if order.image_format not in ("auto", page.image_format):
        return f"a picture in {page.image_format}"
    beginning, offset, mark = _BEGINNINGS[page.image_format]
    if not page.image.startswith(beginning) or not page.image.startswith(mark, offset):
        return f"bytes that are not {page.image_format}"
    if (page.pixels is not None) is not order.with_pixels:
        return "pixels that were not ordered, or none"
    area_px = page.width_px * page.height_px
    if area_px <= 0 or (page.pixels is not None and len(page.pixels) not in (area_px, 3 * area_px)):
        return "pixels of another size"
    return None
