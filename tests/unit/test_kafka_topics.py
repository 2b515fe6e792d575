"""What the admin client is asked for, and how its answers are read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import NotCoordinatorForGroupError

from ingestion.adapters.kafka import admin
from ingestion.adapters.kafka.group_topics import unassigned_topics
from ingestion.adapters.kafka.topics import ensure_topics
from ingestion.errors import DependencyUnavailable
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


class MovingCoordinator:
    """An admin client whose broker has just handed the group to another one."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def describe_consumer_groups(self, groups: list[str]) -> list[SimpleNamespace]:
        [name] = groups
        group = {"error_code": NotCoordinatorForGroupError.errno, "group": name, "state": "", "members": []}
        return [SimpleNamespace(to_object=lambda: {"groups": [group]})]


async def test_a_broker_that_cannot_describe_the_group_does_not_mean_that_all_topics_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admin, "AIOKafkaAdminClient", lambda **options: MovingCoordinator())
    with pytest.raises(DependencyUnavailable, match="NotCoordinator"):
        await unassigned_topics(KafkaSettings())
