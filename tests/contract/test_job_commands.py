"""The commands that one job sends to MongoDB. `workers.pipeline` gives the reason of each command."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from ingestion.adapters.mongo.document_store import MongoDocumentStore
from ingestion.bootstrap import Services
from ingestion.model import DocumentState
from tests.support.mongo_listeners import listening
from tests.support.pipelines import ScriptedEmbedder, job, pipeline, read, submitted


class Commands(CommandListener):
    """(command, collection) of every command on a collection, in order."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []

    def started(self, event: CommandStartedEvent) -> None:
        if isinstance(collection := event.command.get(event.command_name), str):
            self.sent.append((event.command_name, collection))

    def succeeded(self, event: CommandSucceededEvent) -> None: ...

    def failed(self, event: CommandFailedEvent) -> None: ...


@pytest.fixture
async def counted(services: Services) -> AsyncIterator[tuple[Services, Commands]]:
    """The services, with a client of MongoDB that notes its commands."""
    commands = Commands()
    with listening(commands):
        async with MongoDocumentStore(services.settings.mongo) as documents:
            yield replace(services, documents=documents), commands


async def test_besides_its_pages_a_job_sends_seven_commands_to_mongodb(
    counted: tuple[Services, Commands], tmp_path: Path
) -> None:
    services, commands = counted
    first = await submitted(services, tmp_path / "first.pdf", pages=1)
    second = await submitted(services, tmp_path / "second.pdf", pages=2)
    worker = pipeline(services, ScriptedEmbedder())
    await worker.run(job(first))
    commands.sent.clear()
    await worker.run(job(second))
    assert [command for command in commands.sent if command[1] != "pages"] == [
        ("find", "documents"),
        ("update", "documents"),
        ("find", "documents"),
        ("find", "collections"),
        ("update", "collections"),
        ("update", "documents"),
        ("update", "collections"),
    ]
    ready = await read(services, second)
    assert (ready.state, ready.dpi, ready.pages_done) == (DocumentState.READY, 40, 2)
