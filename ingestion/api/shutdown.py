"""Answers for requests that are in progress when the process stops."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingestion.api.problems import RETRY_AFTER_S, problem


class ShutdownMiddleware:
    """Answers 503 to a request that uvicorn cancels at shutdown. Its own answer would be 500 in plain text."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_started = False

        async def note_start(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self._app(scope, receive, note_start)
        except asyncio.CancelledError:
            if not has_started:
                headers = {"Retry-After": str(RETRY_AFTER_S)}
                answer = problem(503, "not_ready", "this process is stopping; try again later", headers=headers)
                await answer(scope, receive, send)
            raise
