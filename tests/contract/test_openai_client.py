"""The `openai` Python client, as it is, with the embedding service in a process of its own."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator

import numpy as np
import openai
import pytest

from tests.support.embedders import WordEmbedder
from tests.support.replica import Replica, replica

DIM = 32
LANE_TOKENS = 64
LONG_TEXT = "x" * 400  # estimated at more than LANE_TOKENS, so that it fills the lane


@pytest.fixture(scope="module")
def service() -> Iterator[Replica]:
    with replica("words", embed_text_limit_tokens=LANE_TOKENS, embed_max_inputs=8, embed_cache_ttl_s=0) as one:
        yield one


@pytest.fixture
def client(service: Replica) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="unused", max_retries=0) as found:
        yield found


def test_a_string_is_embedded_in_the_clients_default_encoding(client: openai.OpenAI) -> None:
    """The client asks for base64 and reads it as one row of numbers; `shape` says how many rows they are."""
    answer = client.embeddings.create(model="words", input="two words")
    (item,) = answer.data
    assert (answer.object, answer.model, item.object, item.index) == ("list", "words", "embedding", 0)
    assert item.model_extra == {"shape": [2, DIM]}
    rows = np.array(item.embedding).reshape(2, DIM)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=0.01)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0


def test_a_list_is_embedded_in_order(client: openai.OpenAI) -> None:
    texts = ["one", "two words", "and three words", "one"]
    answer = client.embeddings.create(model="words", input=texts)
    assert [item.index for item in answer.data] == [0, 1, 2, 3]
    assert [(item.model_extra or {})["shape"] for item in answer.data] == [[1, DIM], [2, DIM], [3, DIM], [1, DIM]]
    assert answer.data[0].embedding == answer.data[3].embedding


def test_both_encodings_carry_the_same_numbers(client: openai.OpenAI) -> None:
    as_floats = client.embeddings.create(model="words", input="two words", encoding_format="float")
    as_base64 = client.embeddings.create(model="words", input="two words", encoding_format="base64")
    numbers = as_floats.data[0].embedding
    assert len(numbers) == 2 * DIM
    raw: object = as_base64.data[0].embedding  # asked for by name, base64 is left to the caller
    assert isinstance(raw, str)
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(raw), "<f4"), np.array(numbers, np.float32))


def test_pooling_gives_the_one_vector_that_other_programs_expect(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="words", input="two words", extra_body={"pooling": "mean"})
    assert len(answer.data[0].embedding) == DIM


def test_models_are_listed(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert model.id == "words"
    assert (model.model_extra or {})["fingerprint"] == WordEmbedder().fingerprint


@pytest.mark.parametrize(
    "asked",
    [
        {"input": []},
        {"input": ["text"] * 9},
        {"input": [[1, 2, 3]]},
        {"input": "text", "dimensions": 8},
        {"input": "text", "encoding_format": "hex"},
        {"input": "https://example.org/image.png", "extra_body": {"modality": "image"}},
    ],
)
def test_an_unsupported_request_is_a_bad_request_error(client: openai.OpenAI, asked: dict[str, object]) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="words", **asked)  # type: ignore[arg-type]
    assert refused.value.type == "invalid_request_error"
    assert refused.value.code


def test_a_model_that_is_not_there_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="another", input="text")


async def test_overload_is_a_rate_limit_that_says_when_to_come_back(service: Replica) -> None:
    async with openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="unused", max_retries=0) as client:
        holder = asyncio.create_task(client.embeddings.create(model="words", input=f"sleep 60 {LONG_TEXT}"))
        try:
            with pytest.raises(openai.RateLimitError) as refused:
                async with asyncio.timeout(20):
                    while True:  # until the request that fills the lane has arrived
                        await client.embeddings.create(model="words", input="text")
        finally:
            holder.cancel()
            await asyncio.wait([holder])
    assert refused.value.code == "overloaded"
    assert int(refused.value.response.headers["retry-after"]) >= 1
