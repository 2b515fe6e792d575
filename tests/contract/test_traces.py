"""Request ids and traces through the processes of an installation, with a receiver that decodes OTLP."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from structlog.testing import capture_logs

from ingestion.prepare import prepare
from ingestion.settings import Settings, TracingSettings
from ingestion.tracing import span
from ingestion.tracing.export import tracing
from tests.support.pdfs import make_pdf, text_page
from tests.support.traces import OtlpReceiver
from workers.stack import app_specs
from workers.stack.datadir import DataDir
from workers.stack.supervise import ProcessSpec, Supervised

REQUEST_ID: Final = "upload-of-a-test"
TRACE_ID: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT: Final = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
SEARCH: Final = "POST /api/v1/collections/{collection}/search"
DEADLINE_S: Final = 90.0


@asynccontextmanager
async def installation(settings: Settings, folder: Path, extra: dict[str, str]) -> AsyncIterator[tuple[str, DataDir]]:
    """API, embedding service and one worker that uses it. Yields the API's address and the folder of the logs."""
    await prepare(settings)
    data_dir = DataDir(folder)
    data_dir.make("logs")
    ports, secrets = data_dir.ports(("api", "embedder", "worker-1")), data_dir.secrets()
    env = {name: value for name, value in os.environ.items() if name.startswith("PAGEMILL_")}
    env |= {**app_specs.app_environment(ports, secrets), "PAGEMILL_LOG_LEVEL": "debug", **extra}
    specs: list[ProcessSpec] = [
        app_specs.embedder_spec(ports, {**env, "PAGEMILL_EMBEDDER": "local"}),
        app_specs.api_spec(ports, env),
        app_specs.worker_spec("worker-1", ports, {**env, "PAGEMILL_EMBEDDER": "remote"}, drain_s=5),
    ]
    processes = [Supervised(spec, data_dir.log_path(spec.name)) for spec in specs]
    try:
        for process in processes[:2]:
            await process.start()
        for process in processes[:2]:  # the worker asks the embedding service for its model
            await process.wait_ready()
        await processes[2].start()
        await processes[2].wait_ready()
        yield f"http://127.0.0.1:{ports['api']}", data_dir
    finally:
        for process in reversed(processes):
            await process.stop()


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as running:
        yield running


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.1)


async def ingest(client: httpx.AsyncClient) -> str:
    """Upload a document with the ids of this test, and wait until it is ready."""
    headers = {"X-Request-ID": REQUEST_ID, "traceparent": TRACEPARENT}
    files = {"files": ("a.pdf", make_pdf([text_page("a pump"), text_page("a valve")]), "application/pdf")}
    answer = await client.post("/collections/manuals/documents", files=files, headers=headers)
    assert answer.status_code == 202, answer.text
    assert answer.headers["x-request-id"] == REQUEST_ID
    id_: str = answer.json()["documents"][0]["document_id"]
    async with asyncio.timeout(DEADLINE_S):
        while (state := (await client.get(f"/documents/{id_}")).json()["state"]) != "ready":
            assert state != "failed"
            await asyncio.sleep(0.1)
    return id_


def lines_of(data_dir: DataDir, process: str) -> list[dict[str, Any]]:
    lines = data_dir.log_path(process).read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def lines_of_request(data_dir: DataDir, process: str) -> set[str]:
    """The events of the log lines with the id of the upload."""
    return {line["event"] for line in lines_of(data_dir, process) if line.get("request_id") == REQUEST_ID}


