"""Adaptive DPI: the DPI of each policy, and the pixel cap for every page size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.rendering.dpi import MAX_SIDE_PX, Policy, document_dpi, page_dpi, plan_page

sides_pt = st.floats(min_value=1e-3, max_value=1e12)
resolutions = st.integers(min_value=1, max_value=2400)
caps_px = st.integers(min_value=2, max_value=2 * 10**8)


@pytest.mark.parametrize(
    ("policy", "pages", "dpi"),
    [
        ("two-tier", 1, 200),
        ("two-tier", 49, 200),
        ("two-tier", 50, 150),
        ("two-tier", 10_000, 150),
        ("granular", 19, 300),
        ("granular", 20, 200),
        ("granular", 49, 200),
        ("granular", 50, 150),
        ("granular", 99, 150),
        ("granular", 100, 100),
        ("fixed", 1, 123),
        ("fixed", 10_000, 123),
    ],
)
def test_policies_change_their_dpi_at_their_page_counts(policy: Policy, pages: int, dpi: int) -> None:
    assert document_dpi(policy, pages, fixed_dpi=123) == dpi


def test_an_ordinary_page_keeps_its_dpi() -> None:
    plan = plan_page(7, 595, 842, 200, 16_000_000)
    assert (plan.number, plan.dpi, plan.width_px, plan.height_px) == (7, 200, 1653, 2339)


@given(sides_pt, sides_pt, resolutions, caps_px)
def test_no_page_exceeds_the_caps_or_has_no_pixels(width_pt: float, height_pt: float, dpi: int, max_px: int) -> None:
    plan = plan_page(1, width_pt, height_pt, dpi, max_px)
    assert 1 <= plan.width_px <= MAX_SIDE_PX
    assert 1 <= plan.height_px <= MAX_SIDE_PX
    assert plan.pixels <= max_px
    assert 0 < plan.dpi <= dpi


@given(sides_pt, sides_pt, resolutions, caps_px)
def test_the_cap_lowers_the_dpi_no_more_than_necessary(
    width_pt: float, height_pt: float, dpi: int, max_px: int
) -> None:
    capped = page_dpi(width_pt, height_pt, dpi, max_px)
    finer = plan_page(1, width_pt, height_pt, dpi, 10**30)
    if finer.pixels <= max_px:
        assert capped == finer.dpi
    else:
        # Rounding up adds less than one pixel to each side, so one more pixel on each side reaches the cap.
        scale = capped / 72 * (1 + 1e-9)
        assert (width_pt * scale + 1) * (height_pt * scale + 1) >= max_px


@given(sides_pt, sides_pt, resolutions, caps_px)
def test_a_rotated_page_has_the_same_dpi(width_pt: float, height_pt: float, dpi: int, max_px: int) -> None:
    assert page_dpi(width_pt, height_pt, dpi, max_px) == page_dpi(height_pt, width_pt, dpi, max_px)
