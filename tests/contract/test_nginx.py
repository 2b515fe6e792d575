"""deploy/nginx/embedder.conf in a real nginx, before two processes of the embedding service."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray
from PIL import Image

from tests.support.composefile import ROOT
from tests.support.ports import free_port
from tests.support.replica import Replica, replica
from tests.support.serving import data_uri, eventually
from tests.support.waiting import wait_until

SHIPPED = (ROOT / "deploy/nginx/embedder.conf").read_text()
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
LANE_TOKENS = 64
LONG_TEXT = "x" * 400  # estimated at more than LANE_TOKENS, so that it fills the lane
MAIN = """
{user}
daemon off;
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/embedder.conf;
}}
"""

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


@dataclass(frozen=True)
class NginxFront:
    """nginx in front of replicas. `http` is a client of nginx."""

    http: httpx.AsyncClient
    replicas: list[Replica]
    log: Path

    async def ask(self, text: str) -> httpx.Response:
        return await self.http.post("/v1/embeddings", json={"input": text})

    @asynccontextmanager
    async def full(self, one: Replica) -> AsyncIterator[None]:
        """Fill the lane of one replica with a request that does not go through nginx."""
        async with httpx.AsyncClient(base_url=one.url, timeout=60) as client:
            holder = asyncio.create_task(client.post("/v1/embeddings", json={"input": f"sleep 60 {LONG_TEXT}"}))
            await eventually(lambda: in_flight(one))
            try:
                yield
            finally:
                holder.cancel()
                await asyncio.wait([holder])
        await eventually(lambda: not in_flight(one))


def in_flight(one: Replica) -> int:
    found: int = httpx.get(f"{one.url}/health").json()["lanes"]["text"]["in_flight"]
    return found


@pytest_asyncio.fixture
async def front(replicas: list[Replica], tmp_path: Path) -> AsyncIterator[NginxFront]:
    with nginx(tmp_path, [one.port for one in replicas]) as url:
        async with httpx.AsyncClient(base_url=url, timeout=30) as http:
            yield NginxFront(http, replicas, tmp_path / "error.log")


@pytest.fixture(scope="module")
def replicas() -> Iterator[list[Replica]]:
    limits = {"embed_text_limit_tokens": LANE_TOKENS, "embed_cache_ttl_s": 0}
    with replica("one", "--pixels", **limits) as one, replica("two", "--pixels", **limits) as two:
        yield [one, two]


@contextmanager
def nginx(folder: Path, ports: list[int]) -> Iterator[str]:
    """Run nginx with the shipped configuration and these replicas. Yields its URL."""
    port = free_port()
    servers = "\n".join(f"server 127.0.0.1:{behind} max_fails=0;" for behind in ports)
    rendered = SHIPPED.replace("listen 8092;", f"listen 127.0.0.1:{port};").replace(
        "server embedder:8091 max_fails=0;", servers
    )
    assert rendered.count("127.0.0.1") == len(ports) + 1
    (folder / "embedder.conf").write_text(rendered)
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder, user=user))
    assert NGINX is not None
    process = subprocess.Popen([NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"])
    try:
        wait_until(lambda: _listens(f"http://127.0.0.1:{port}") or process.poll() is not None, 10)
        assert process.poll() is None, (folder / "error.log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _listens(url: str) -> bool:
    try:
        httpx.get(url)
    except httpx.TransportError:
        return False
    return True


async def test_load_is_spread_over_the_replicas(front: NginxFront) -> None:
    answers = await asyncio.gather(*(front.ask(f"sleep 0.05 {number}") for number in range(16)))
    served = Counter(answer.json()["model"] for answer in answers)
    assert set(served) == {"one", "two"}
    assert min(served.values()) >= 5, served


async def test_requests_to_a_full_replica_go_to_the_other(front: NginxFront) -> None:
    first, second = front.replicas
    async with front.full(first):
        answers = [await front.ask(f"question {number}") for number in range(10)]
    assert {(answer.status_code, answer.json()["model"]) for answer in answers} == {(200, second.name)}


async def test_if_all_replicas_are_full_the_answer_is_429_with_retry_after(front: NginxFront) -> None:
    first, second = front.replicas
    async with front.full(first), front.full(second):
        answers = await asyncio.gather(*(front.ask(f"question {number}") for number in range(10)))
    assert {answer.status_code for answer in answers} == {429}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
    assert {answer.json()["error"]["code"] for answer in answers} == {"overloaded"}
    assert (await front.ask("question")).status_code == 200, "a full replica is used again"


async def test_no_request_fails_when_a_replica_is_killed(tmp_path: Path, replicas: list[Replica]) -> None:
    survivor = replicas[0]
    with replica("doomed") as doomed, nginx(tmp_path, [survivor.port, doomed.port]) as url:
        async with httpx.AsyncClient(base_url=url, timeout=30) as http:
            answers: list[httpx.Response] = []

            async def keep_asking(client: int) -> None:
                for number in range(30):
                    body = {"input": f"sleep 0.03 {client} {number}"}
                    answers.append(await http.post("/v1/embeddings", json=body))

            async def kill_amid() -> None:
                await eventually(lambda: len(answers) >= 20, timeout_s=60)
                await asyncio.to_thread(doomed.kill)

            await asyncio.gather(kill_amid(), *(keep_asking(client) for client in range(4)))
    assert Counter(answer.status_code for answer in answers) == {200: 120}
    assert {answer.json()["model"] for answer in answers[:20]} == {"doomed", survivor.name}
    assert {answer.json()["model"] for answer in answers[-20:]} == {survivor.name}


async def test_large_images_are_not_buffered_on_disk(front: NginxFront) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2200, 2300, 3), np.uint8)
    uri = _uncompressed_png(noise)
    assert len(uri) > 20_000_000
    answer = await front.http.post("/v1/embeddings", json={"input": [uri], "modality": "image"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"][0]["shape"] == [1, 32]
    assert front.log.read_text() == "", "nginx warns where it writes a temporary file"


def _uncompressed_png(pixels: NDArray[np.uint8]) -> str:
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG", compress_level=0)
    return data_uri(encoded.getvalue())
