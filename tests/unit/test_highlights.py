"""Where on a page a query matches, over HTTP: words with their boxes, and heat maps of visual embedders."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from ingestion.errors import NoPatchGrid, PooledVectors
from ingestion.model import Page, PageRecord, Vectors
from ingestion.viewing import highlights
from ingestion.viewing.patch_grid import PatchGrid, most_tokens, patch_grid
from ingestion.words.boxes import encode_words, words_in
from tests.support.embedders import WordEmbedder
from tests.support.memory_api import MemoryApi, memory_api, picture

SIDE_PX = 112
"""A grid of 4 x 4."""
PLAIN = "colqwen2/test@1/nf4/prompt-0-drop/tokens-768/pool-1/pdfium"


class PatchEmbedder(WordEmbedder):
    """A visual embedder that sees the words of a page's text one after the other in its patches."""

    wants_pixels = False

    def __init__(self, fingerprint: str = PLAIN, before: int = 0, after: int = 0) -> None:
        super().__init__()
        self.fingerprint = fingerprint
        self._prompt = " prompt" * before, " prompt" * after

    async def embed_pages(self, pages: Sequence[Page]) -> list[Vectors]:
        before, after = self._prompt
        return await super().embed_pages([replace(page, text=f"{before} {page.text}{after}") for page in pages])


def a_page(text: str, *, has_words: bool = True) -> Page:
    words = encode_words(words_in(text, (0.0, 0.25, 1.0, 0.3))) if has_words else b""
    return Page(1, SIDE_PX, SIDE_PX, picture(SIDE_PX, SIDE_PX), text, image_format="png", words=words)


PATCHES = " ".join(["torque" if at == 6 else f"word{at}" for at in range(16)])


async def opened(api: MemoryApi, page: Page, **params: Any) -> httpx.Response:
    document = await api.add_ready([page])
    async with api.client() as client:
        headers = params.pop("headers", {})
        url = f"/documents/{document.id}/pages/1/highlights"
        return await client.get(url, params={"query": "torque", **params}, headers=headers)


async def test_words_that_match_have_boxes_and_a_text_embedder_gives_no_heat_map() -> None:
    answer = await opened(memory_api(), a_page("the torque of the axle"), query="TORQUE axle")
    body = answer.json()
    assert [(word["text"], word["term"]) for word in body["words"]] == [("torque", "torque"), ("axle", "axle")]
    left, top, right, bottom = body["words"][0]["box"]
    assert (round(left, 2), round(top, 2), round(right, 2), round(bottom, 2)) == (0.18, 0.25, 0.45, 0.3)
    assert body["heat"] is None
    assert [(one["part"], one["code"]) for one in body["missing"]] == [("heat", "no_patch_grid")]


@pytest.mark.parametrize(
    "embedder", [PatchEmbedder(), PatchEmbedder(PLAIN.replace("drop", "keep"), before=4, after=7)]
)
async def test_a_heat_map_is_hottest_where_the_query_matches(embedder: PatchEmbedder) -> None:
    body = (await opened(memory_api(embedder), a_page(PATCHES))).json()
    heat = np.array(body["heat"]["values"])
    assert (body["heat"]["rows"], body["heat"]["columns"], heat.shape) == (4, 4, (4, 4))
    assert (heat[1, 2], heat.max(), heat.min() >= 0) == (1, 1, True)
    assert body["missing"] == [] and len(body["words"]) == 1


@pytest.mark.parametrize("params", [{"format": "png"}, {"headers": {"Accept": "text/html, image/png;q=0.9"}}])
async def test_a_heat_map_as_a_picture_is_opaque_where_it_is_hot(params: dict[str, Any]) -> None:
    answer = await opened(memory_api(PatchEmbedder()), a_page(PATCHES), width=160, **params)
    assert answer.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(answer.content)) as shown:
        assert (shown.mode, shown.size) == ("RGBA", (160, 160))
        alpha = np.asarray(shown)[:, :, 3]
    assert alpha[60, 100] > 150 and alpha[60, 100] == alpha[40:80, 80:120].max()


