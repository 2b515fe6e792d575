"""A real HTTP receiver of webhooks, in this process, which answers as it is told."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send


@dataclass
class HookReceiver:
    """`answers`: the statuses of the next requests, 204 after them. "silent" answers nothing."""

    url: str
    answers: list[int | str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    """Of each answer."""
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        self.requests.append((dict(request.headers), await request.body()))
        answer = self.answers.pop(0) if self.answers else 204
        if answer == "silent":
            await self.left.wait()
            return
        await Response(status_code=int(answer), headers=self.headers)(scope, receive, send)


@asynccontextmanager
async def hook_receiver(**tls: Any) -> AsyncIterator[HookReceiver]:
    """`tls`: options of uvicorn."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        scheme = "https" if tls else "http"
        receiver = HookReceiver(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/hook")
        config = uvicorn.Config(receiver, log_config=None, access_log=False, lifespan="off", **tls)
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        task = asyncio.create_task(server.serve([listener]))
        try:
            yield receiver
        finally:
            receiver.left.set()
            server.should_exit = True
            await task
