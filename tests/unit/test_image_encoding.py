"""Encoding of page images: lossless grey text, the chosen formats, and the cache of the open PDF."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from tests.support import pdfs
from workers.rendering.image_encoding import encode_image, to_greyscale
from workers.rendering.pdf_cache import open_cached


def page(mode: str = "RGB", ink: tuple[int, int, int] = (0, 0, 0)) -> Image.Image:
    image = Image.new("RGB", (300, 200), "white")
    ImageDraw.Draw(image).text((20, 20), "Sixteen pages", fill=ink)
    return image if mode == "RGB" else Image.frombytes("RGBX", image.size, image.convert("RGBX").tobytes())


@pytest.mark.parametrize("mode", ["RGB", "RGBX"])
def test_an_image_is_grey_only_if_no_pixel_has_a_colour(mode: str) -> None:
    grey = to_greyscale(page(mode))
    assert grey is not None
    assert grey.tobytes() == page().convert("L").tobytes()
    coloured = page(mode)
    coloured.putpixel((299, 199), (255, 255, 254) if mode == "RGB" else (255, 255, 254, 255))
    assert to_greyscale(coloured) is None


def test_grey_text_is_encoded_without_loss() -> None:
    grey = to_greyscale(page())
    assert grey is not None
    content, image_format = encode_image(grey, "auto", quality=85)
    assert image_format == "png"
    assert Image.open(io.BytesIO(content)).convert("L").tobytes() == grey.tobytes()


@pytest.mark.parametrize("wanted", ["webp", "png", "jpeg"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBX"])
def test_every_image_mode_can_be_encoded_in_every_format(mode: str, wanted: str) -> None:
    image = page(mode) if mode != "L" else page().convert("L")
    content, image_format = encode_image(image, wanted, quality=85)  # type: ignore[arg-type]
    assert image_format == wanted
    assert Image.open(io.BytesIO(content)).format == wanted.upper()


def test_a_file_that_was_replaced_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "source.pdf"
    path.write_bytes(pdfs.numbered_pdf(2))
    first = open_cached(str(path))
    assert len(first) == 2
    assert open_cached(str(path)) is first
    path.write_bytes(pdfs.numbered_pdf(5))
    assert len(open_cached(str(path))) == 5
