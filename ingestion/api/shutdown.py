"""What becomes of requests that are still being worked on when this process has to stop."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingestion.api.problems import RETRY_AFTER_S, problem


class ShutdownMiddleware:
    """Answers a request that the HTTP server gives up on with 503; the server itself would say 500, in plain text."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_begun = False

        async def watched(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except asyncio.CancelledError:
            if not has_begun:
                headers = {"Retry-After": str(RETRY_AFTER_S)}
                answer = problem(503, "not_ready", "this process is stopping; try again later", headers=headers)
                await answer(scope, receive, send)
            raise
