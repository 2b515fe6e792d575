"""The embedding service over HTTP, without any other server."""

from __future__ import annotations

import asyncio
import base64
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ingestion.errors import BadRequest, DeviceMemoryExhausted, WorkerFault
from ingestion.settings import ServingSettings
from ingestion.vectors.blob import from_bf16, to_bf16
from tests.support.serving import MODEL, HeldEmbedder, data_uri, eventually, picture, serving
from workers.embedding.serving.service import EmbeddingService

RED = data_uri(picture(40, 30))


async def test_a_string_and_a_list_are_embedded_in_order() -> None:
    embedder = HeldEmbedder()
    async with serving(embedder) as client:
        response = await client.post(["red pump", "valve"], model=MODEL)
        (alone,) = await client.embed("red pump")
    body = response.json()
    assert response.headers["x-embedder-fingerprint"] == embedder.fingerprint
    assert (body["object"], body["model"]) == ("list", MODEL)
    assert [(item["object"], item["index"], item["shape"]) for item in body["data"]] == [
        ("embedding", 0, [2, 16]),
        ("embedding", 1, [1, 16]),
    ]
    assert body["usage"]["prompt_tokens"] == body["usage"]["total_tokens"] > 0
    assert np.array_equal(alone, np.array(body["data"][0]["embedding"], np.float32).reshape(2, 16))


async def test_vectors_are_those_of_the_embedder_rounded_to_bf16() -> None:
    embedder = HeldEmbedder()
    (exact,) = await embedder.embed_queries(["red pump"])
    async with serving(embedder) as client:
        for encoding in ("float", "base64"):
            (found,) = await client.embed("red pump", encoding_format=encoding)
            assert np.array_equal(found, from_bf16(to_bf16(exact)))


async def test_base64_is_little_endian_float32() -> None:
    async with serving(HeldEmbedder()) as client:
        item = (await client.post("pump", encoding_format="base64")).json()["data"][0]
        numbers = (await client.post("pump")).json()["data"][0]["embedding"]
    assert base64.b64decode(item["embedding"]) == np.array(numbers, "<f4").tobytes()


async def test_mean_pooling_gives_one_vector_of_unit_length() -> None:
    async with serving(HeldEmbedder()) as client:
        (tokens,) = await client.embed("how is the pump bled")
        (pooled,) = await client.embed("how is the pump bled", pooling="mean")
    mean = tokens.mean(axis=0)
    assert pooled.shape == (1, 16)
    assert np.allclose(pooled[0], mean / np.linalg.norm(mean), atol=0.01)
    assert abs(np.linalg.norm(pooled) - 1) < 0.01


@pytest.mark.parametrize("pooling", ["none", "mean"])
async def test_a_text_without_tokens_has_no_rows(pooling: str) -> None:
    async with serving(HeldEmbedder()) as client:
        (found,) = await client.embed("", input_type="document", pooling=pooling)
    assert found.shape == (0, 16)


async def test_equal_inputs_of_a_request_are_computed_once() -> None:
    embedder = HeldEmbedder()
    async with serving(embedder) as client:
        first, other, again = await client.embed(["pump", "valve", "pump"])
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert embedder.seen == {"pump": 1, "valve": 1}


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"input": [1, 2]}, "input", "tokens are not supported"),
        ({"input": [[1, 2], [3]]}, "input", "tokens are not supported"),
        ({"input": 5}, "input", "must be a string"),
        ({"input": []}, "input", "empty list"),
        ({}, "input", "required"),
        ({"input": ["a"] * 65}, "input", "65 inputs are more than the 64"),
        ({"input": "a" * 200_001}, "input", "200001 characters"),
        ({"input": "a", "dimensions": 8}, "dimensions", "not supported"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format", "'float' or 'base64'"),
        ({"input": "a", "modality": "sound"}, "modality", "'text' or 'image'"),
        ({"input": "a", "pooling": "max"}, "pooling", "'none' or 'mean'"),
        ({"input": "a", "input_typ": "query"}, "input_typ", "no field"),
        ({"input": RED, "modality": "image"}, "modality", "image is not served here"),
        ({"input": "a", "model": "other"}, "model", "only 'words'"),
    ],
)
async def test_an_invalid_request_is_refused_and_the_error_names_the_field(
    fields: dict[str, Any], param: str, says: str
) -> None:
    embedder = HeldEmbedder()
    async with serving(embedder) as client:
        response = await client.http.post("/v1/embeddings", json=fields)
        error = response.json()["error"]
    assert response.status_code in (400, 404)
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert says in error["message"]
    assert not embedder.seen


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b'{"input": "\xff"}', b'{"input": "\\ud800"}'])
async def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    async with serving(HeldEmbedder()) as client:
        response = await client.http.post("/v1/embeddings", content=body)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