async def test_words_as_a_picture_are_marked() -> None:
    for api, part in ((memory_api(), "auto"), (memory_api(PatchEmbedder()), "words")):
        text = "the torque of the axle" if part == "auto" else PATCHES
        answer = await opened(api, a_page(text), format="png", part=part)
        with Image.open(io.BytesIO(answer.content)) as shown:
            alpha = np.asarray(shown)[:, :, 3]
        rows = np.flatnonzero(alpha.any(axis=1))
        assert 0.24 < rows[0] / len(alpha) < rows[-1] / len(alpha) < 0.31
        assert 0 < (alpha[rows[5]] > 0).mean() < 0.4


POOLED = PLAIN.replace("pool-1", "pool-3")


@pytest.mark.parametrize(
    ("embedder", "page", "part", "code"),
    [
        (WordEmbedder(), a_page("torque"), "heat", "no_patch_grid"),
        (PatchEmbedder(), a_page("a page of other than 16 words"), "heat", "no_patch_grid"),
        (PatchEmbedder(POOLED), a_page(PATCHES), "heat", "pooled_vectors"),
        (PatchEmbedder(POOLED), a_page(PATCHES, has_words=False), "auto", "pooled_vectors"),
        (WordEmbedder(), a_page("torque", has_words=False), "words", "no_word_boxes"),
        (WordEmbedder(), a_page("", has_words=False), "words", "no_word_boxes"),
        (WordEmbedder(), replace(a_page("torque"), words=b"broken"), "words", "no_word_boxes"),
    ],
)
async def test_what_cannot_be_marked_is_told_with_a_code(embedder: Any, page: Page, part: str, code: str) -> None:
    answer = await opened(memory_api(embedder), page, format="png", part=part)
    assert (answer.status_code, answer.json()["code"]) == (409, code)
    shown = await opened(memory_api(embedder), page)
    assert code in [one["code"] for one in shown.json()["missing"]]


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"query": ""}, 400),
        ({"query": " "}, 400),
        ({"query": "x" * 4001}, 400),
        ({"width": 7}, 400),
        ({"part": "x"}, 422),
    ],
)
async def test_a_wrong_request_is_refused(params: dict[str, Any], status: int) -> None:
    assert (await opened(memory_api(), a_page("torque"), **params)).status_code == status


async def test_a_document_that_is_not_ready_has_words_but_no_heat_map() -> None:
    api = memory_api(PatchEmbedder())
    document = await api.add(1)
    page = a_page(PATCHES)
    record = PageRecord(
        document.page_key(1), document.id, 1, SIDE_PX, SIDE_PX, 16, "k.png", page.text, words=page.words
    )
    await api.services.documents.put_pages([record])
    async with api.client() as client:
        body = (await client.get(f"/documents/{document.id}/pages/1/highlights", params={"query": "torque"})).json()
    assert len(body["words"]) == 1 and body["missing"][0]["detail"].startswith("the document is queued")


async def test_a_very_high_page_has_a_picture_of_bounded_size() -> None:
    strip = replace(a_page("torque"), width_px=10, height_px=40_000)
    answer = await opened(memory_api(), strip, format="png", width=1600)
    with Image.open(io.BytesIO(answer.content)) as shown:
        assert shown.width * shown.height < 7_000_000


async def test_too_many_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(highlights, "_AT_ONCE", 0)
    answer = await opened(memory_api(), a_page("torque"))
    assert (answer.status_code, answer.json()["code"]) == (429, "overloaded")


@pytest.mark.parametrize(("vectors", "first"), [(736, 0), (747, 4)])
def test_the_grid_of_an_a4_page_at_200_dpi(vectors: int, first: int) -> None:
    assert patch_grid(768, 1654, 2339, vectors) == PatchGrid(32, 23, first)


def test_only_a_visual_embedder_without_pooling_has_a_grid() -> None:
    assert most_tokens(PLAIN) == 768
    assert most_tokens(PLAIN.replace("tokens-768", "tokens-2045")) == 2037
    with pytest.raises(NoPatchGrid, match="words"):
        most_tokens("local/all-MiniLM-L6-v2/abc/tokens-126")
    for family in ("colpali", "colmodernvbert", "neomme"):
        with pytest.raises(NoPatchGrid, match=f"{family}; heat maps"):
            most_tokens(PLAIN.replace("colqwen2", family, 1))
    with pytest.raises(PooledVectors, match="merged, 3 into one"):
        most_tokens(POOLED)
    with pytest.raises(NoPatchGrid, match="32 x 23"):
        patch_grid(768, 1654, 2339, 700)
