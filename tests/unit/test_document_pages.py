"""A page of a document over HTTP: its text, and its image in several widths."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator

import httpx
import pytest
from PIL import Image

from ingestion.errors import Overloaded, WorkerFault
from ingestion.model import Page, PageRecord
from ingestion.viewing import images
from ingestion.viewing.images import WIDTHS_PX, PageImages
from tests.memory import MemoryBlobStore
from tests.support.memory_api import COLLECTION, MemoryApi, memory_api, picture

WIDTH_PX, HEIGHT_PX = 1000, 1400


@pytest.fixture
def api() -> MemoryApi:
    return memory_api()


@pytest.fixture
async def client(api: MemoryApi) -> AsyncIterator[httpx.AsyncClient]:
    async with api.client() as client:
        yield client


def page(number: int, text: str = "the torque of the axle") -> Page:
    return Page(number, WIDTH_PX, HEIGHT_PX, picture(WIDTH_PX, HEIGHT_PX), text, image_format="png")


def size_of(answer: httpx.Response) -> tuple[int, int]:
    with Image.open(io.BytesIO(answer.content)) as image:
        return image.size


async def test_a_page_has_its_text_its_source_and_the_address_of_its_image(
    api: MemoryApi, client: httpx.AsyncClient
) -> None:
    document = await api.add_ready([page(1), page(2, "")])
    shown = (await client.get(f"/documents/{document.id}/pages/1")).json()
    image_url = shown.pop("image_url")
    assert shown == {
        "document_id": document.id, "collection": COLLECTION, "filename": "a.pdf", "page": 1, "pages": 2,
        "width_px": WIDTH_PX, "height_px": HEIGHT_PX, "text": "the torque of the axle", "text_source": "file",
        "vectors": 5,
    }  # fmt: skip
    image = await client.get(f"http://api{image_url}")
    assert (image.headers["content-type"], size_of(image)) == ("image/png", (WIDTH_PX, HEIGHT_PX))
    assert image.headers["cache-control"] == "private, max-age=31536000, immutable"
    blank = (await client.get(f"/documents/{document.id}/pages/2")).json()
    assert (blank["text"], blank["text_source"], blank["vectors"]) == ("", "none", 0)


async def test_an_image_is_made_smaller_and_never_larger(api: MemoryApi, client: httpx.AsyncClient) -> None:
    document = await api.add_ready([page(1)])
    sizes = {}
    for width in WIDTHS_PX:
        answer = await client.get(f"/documents/{document.id}/pages/1/image", params={"width": width})
        sizes[width] = answer.headers["content-type"], size_of(answer)[0]
    smaller = {width: ("image/webp", width) for width in (160, 320, 640, 960)}
    assert sizes == smaller | dict.fromkeys((1280, 1600), ("image/png", WIDTH_PX))


async def test_a_client_that_has_the_image_gets_304_without_a_read(api: MemoryApi, client: httpx.AsyncClient) -> None:
    document = await api.add_ready([page(1)])
    url = f"/documents/{document.id}/pages/1/image"
    first = await client.get(url)
    assert first.headers["cache-control"] == "private, no-cache"
    await api.services.blobs.delete_prefix("")
    for sent in (first.headers["etag"], f'"other", W/{first.headers["etag"]}', "*"):
        again = await client.get(url, headers={"If-None-Match": sent})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    other_size = await client.get(url, params={"width": 160}, headers={"If-None-Match": first.headers["etag"]})
    assert other_size.status_code == 404


async def test_the_address_of_another_upload_may_not_be_kept(api: MemoryApi, client: httpx.AsyncClient) -> None:
    document = await api.add_ready([page(1)])
    answer = await client.get(f"/documents/{document.id}/pages/1/image", params={"v": "ffff"})
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "private, no-cache")


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("pages/3", 404, "has pages 1 to 1"),
        ("pages/99999999999999999999999", 404, "has pages 1 to 1"),
        ("pages/0", 422, "page"),
        ("pages/one", 422, "page"),
        ("pages/1/image?width=161", 400, "160, 320, 640, 960, 1280, 1600"),
        ("pages/1/image?width=-1", 400, "160, 320"),
    ],
)
async def test_a_wrong_page_or_width_is_told(
    api: MemoryApi, client: httpx.AsyncClient, path: str, status: int, words: str
) -> None:
    document = await api.add_ready([page(1)])
    answer = await client.get(f"/documents/{document.id}/{path}")
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert words in answer.json()["detail"]


async def test_a_page_that_no_worker_has_stored_is_not_found(api: MemoryApi, client: httpx.AsyncClient) -> None:
    for document in (await api.add(3), await api.add(0, "b.docx")):
        answer = await client.get(f"/documents/{document.id}/pages/1")
        assert answer.status_code == 404 and "not stored yet: the document is queued" in answer.json()["detail"]
    assert (await client.get("/documents/none/pages/1")).status_code == 404


async def test_a_document_that_is_being_deleted_shows_no_page(api: MemoryApi, client: httpx.AsyncClient) -> None:
    document = await api.add_ready([page(1)])
    await api.services.documents.begin_delete(document.id)
    for path in ("pages/1", "pages/1/image"):
        assert (await client.get(f"/documents/{document.id}/{path}")).status_code == 404


async def test_without_the_key_no_page_is_shown(api: MemoryApi) -> None:
    document = await api.add_ready([page(1)])
    async with api.client(key=None) as anybody:
        for path in ("pages/1", "pages/1/image"):
            assert (await anybody.get(f"/documents/{document.id}/{path}")).status_code == 401


async def test_hits_carry_addresses_of_this_api(api: MemoryApi, client: httpx.AsyncClient) -> None:
    document = await api.add_ready([page(1, "oil"), page(2, "torque")])
    [hit] = (await client.post(f"/collections/{COLLECTION}/search", json={"query": "torque", "top_k": 1})).json()[
        "hits"
    ]
    assert hit["page_url"] == f"/api/v1/documents/{document.id}/pages/2"
    assert (await client.get(f"http://api{hit['page_url']}")).json()["image_url"] == hit["page_image_url"]


def record(key: int) -> PageRecord:
    return PageRecord(key, "d", key, WIDTH_PX, HEIGHT_PX, 1, "image.png", "")


async def test_callers_of_the_same_image_share_its_computation_and_too_many_are_refused() -> None:
    blobs = MemoryBlobStore()
    await blobs.put("image.png", picture(WIDTH_PX, HEIGHT_PX), "image/png")
    calls, may_end = list[int](), asyncio.Event()

    async def resize(image: bytes, width_px: int) -> bytes:
        calls.append(width_px)
        await may_end.wait()
        return b"smaller"

    maker = PageImages(blobs, resize)
    same = [asyncio.create_task(maker.image(record(1), 320)) for _ in range(3)]
    others = [asyncio.create_task(maker.image(record(key), 320)) for key in range(2, images._MOST_WAITING + 1)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await maker.image(record(1000), 320)
    same[0].cancel()
    await asyncio.sleep(0)
    may_end.set()
    made = await asyncio.gather(*same[1:], *others)
    assert {image.data for image in made} == {b"smaller"} and len(calls) == images._MOST_WAITING
    await maker.image(record(1), 320)
    assert len(calls) == images._MOST_WAITING, "it is kept"


async def test_a_child_makes_the_image_and_a_broken_one_is_told() -> None:
    blobs = MemoryBlobStore()
    maker = PageImages(blobs)
    try:
        await blobs.put("image.png", picture(WIDTH_PX, HEIGHT_PX), "image/png")
        made = await maker.image(record(1), 160)
        with Image.open(io.BytesIO(made.data)) as image:
            assert (image.format, image.size) == ("WEBP", (160, 224))
        await blobs.put("image.png", b"\x89PNG\r\n\x1a\n....IHDR", "image/png")
        with pytest.raises(WorkerFault, match="cannot be read"):
            await maker.image(record(2), 160)
    finally:
        maker.close()
