"""Images in requests: their cost in pixels, and how they are decoded."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ingestion.model import Page, Vectors
from ingestion.settings import ServingSettings
from tests.support.serving import MODEL, HeldEmbedder, data_uri, eventually
from workers.embedding.serving.decoding import Decoder, PixelLimiter
from workers.embedding.serving.images import ImageFile, read_image
from workers.embedding.serving.requests import EmbeddingRequest
from workers.embedding.serving.service import EmbeddingService
from workers.embedding.serving.service_errors import ServiceError

SIDE_PX = 200
MAX_PX = SIDE_PX**2


class ShrinkingEmbedder(HeldEmbedder):
    """Looks at pictures in 20 x 20 pixels."""

    def __init__(self) -> None:
        super().__init__(wants_pixels=True)
        self.held: list[tuple[int, ...]] = []

    def fitted_px(self, width_px: int, height_px: int) -> tuple[int, int]:
        return 20, 20

    def fit(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.asarray(Image.fromarray(pixels).resize((20, 20)))

    async def embed_pages(self, pages: Sequence[Page]) -> list[Vectors]:
        self.held += [page.pixels.shape for page in pages if page.pixels is not None]
        return await super().embed_pages(pages)


def encoded(picture: Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, image_format, **options)
    return file.getvalue()


def image(picture: Image.Image, image_format: str = "PNG", **options: Any) -> ImageFile:
    media_type = f"image/{image_format.lower()}"
    return read_image(data_uri(encoded(picture, image_format, **options), media_type), 0, 100_000_000)


def squares(count: int) -> list[str]:
    return [data_uri(encoded(Image.new("L", (SIDE_PX, SIDE_PX), number))) for number in range(count)]


def service_of(embedder: HeldEmbedder) -> EmbeddingService:
    return EmbeddingService(embedder, ServingSettings(embed_max_image_px=MAX_PX), model_id=MODEL)


async def test_no_more_pixels_are_decoded_at_a_time_than_the_limit_allows() -> None:
    embedder = HeldEmbedder(wants_pixels=True)
    embedder.hold()
    service = service_of(embedder)
    requests = [await service.look_up(EmbeddingRequest(input=squares(count), modality="image")) for count in (1, 8, 3)]
    working = asyncio.gather(*(service.complete(pending) for pending in requests))
    await eventually(lambda: embedder.waiting == 3)
    assert embedder.seen.total() == 3  # of twelve
    assert service._decoder.limiter.in_use_px == 3 * MAX_PX
    embedder.let_go()
    await working
    assert service._decoder.limiter.in_use_px == 0
    assert [len(pending.answer) for pending in requests] == [1, 8, 3]


async def test_a_model_that_resizes_images_gets_them_resized_and_no_full_size_is_kept() -> None:
    embedder = ShrinkingEmbedder()
    embedder.hold()
    service = service_of(embedder)
    pending = await service.look_up(EmbeddingRequest(input=squares(24), modality="image"))
    working = asyncio.create_task(service.complete(pending))
    await eventually(lambda: embedder.waiting == 3)
    assert set(embedder.held) == {(20, 20, 3)}
    assert service._decoder.limiter.in_use_px == 24 * 400
    embedder.let_go()
    await working


async def test_a_group_that_fails_or_is_cancelled_releases_its_pixels() -> None:
    embedder = HeldEmbedder(wants_pixels=True)
    embedder.hold()
    service = service_of(embedder)
    broken = data_uri(encoded(Image.effect_noise((SIDE_PX, SIDE_PX), 50))[:-4000])
    with pytest.raises(ServiceError, match="input 0"):
        await service.complete(await service.look_up(EmbeddingRequest(input=broken, modality="image")))
    pending = await service.look_up(EmbeddingRequest(input=squares(8), modality="image"))
    working = asyncio.create_task(service.complete(pending))
    await eventually(lambda: embedder.waiting == 3)
    working.cancel()
    await asyncio.wait((working,))
    assert service._decoder.limiter.in_use_px == 0


async def test_callers_are_served_in_order_and_a_cancelled_one_blocks_no_other() -> None:
    limiter = PixelLimiter(10)
    admitted: list[str] = []

    async def use(name: str, px: int) -> None:
        async with limiter.hold(px):
            admitted.append(name)
            await asyncio.sleep(0)

    async with limiter.hold(8) as held:
        tasks = [asyncio.create_task(use(name, px)) for name, px in (("large", 9), ("small", 2), ("whole", 99))]
        await asyncio.sleep(0)
        assert not admitted  # the small one would fit, and waits behind the large one
        tasks[0].cancel()
        await asyncio.wait(tasks[:1])
        await asyncio.wait(tasks[1:2])
        assert admitted == ["small"]
        held.shrink_to(0)
        await tasks[2]
    assert admitted == ["small", "whole"]
    assert limiter.in_use_px == 0


async def test_pixels_granted_to_a_cancelled_caller_are_released() -> None:
    limiter = PixelLimiter(10)
    async with limiter.hold(10) as held:
        leaving = asyncio.create_task(limiter.hold(10).__aenter__())
        await asyncio.sleep(0)
        held.shrink_to(0)  # gives the place
        leaving.cancel()
        await asyncio.wait((leaving,))
    assert limiter.in_use_px == 0


def test_pixels_count_in_the_lanes_limit() -> None:
    service = EmbeddingService(HeldEmbedder(wants_pixels=True), ServingSettings(), model_id=MODEL, max_patches=768)

    def cost(width_px: int, height_px: int) -> tuple[int, int]:
        uri = data_uri(encoded(Image.new("1", (width_px, height_px))))
        (found,) = service._image_inputs(EmbeddingRequest(input=uri, modality="image"))
        return found.tokens, found.cost

    assert cost(1654, 2339) == (768, 768)
    assert cost(4096, 4096) == (768, 2701)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_kind_of_png_decodes_to_its_pixels(mode: str) -> None:
    grey = Image.linear_gradient("L").resize((300, 2000))
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    else:
        picture = grey.quantize(256) if mode == "P" else grey.convert(mode)
    expected = grey.convert("1").convert("RGB") if mode == "1" else grey.convert("RGB")
    assert np.abs(image(picture).pixels().astype(int) - np.asarray(expected)).max() <= (8 if mode == "P" else 0)


def test_transparency_lies_on_white_in_every_strip() -> None:
    clear = Image.new("RGBA", (700, 1500), (255, 0, 0, 0))
    assert (image(clear).pixels() == 255).all()
    palette = Image.new("P", (700, 1500), 0)
    palette.putpalette([10, 20, 30])
    assert (image(palette, transparency=0).pixels() == 255).all()
    assert (image(palette).pixels() == (10, 20, 30)).all()


def test_a_jpeg_in_cmyk_and_the_first_picture_of_many() -> None:
    assert np.abs(image(Image.new("CMYK", (50, 50), (0, 255, 255, 0)), "JPEG").pixels() - (254, 0, 0)).max() <= 2
    frames = [Image.new("RGB", (30, 20), colour) for colour in ("blue", "red")]
    for image_format in ("PNG", "WEBP"):
        pixels = image(frames[0], image_format, save_all=True, append_images=frames[1:], lossless=True).pixels()
        assert pixels.shape == (20, 30, 3) and (pixels == (0, 0, 255)).all()


def test_a_jpeg_is_decoded_at_the_size_that_the_model_wants() -> None:
    photo = Image.linear_gradient("L").resize((2000, 1600)).convert("RGB")
    jpeg = image(photo, "JPEG", quality=95)
    assert jpeg.pixels().shape == (1600, 2000, 3)
    assert jpeg.pixels((900, 720)).shape == (1600, 2000, 3)
    assert jpeg.pixels((240, 192)).shape == (400, 500, 3)
    small, whole = (Image.fromarray(jpeg.pixels(wanted)).resize((240, 192)) for wanted in ((240, 192), None))
    assert np.abs(np.asarray(small).astype(int) - np.asarray(whole)).max() <= 2


def test_a_jpeg_of_very_many_scans_is_refused() -> None:
    jpeg = encoded(Image.new("L", (64, 64)), "JPEG", progressive=True)
    scan = jpeg.index(b"\xff\xda")
    with pytest.raises(ServiceError, match="scans") as refused:
        read_image(data_uri(jpeg[:scan] + jpeg[scan:-2] * 200 + jpeg[-2:], "image/jpeg"), 0, MAX_PX)
    assert refused.value.code == "unsupported_image"
    assert image(Image.new("L", (64, 64)), "JPEG", progressive=True).pixels().shape == (64, 64, 3)


def test_groups_are_consecutive_and_none_is_empty_or_too_large() -> None:
    images = [image(Image.new("1", (side, side))) for side in (100, 200, 10, 10, 200, 150, 100, 50, *[10] * 20)]
    for embedder, most in ((HeldEmbedder(wants_pixels=True), MAX_PX), (ShrinkingEmbedder(), 3 * MAX_PX)):
        decoder = Decoder(embedder, MAX_PX)
        groups = [list(group) for group in decoder.groups(images)]
        assert [one for group in groups for one in group] == images
        assert all(0 < len(group) <= 8 and decoder._cost_px(group) <= most for group in groups)
