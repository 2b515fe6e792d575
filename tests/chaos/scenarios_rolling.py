"""A new release on all processes: each is restarted, one after the other, while uploads go on."""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import httpx

from tests.chaos.documents import Source, several
from tests.chaos.experiment import Experiment, experiment
from tests.chaos.rig import Rig
from tests.chaos.waiting import until
from tests.support.ports import free_port
from workers.stack.app_specs import api_spec, app_environment
from workers.stack.datadir import Secrets
from workers.stack.supervise import Supervised

_PAGES: Final = 6
_REJOINED_S: Final = 90.0
_ACCEPTED_S: Final = 120.0
_PAUSE_S: Final = 0.1
_AGAIN: Final = frozenset({429, 502, 503, 504})


class Api:
    """A process of `pagemill serve api` on the servers of a rig, and its client."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        key = secrets.token_urlsafe(12)
        ports = {"api": free_port(), "embedder": free_port()}
        environment = {**rig.worker_environment, **app_environment(ports, Secrets(key, "", ""))}
        environment["PAGEMILL_EMBEDDER_URL"] = rig.worker_environment["PAGEMILL_EMBEDDER_URL"]
        self._process = Supervised(api_spec(ports, environment), rig.folder / "api.log")
        self._client = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{ports['api']}/api/v1", headers={"Authorization": f"Bearer {key}"}, timeout=30
        )
        self.refused = 0
        """Uploads that had to be sent again."""

    async def start(self) -> None:
        await self._process.start()
        await self._process.wait_ready()

    async def stop(self) -> None:
        await self._process.stop()

    async def close(self) -> None:
        await self._client.aclose()
        await self.stop()

    async def upload(self, source: Source) -> None:
        """Upload until the API has accepted it, as a client does: without an answer, the same request again."""
        files = {"files": (source.filename, source.content, "application/pdf")}
        async with asyncio.timeout(_ACCEPTED_S):
            while True:
                try:
                    answer = await self._client.post(f"/collections/{self._rig.collection}/documents", files=files)
                except httpx.TransportError:
                    self.refused += 1
                else:
                    if answer.status_code not in _AGAIN:
                        break
                    self.refused += 1
                await asyncio.sleep(_PAUSE_S)
        assert answer.status_code == 202, answer.text
        self._rig.sources[answer.json()["documents"][0]["document_id"]] = source


async def rolling_restarts(
    servers: Mapping[str, str], folder: Path, *, rounds: int, workers: int, upload_every_s: float = 0.3
) -> Experiment:
    """SIGTERM to the API, the embedding service and each worker in turn. Every process drains.

    Nothing is lost, no attempt is used up, and no page is embedded twice.
    """
    async with experiment("rolling restart", servers, folder) as run:
        rig, api = run.rig, Api(run.rig)
        try:
            await api.start()
            await rig.fleet.start(workers)
            uploading = asyncio.create_task(_upload_until_cancelled(api, upload_every_s))
            try:
                for _ in range(rounds):
                    await api.stop()
                    await api.start()
                    await asyncio.to_thread(rig.embedding.restart)
                    for number in range(1, workers + 1):
                        await _restart_worker(rig, f"worker-{number}")
                    run.runs += 2 + workers
                if uploading.done():
                    uploading.result()  # raises why the uploads ended early
            finally:
                uploading.cancel()
                await asyncio.gather(uploading, return_exceptions=True)
        finally:
            await api.close()
        audited = await run.conclude()
        run.expect(len(rig.sources) > rounds, f"only {len(rig.sources)} documents were uploaded")
        run.expect(audited.ready == len(rig.sources), f"{audited.ready} of {len(rig.sources)} documents are ready")
        run.expect(not audited.attempts_burnt, f"{audited.attempts_burnt} attempts were used up")
        run.expect(not audited.pages_again, f"{audited.pages_again} pages were embedded again")
    return run


async def _upload_until_cancelled(api: Api, every_s: float) -> None:
    """An upload that has begun ends first, so that the rig knows of every document."""
    number = 0
    while True:
        [source] = several(1, _PAGES, prefix=f"rolling{number}n")
        upload = asyncio.create_task(api.upload(source))
        try:
            await asyncio.shield(upload)
        except asyncio.CancelledError:
            await upload
            raise
        number += 1
        await asyncio.sleep(every_s)


async def _restart_worker(rig: Rig, name: str) -> None:
    """Let the worker drain, and wait until its successor has partitions or has an assignment without partitions."""
    [before] = [worker for worker in rig.fleet.running if worker.name == name]
    before.signal(signal.SIGTERM)
    await before.ended()

    def has_joined() -> bool:
        return any(worker.name == name and worker.events("partitions assigned") for worker in rig.fleet.running)

    await until(has_joined, _REJOINED_S, f"{name} is a member of the group again")