async def test_a_body_that_is_too_large_is_refused_whether_announced_or_not() -> None:
    async def chunks() -> Any:
        for _ in range(3):
            yield b" " * 500

    async with serving(HeldEmbedder(), settings=ServingSettings(embed_max_body_bytes=1000)) as client:
        announced = await client.http.post("/v1/embeddings", content=b" " * 1001)
        streamed = await client.http.post("/v1/embeddings", content=chunks())
    assert (announced.status_code, streamed.status_code) == (413, 413)


async def test_addresses_and_methods_that_do_not_exist_are_errors_of_the_same_shape() -> None:
    async with serving(HeldEmbedder()) as client:
        unknown, wrong = await client.http.get("/v1/nothing"), await client.http.get("/v1/embeddings")
    assert (unknown.status_code, wrong.status_code) == (404, 405)
    assert set(unknown.json()["error"]) == set(wrong.json()["error"]) == {"message", "type", "param", "code"}


async def test_images_are_embedded_from_data_uris() -> None:
    blue = data_uri(picture(20, 10, "blue", "WEBP"), "image/webp")
    async with serving(HeldEmbedder(wants_pixels=True)) as client:
        red, other = await client.embed([RED, blue], modality="image")
        (pooled,) = await client.embed(RED, modality="image", pooling="mean", encoding_format="base64")
    assert red.shape[1] == 16
    assert not np.array_equal(red[0], other[0])
    assert pooled.shape == (1, 16)


async def test_many_images_come_back_in_order() -> None:
    sizes = range(1, 65)
    uris = [data_uri(picture(size, 1, f"#{size:02x}0000")) for size in sizes]
    embedder = HeldEmbedder(wants_pixels=True)
    async with serving(embedder) as client:
        together = await client.embed(uris, modality="image")
        (last,) = await client.embed(uris[-1], modality="image")
    assert np.array_equal(together[-1], last)
    assert len({one.tobytes() for one in together}) == len(sizes)


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("http://127.0.0.1:9/page.png", "bad_request"),
        ("https://example.org/page.png", "bad_request"),
        ("file:///etc/passwd", "bad_request"),
        ("data:image/png,abc", "bad_request"),
        ("data:image/svg+xml;base64,PHN2Zy8+", "unsupported_image"),
        ("data:image/png;base64,@@@", "broken_image"),
        (data_uri(b"no image at all"), "broken_image"),
        (data_uri(picture(40, 30), "image/jpeg"), "broken_image"),
        (data_uri(picture(400, 300)[:-40]), "broken_image"),
        (data_uri(picture(101, 100)), "image_too_large"),
    ],
)
async def test_an_image_that_cannot_be_used_is_refused(uri: str, code: str) -> None:
    embedder = HeldEmbedder(wants_pixels=True)
    settings = ServingSettings(embed_max_image_px=10_000 if code == "image_too_large" else 1_000_000)
    async with serving(embedder, settings=settings) as client:
        error = await client.refused(["data:image/png;base64," + RED.partition(",")[2], uri], modality="image")
        health = await client.health()
    assert (error["code"], error["param"]) == (code, "input")
    assert "input 1" in error["message"]
    assert health["lanes"]["image"]["in_flight"] == health["lanes"]["image"]["cost_in_flight"] == 0
    assert not embedder.seen


async def test_a_small_file_that_claims_to_be_a_huge_picture_is_refused_by_its_header() -> None:
    bomb = bytearray(picture(1, 1))
    bomb[16:24] = struct.pack(">II", 60_000, 60_000)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bomb[12:29]))
    embedder = HeldEmbedder(wants_pixels=True)
    async with serving(embedder) as client:
        error = await client.refused(data_uri(bytes(bomb)), modality="image")
    assert error["code"] == "image_too_large"
    assert not embedder.seen


