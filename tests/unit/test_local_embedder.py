"""The MiniLM stand-in: shapes, unit length, and that neighbours in a batch change nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ingestion.model import ROWS_PER_PAGE, Page
from ingestion.vectors import maxsim
from workers.embedding.local import LocalEmbedder

TOLERANCE = 2e-5
"""Largest difference of a component between a page alone and the same page in any batch."""

WORDS = ["boiler", "valve", "pressure", "the", "of", "harbour", "quay", "wind", "annual", "table", "42", "°C", "naïve"]


@pytest.fixture(scope="module")
def embedder() -> LocalEmbedder:
    return LocalEmbedder()


def page(text: str) -> Page:
    return Page(1, 10, 10, b"", text)


async def test_one_unit_vector_per_token(embedder: LocalEmbedder) -> None:
    vectors = (await embedder.embed_pages([page("the boiler")]))[0]
    assert vectors.dtype == np.float32
    assert vectors.shape == (2, embedder.dim)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


async def test_a_page_without_text_has_no_vectors_and_a_long_one_is_cut(embedder: LocalEmbedder) -> None:
    empty, long = await embedder.embed_pages([page(" \n"), page("pump " * 5000)])
    assert empty.shape == (0, embedder.dim)
    assert long.shape == (ROWS_PER_PAGE, embedder.dim)


async def test_nothing_in_gives_nothing_out(embedder: LocalEmbedder) -> None:
    assert await embedder.embed_pages([]) == []


@hypothesis_settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=300).map(" ".join), min_size=2, max_size=6), st.data())
def test_batch_neighbours_and_order_do_not_change_a_page(
    embedder: LocalEmbedder, texts: list[str], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(texts))))
    together = embedder._embed([texts[i] for i in order], ROWS_PER_PAGE)
    for index, vectors in zip(order, together, strict=True):
        alone = embedder._embed([texts[index]], ROWS_PER_PAGE)[0]
        assert vectors.shape == alone.shape
        assert np.abs(vectors - alone).max(initial=0) <= TOLERANCE


async def test_a_question_finds_its_passage(embedder: LocalEmbedder) -> None:
    pages = await embedder.embed_pages(
        [page("Descale the boiler every three months."), page("Ships moor at the northern quay.")]
    )
    query = (await embedder.embed_queries(["where do boats dock?"]))[0]
    assert maxsim(query, pages).argmax() == 1


def test_the_fingerprint_names_the_weights(embedder: LocalEmbedder) -> None:
    assert embedder.fingerprint.startswith("local/all-MiniLM-L6-v2/")
    assert LocalEmbedder().fingerprint == embedder.fingerprint
