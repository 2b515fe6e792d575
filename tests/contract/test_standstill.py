"""A worker with a hung device logs it, releases its documents, and exits with status 1."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from ingestion.bootstrap import Services
from ingestion.model import DocumentState
from tests.support.pipelines import read, submitted

START_S = 60.0
END_S = 90.0

WORKER = """
import asyncio, threading
from contextlib import asynccontextmanager
import numpy as np
import workers.worker
from ingestion.logs import configure
from ingestion.settings import Settings
from tests.support.embedders import WordEmbedder
from workers.embedding.batching.batcher import Batcher

class Prepared:
    cost = 1
    def __init__(self, page):
        self.page = page

class Model(WordEmbedder):
    def prepare(self, page):
        return Prepared(page)
    def forward(self, batch):
        if any("hangs" in item.page.text for item in batch):
            threading.Event().wait()  # as in a driver: nothing in Python can end it
        return batch
    def finish(self, raw, batch):
        return [self._embed(item.page.text) for item in batch]
    def on_out_of_memory(self):
        pass

class Embedder(WordEmbedder):
    def __init__(self):
        super().__init__()
        self._batcher = Batcher(Model(), batch_cost=1)
        self.activity = self._batcher.activity
    async def embed_pages(self, pages):
        return await self._batcher.embed(pages)

@asynccontextmanager
async def open_embedder(*settings):
    yield Embedder()

workers.worker.open_embedder = open_embedder
workers.worker._END_S = 3.0
settings = Settings()
configure(settings.log)
asyncio.run(workers.worker.run_worker(settings))
"""


@pytest.mark.timeout(240)
async def test_a_worker_with_a_hung_device_exits_and_other_workers_take_its_documents(
    services: Services, tmp_path: Path
) -> None:
    earlier = await submitted(services, tmp_path / "a.pdf", pages=2, word="good")
    environment = {
        **os.environ,
        "PAGEMILL_STALL_S": "3",
        "PAGEMILL_STALL_FACTOR": "1",
        "PAGEMILL_EMBEDDER_TIMEOUT_S": "1",
        "PAGEMILL_MILVUS_TIMEOUT_S": "2",
        "PAGEMILL_RENDER_TIMEOUT_S": "5",
        "PAGEMILL_LEASE_S": "3",
        "PAGEMILL_DRAIN_S": "1",
        "PAGEMILL_FIXED_DPI": "40",
        "PAGEMILL_DPI_POLICY": "fixed",
        "PAGEMILL_LOG_FORMAT": "json",
    }
    log = tmp_path / "worker.log"
    with log.open("wb") as out:
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WORKER, stdout=out, stderr=out, env=environment, cwd=Path(__file__).parents[2]
        )
    try:
        async with asyncio.timeout(START_S):
            while "worker started" not in log.read_text():
                await asyncio.sleep(0.1)
        async with asyncio.timeout(START_S):
            while (await read(services, earlier)).state is not DocumentState.READY:
                await asyncio.sleep(0.1)
        hanging = await submitted(services, tmp_path / "b.pdf", pages=2, word="hangs")
        async with asyncio.timeout(END_S):
            await worker.wait()
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()
    assert worker.returncode == 1, log.read_text()
    said = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    assert any(line["event"] == "breaker open" and "device" in line["cause"] for line in said), "it goes not ready"
    left = await read(services, hanging)
    assert left.state is DocumentState.QUEUED, log.read_text()
    assert left.error is not None
    assert (left.attempts, left.error.code, left.error.stage) == (1, "stalled", "embed")
