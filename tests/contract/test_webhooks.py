"""Webhooks on a real MongoDB: of a janitor process that is killed again and again, and a deletion that is cut off."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from pymongo.errors import AutoReconnect

from ingestion.adapters.mongo.document_store import MongoDocumentStore
from ingestion.bootstrap import Services
from ingestion.errors import DependencyUnavailable
from ingestion.model import EventType, Webhook, WebhookDelivery, WebhookDeliveryState
from ingestion.prepare import prepare
from ingestion.webhooks.signature import new_secret
from tests.support.documents import S, in_state
from tests.support.hook_receiver import hook_receiver
from tests.support.waiting import wait_for

DEADLINE_S: Final = 90.0
DOCUMENTS: Final = 12
KILLS: Final = 2
HURRY: Final = {
    "PAGEMILL_WEBHOOK_ALLOW_PRIVATE": "true",
    "PAGEMILL_WEBHOOK_TIMEOUT_S": "1",
    "PAGEMILL_WEBHOOK_EVERY_S": "0.05",
    "PAGEMILL_WEBHOOK_RETRY_DELAYS_S": "1,1,1,1,1,1,1,1,1,1",
}


@asynccontextmanager
async def serving_janitor(folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A janitor process, which is killed at the end."""
    with (folder / "janitor.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "workers.cli", "serve", "janitor"),
            env={**os.environ, **HURRY},
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


async def test_a_webhook_whose_deletion_is_cut_off_can_be_deleted_again(
    document_store: MongoDocumentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CutOff:
        async def delete_many(self, _: object) -> None:
            raise AutoReconnect("cut off")

    webhook = Webhook("w1", "acme", "https://acme.example/", new_secret())
    await document_store.insert_webhook(webhook)
    await document_store.add_deliveries([WebhookDelivery("a", "w1", "e", EventType.READY, "{}")])
    with monkeypatch.context() as patch:
        patch.setattr(document_store, "_deliveries", CutOff())
        with pytest.raises(DependencyUnavailable):
            await document_store.delete_webhook("w1", "acme")
    await document_store.delete_webhook("w1", "acme")
    assert await document_store.webhook("w1") is None
    assert await document_store.deliveries("w1", WebhookDeliveryState.PENDING, 10) == []


async def test_a_janitor_that_is_killed_again_and_again_loses_no_event(services: Services, tmp_path: Path) -> None:
    await prepare(services.settings)
    documents = services.documents
    async with hook_receiver() as receiver:
        webhook = Webhook("w1", "acme", receiver.url, new_secret())
        await documents.insert_webhook(webhook)
        receiver.answers = [500, "silent", 500]

        def received() -> Counter[str]:
            return Counter(headers["webhook-id"] for headers, _ in receiver.requests)

        made = 0
        for kills in range(KILLS):
            async with serving_janitor(tmp_path):
                while made < DOCUMENTS * (kills + 1) // KILLS:
                    await in_state(documents, S.READY, f"d{made}", collection="acme.c")
                    made += 1
                # Killed while deliveries are under way.
                before = sum(received().values())
                await wait_for(lambda before=before: sum(received().values()) > before)  # type: ignore[misc]
        async with serving_janitor(tmp_path), asyncio.timeout(DEADLINE_S):
            while len(received()) < DOCUMENTS or await documents.deliveries(
                webhook.id, WebhookDeliveryState.PENDING, 1
            ):
                await asyncio.sleep(0.1)
        assert len(received()) == DOCUMENTS, "each event with one id"
        delivered = await documents.deliveries(webhook.id, WebhookDeliveryState.DELIVERED, 100)
        assert len(delivered) == DOCUMENTS
        assert await documents.pending_events(10) == []