async def test_transparent_pixels_become_white() -> None:
    clear, white = io.BytesIO(), picture(8, 8, "white")
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(clear, "PNG")
    async with serving(HeldEmbedder(wants_pixels=True)) as client:
        found, expected = await client.embed([data_uri(clear.getvalue()), data_uri(white)], modality="image")
    assert np.array_equal(found, expected)


async def test_a_model_that_sees_pages_takes_no_text_for_a_document_and_no_image_for_a_query() -> None:
    async with serving(HeldEmbedder(wants_pixels=True)) as client:
        assert len(await client.embed("pump", input_type="query")) == 1
        assert (await client.refused("pump", input_type="document"))["param"] == "modality"
        assert (await client.refused(RED, modality="image", input_type="query"))["param"] == "input_type"


@pytest.mark.parametrize(("lane", "other"), [("text", "image"), ("image", "text")])
async def test_a_lane_that_is_not_served_is_refused(lane: str, other: str) -> None:
    inputs = {"text": "pump", "image": RED}
    async with serving(HeldEmbedder(wants_pixels=True), modalities=[lane]) as client:
        assert len(await client.embed(inputs[lane], modality=lane)) == 1
        assert (await client.refused(inputs[other], modality=other))["code"] == "lane_not_served"
        assert list((await client.health())["lanes"]) == [lane]


def test_a_service_without_any_lane_does_not_start() -> None:
    with pytest.raises(BadRequest, match="does not embed images"):
        EmbeddingService(HeldEmbedder(), ServingSettings(), model_id=MODEL, modalities=["image"])


async def test_the_model_is_described() -> None:
    embedder = HeldEmbedder(wants_pixels=True)
    async with serving(embedder) as client:
        (model,) = (await client.http.get("/v1/models")).json()["data"]
    assert model["id"] == MODEL
    assert model | {"fingerprint": embedder.fingerprint, "dim": 16, "wants_pixels": True, "max_inputs": 64} == model
    assert (model["modalities"], model["lane"]) == (["text", "image"], "both")


async def test_health_and_metrics_report_the_finished_work() -> None:
    async with serving(HeldEmbedder()) as client:
        await client.embed("pump")
        health = await client.health()
        metrics = (await client.http.get("/metrics")).text
    assert health["cache"] == "off"
    text = health["lanes"]["text"]
    assert (text["admitted"], text["refused"], text["in_flight"]) == (1, 0, 0)
    assert 0 < text["latency_ms"]["p50"] <= text["latency_ms"]["p99"]
    assert 'embedder_requests_total{lane="text",status="200"}' in metrics


async def test_a_full_lane_refuses_at_once_and_says_when_to_come_back() -> None:
    embedder = HeldEmbedder(wants_pixels=True)
    embedder.hold()
    async with serving(embedder, settings=ServingSettings(embed_text_limit_tokens=20)) as client:
        admitted = [asyncio.create_task(client.post("a" * 32)) for _ in range(2)]  # 10 tokens each
        await eventually(lambda: embedder.waiting == 2)
        refused = await client.post("pump")
        health = await client.health()
        image = asyncio.create_task(client.post(RED, modality="image"))
        await eventually(lambda: embedder.waiting == 3)
        embedder.let_go()
        answers = await asyncio.gather(*admitted, image)
        assert (await client.post("pump")).status_code == 200
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "overloaded"
    assert int(refused.headers["Retry-After"]) >= 1
    text = health["lanes"]["text"]
    assert (text["in_flight"], text["queue_depth"], text["cost_in_flight"], text["refused"]) == (2, 2, 20, 1)
    assert [answer.status_code for answer in answers] == [200, 200, 200]


