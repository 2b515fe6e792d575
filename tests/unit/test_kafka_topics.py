"""Topics are created on a broker that learns of them later than its controller."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ingestion.adapters.kafka import admin
from ingestion.adapters.kafka.topics import ensure_topics
from ingestion.settings import KafkaSettings


class LateBroker:
    """An admin client whose broker lists created topics at the third request."""

    def __init__(self, **options: Any) -> None:
        self.created: list[str] = []
        self.requests_since = 0

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def list_topics(self) -> list[str]:
        self.requests_since += bool(self.created)
        return self.created if self.requests_since > 2 else []

    async def create_topics(self, wanted: list[Any]) -> SimpleNamespace:
        self.created = [topic.name for topic in wanted]
        return SimpleNamespace(topic_errors=[(name, 0, None) for name in self.created])


async def test_created_topics_are_known_to_the_broker_on_return(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = LateBroker()
    monkeypatch.setattr(admin, "AIOKafkaAdminClient", lambda **options: broker)
    settings = KafkaSettings()
    await ensure_topics(settings)
    assert settings.kafka_jobs_topic in await broker.list_topics()
    assert broker.requests_since == 4
