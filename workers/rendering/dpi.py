"""Computes the DPI of a page from page count and page size, and its size in pixels. A point is 1/72 inch."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt
from typing import Final, Literal

Policy = Literal["two-tier", "granular", "fixed"]

POINTS_PER_INCH: Final = 72

MAX_SIDE_PX: Final = 16_382
"""WebP's limit is 16,383 px. One pixel is spare because renderers round differently."""

_TIERS: Final[dict[str, tuple[tuple[float, int], ...]]] = {
    "two-tier": ((50, 200), (float("inf"), 150)),
    "granular": ((20, 300), (50, 200), (100, 150), (float("inf"), 100)),
}
"""(pages, DPI): a document with fewer than `pages` pages is rendered at `DPI`."""


@dataclass(frozen=True, slots=True)
class PagePlan:
    """DPI of page `number` (from 1), and the size that its image must have."""

    number: int
    dpi: float
    width_px: int
    height_px: int

    @property
    def pixels(self) -> int:
        return self.width_px * self.height_px


def document_dpi(policy: Policy, pages: int, fixed_dpi: int) -> int:
    """Returns the DPI of `policy` for a document of `pages` pages. The policy `fixed` returns `fixed_dpi`."""
    if policy == "fixed":
        return fixed_dpi
    return next(dpi for below, dpi in _TIERS[policy] if pages < below)


def plan_page(number: int, width_pt: float, height_pt: float, dpi: int, max_px: int) -> PagePlan:
    """Plans the page at `dpi`, or less if the image would exceed `max_px` pixels or MAX_SIDE_PX on a side."""
    capped = page_dpi(width_pt, height_pt, dpi, max_px)
    return PagePlan(number, capped, _side_px(width_pt, capped), _side_px(height_pt, capped))


def page_dpi(width_pt: float, height_pt: float, dpi: float, max_px: int) -> float:
    """Returns the highest DPI up to `dpi` that keeps the image within `max_px` pixels and MAX_SIDE_PX on each side.

    Both sides of the page must be above zero, and `max_px` at least 2. The smallest image is 1 x 1 px.
    """
    if max(_side_px(width_pt, dpi), _side_px(height_pt, dpi)) > MAX_SIDE_PX:
        # Half a pixel below the limit, so that a floating-point error cannot exceed it.
        dpi = (MAX_SIDE_PX - 0.5) * POINTS_PER_INCH / max(width_pt, height_pt)
    if _side_px(width_pt, dpi) * _side_px(height_pt, dpi) <= max_px:
        return dpi
    # Sides are rounded up, so solve (w s + 1) (h s + 1) = max_px for the scale s. This form of the quadratic formula
    # has no cancellation, even for a very long and narrow page.
    sides, area = width_pt + height_pt, width_pt * height_pt
    scale = 2 * (max_px - 1) / (sides + sqrt(sides * sides + 4 * area * (max_px - 1)))
    return scale * POINTS_PER_INCH


def _side_px(side_pt: float, dpi: float) -> int:
    """Rounds up, as poppler and PDFium do."""
    return ceil(side_pt * dpi / POINTS_PER_INCH)