async def test_an_upload_is_followed_through_all_processes(
    settings: Settings, tmp_path: Path, receiver: OtlpReceiver
) -> None:
    extra = {"PAGEMILL_OTLP_ENDPOINT": receiver.endpoint}
    async with installation(settings, tmp_path, extra) as (api_url, data_dir):
        key = data_dir.secrets().api_key
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=f"{api_url}/api/v1", headers=headers, timeout=60) as client:
            id_ = await ingest(client)
            found = await client.post("/collections/manuals/search", json={"query": "pump", "top_k": 1})
            assert [hit["document_id"] for hit in found.json()["hits"]] == [id_]
            event = f"send {settings.kafka.kafka_events_topic}"
            # The end of a process waits for its spans only a moment.
            await until(lambda: bool(receiver.named(SEARCH) and receiver.named(event)))
    assert lines_of_request(data_dir, "api") >= {"received", "request"}
    assert lines_of_request(data_dir, "worker-1") >= {"claimed", "settled"}
    assert lines_of_request(data_dir, "embedder") == {"request"}
    settled = next(line for line in lines_of(data_dir, "worker-1") if line["event"] == "settled")
    assert settled["trace_id"] == TRACE_ID

    upload = receiver.of_trace(TRACE_ID)
    topic = settings.kafka.kafka_jobs_topic
    assert {(service.removeprefix("pagemill-"), one.name) for service, one in upload} >= {
        ("api", "POST /api/v1/collections/{collection}/documents"),
        ("api", f"send {topic}"),
        ("worker", f"receive {topic}"),
        ("worker", f"process {topic}"),
        *(("worker", stage) for stage in ("claim", "attempt", "fetch", "render", "embed", "write", "ready")),
        ("worker", "POST /v1/embeddings"),
        ("embedder", "POST /v1/embeddings"),
        ("embedder", "compute"),
        ("worker", f"send {settings.kafka.kafka_events_topic}"),
    }
    by_id = {one.span_id: one.name for _, one in upload}
    parents = {(service, one.name): by_id.get(one.parent_span_id) for service, one in upload}
    assert parents["pagemill-worker", f"process {topic}"] == f"send {topic}"
    assert parents["pagemill-embedder", "POST /v1/embeddings"] == "POST /v1/embeddings"
    assert key not in str(receiver.spans)
    assert "a pump" not in str(receiver.spans)
    [search] = receiver.named(SEARCH)
    stages = {one.name for _, one in receiver.of_trace(search.trace_id.hex())}
    assert stages >= {"collection", "query_cache", "embed", "texts", "compute"}


class BlackHole:
    """Accepts connections, as far as its queue goes, and never reads or answers."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=16)
        self.endpoint = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def black_hole() -> Iterator[BlackHole]:
    hole = BlackHole()
    yield hole
    hole.close()


def _forget_logged_lines() -> None:
    """The SDK logs the same line once in 20 s. The test before this one may have caused it."""
    for one in logging.getLogger("opentelemetry.sdk._shared_internal").filters:
        vars(one).clear()


@pytest.mark.parametrize("is_dead", [True, False], ids=["dead", "black hole"])
def test_an_endpoint_that_takes_nothing_costs_no_time(black_hole: BlackHole, is_dead: bool) -> None:
    """More spans than the queue holds. One that waited for the receiver, or an end that did, would take an hour."""
    if is_dead:
        black_hole.close()
    _forget_logged_lines()
    with (
        capture_logs() as lines,
        tracing(TracingSettings(otlp_endpoint=black_hole.endpoint, otlp_timeout_s=3600), "t"),
    ):
        for _ in range(10_000):
            with span("x"):
                pass
    assert [line["event"] for line in lines] == ["traces are sent", "traces lost"], "one line for all of them"
    if not is_dead:
        assert "Queue full" in lines[1]["cause"]


def test_a_warning_that_loses_nothing_is_not_logged_as_a_loss(black_hole: BlackHole) -> None:
    with (
        capture_logs() as lines,
        tracing(TracingSettings(otlp_endpoint=black_hole.endpoint, otlp_timeout_s=3600), "t"),
    ):
        logging.getLogger("opentelemetry.sdk.trace").warning("Setting attribute on ended span.")
    assert [line["event"] for line in lines] == ["traces are sent"]


async def test_a_worker_ingests_and_stops_although_its_traces_go_nowhere(
    settings: Settings, tmp_path: Path, black_hole: BlackHole
) -> None:
    extra = {"PAGEMILL_OTLP_ENDPOINT": black_hole.endpoint}
    async with installation(settings, tmp_path, extra) as (api_url, data_dir):
        headers = {"Authorization": f"Bearer {data_dir.secrets().api_key}"}
        async with httpx.AsyncClient(base_url=f"{api_url}/api/v1", headers=headers, timeout=60) as client:
            await ingest(client)
    assert "stopped" in {line["event"] for line in lines_of(data_dir, "worker-1")}
