"""Follows a document to its end by server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import anyio

from ingestion.client.answers import ApiUnavailable
from ingestion.client.client import ApiClient
from ingestion.client.views import DocumentView

RECONNECT_S: Final = 1.0


async def follow(api: ApiClient, document_id: str) -> AsyncGenerator[DocumentView]:
    """Yield views of a document until it is settled. A broken stream is reopened after reading the record.

    Raises ApiError where the document is deleted meanwhile, ApiUnavailable where the API stays away.
    """
    while True:
        try:
            async with aclosing(api.events(document_id)) as events:
                async for view in events:
                    yield view
                    if view.state.is_settled:
                        return
        except ApiUnavailable:
            pass  # The record, read below, has what the stream did not send.
        view = await api.document(document_id)
        if view.state.is_settled:
            yield view
            return
        await anyio.sleep(RECONNECT_S)