async def test_documents_take_no_room_from_queries() -> None:
    embedder = HeldEmbedder()
    embedder.hold()
    limits = ServingSettings(embed_text_limit_tokens=20, embed_document_limit_tokens=20)
    async with serving(embedder, settings=limits) as client:
        admitted = asyncio.create_task(client.post("a" * 72, input_type="document"))
        await eventually(lambda: embedder.waiting == 1)
        assert (await client.post("pump", input_type="document")).status_code == 429
        query = asyncio.create_task(client.post("pump"))
        await eventually(lambda: embedder.waiting == 2)
        embedder.let_go()
        assert [answer.status_code for answer in await asyncio.gather(admitted, query)] == [200, 200]


async def test_a_request_larger_than_the_lane_is_let_in_when_the_lane_is_empty() -> None:
    async with serving(HeldEmbedder(), settings=ServingSettings(embed_text_limit_tokens=5)) as client:
        assert len(await client.embed(["a long request"] * 10)) == 10


async def test_a_caller_that_leaves_takes_its_work_along() -> None:
    embedder = HeldEmbedder()
    embedder.hold()
    async with serving(embedder) as client:
        asking = asyncio.create_task(client.post("pump"))
        await eventually(lambda: embedder.waiting)
        asking.cancel()
        await eventually(lambda: embedder.cancelled == 1)
        assert (await client.health())["lanes"]["text"]["in_flight"] == 0
        embedder.let_go()
        assert len(await client.embed("pump")) == 1


async def test_a_stop_waits_for_what_is_in_flight() -> None:
    embedder = HeldEmbedder()
    embedder.hold()
    async with serving(embedder) as client:
        asking = asyncio.create_task(client.post("pump"))
        await eventually(lambda: embedder.waiting)
        client.server.should_exit = True
        await eventually(lambda: not client.server.servers[0].is_serving())
        embedder.let_go()
        assert (await asking).status_code == 200


async def test_requests_that_outlast_the_grace_time_of_a_stop_get_503() -> None:
    embedder = HeldEmbedder()
    embedder.hold()
    async with serving(embedder, grace_s=1) as client:
        asking = asyncio.create_task(client.post("pump"))
        await eventually(lambda: embedder.waiting)
        client.server.should_exit = True
        answer = await asking
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "stopping")
    assert embedder.cancelled == 1


async def test_a_lost_model_is_503_and_not_ready_until_it_works_again() -> None:
    embedder = HeldEmbedder()
    async with serving(embedder) as client:
        assert (await client.http.get("/ready")).status_code == 200
        embedder.failure = WorkerFault("the embedder has been closed")
        lost = await client.post("pump")
        at_once = await client.post("pump")
        not_ready = await client.http.get("/ready")
        calls = embedder.seen.total()
        await client.post("pump")
    assert [lost.status_code, at_once.status_code, not_ready.status_code] == [503, 503, 503]
    assert lost.json()["error"]["code"] == "model_lost"
    assert "has been closed" in lost.json()["error"]["message"]
    assert int(lost.headers["Retry-After"]) >= 1
    assert embedder.seen.total() == calls


@pytest.mark.parametrize(
    ("failure", "status"),
    [(BadRequest("no such page"), 400), (DeviceMemoryExhausted("page"), 503)],
)
async def test_an_input_that_cannot_be_embedded_does_not_make_the_model_lost(failure: Exception, status: int) -> None:
    embedder = HeldEmbedder()
    async with serving(embedder) as client:
        embedder.failure = failure
        answer = await client.post("pump")
        embedder.failure = None
        assert (await client.post("pump")).status_code == 200
    assert answer.status_code == status


async def test_a_failure_that_does_not_come_again_is_500_and_the_model_goes_on() -> None:
    class Once(HeldEmbedder):
        async def _turn(self, names: Any) -> None:
            await super()._turn(names)
            if "bad" in names:
                raise ZeroDivisionError

    async with serving(Once()) as client:
        answer = await client.post("bad")
        assert (await client.post("good")).status_code == 200
        assert (await client.http.get("/ready")).status_code == 200
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")


async def test_a_model_that_returns_nan_is_not_believed() -> None:
    class Wrong(HeldEmbedder):
        async def embed_queries(self, queries: Any) -> Any:
            return [np.full((1, 16), np.nan, np.float32) for _ in queries]

    async with serving(Wrong()) as client:
        answer = await client.post("pump")
    assert answer.status_code == 500
    assert "NaN" in answer.json()["error"]["message"]
