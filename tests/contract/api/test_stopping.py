"""Requests in progress when the API stops."""

from __future__ import annotations

import asyncio

import httpx
from fastapi import FastAPI

from ingestion.http.server import HttpServer
from ingestion.settings import HttpSettings
from tests.contract.api.helpers import DEADLINE_S, assert_problem


async def test_a_request_longer_than_the_grace_period_is_503(app: FastAPI) -> None:
    started = asyncio.Event()

    async def slow() -> None:
        started.set()
        await asyncio.Event().wait()

    app.add_api_route("/slow", slow)
    front = HttpServer(app, HttpSettings(), grace_s=1)
    server = front.server
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group, httpx.AsyncClient(timeout=None) as client:
        group.create_task(front.run())
        while not server.started:
            await asyncio.sleep(0.01)
        [socket] = server.servers[0].sockets
        asking = group.create_task(client.get(f"http://127.0.0.1:{socket.getsockname()[1]}/slow"))
        await started.wait()
        server.should_exit = True
        answer = await asking
    assert_problem(answer, 503, "not_ready")
    assert int(answer.headers["retry-after"]) > 0
