"""Which lines of client libraries reach the log."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog
from aiokafka.errors import KafkaConnectionError

from ingestion.logs import configure
from ingestion.settings import LogSettings


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, config = root.handlers, root.level, structlog.get_config()
    yield
    root.handlers, root.level = handlers, level
    structlog.configure(**config)


@pytest.mark.parametrize(
    "text",
    [
        "Failed fetch messages from 1: KafkaConnectionError: Connection at 10.0.0.1:9092 closed",
        "Error sending OffsetCommitRequest to node 1 [KafkaConnectionError: Connection at h:1 closed] -- marking dead",
        "Marking the coordinator dead (node 1)for group g.",
        f"Unable to request metadata from node with id 1: {KafkaConnectionError('Connection at h:1 closed')!r}",
    ],
)
def test_a_connection_that_the_broker_closed_is_no_line(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure(LogSettings())
    logging.getLogger("aiokafka.consumer.fetcher").error(text)
    logging.getLogger("aiokafka.client").error("Unable connect to node with id 1")
    logged = capsys.readouterr().err
    assert text not in logged
    assert "Unable connect" in logged
