"""Which lines of client libraries reach the log."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog
from aiokafka.errors import KafkaConnectionError

from ingestion.logs import RepeatFilter, configure
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


def test_a_line_of_the_client_is_repeated_only_after_a_while(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 0.0
    monkeypatch.setattr("ingestion.logs.time.monotonic", lambda: now_s)
    configure(LogSettings())
    client, own = logging.getLogger("aiokafka"), logging.getLogger("workers.worker")
    for now_s in (0.0, 1.0, 29.0, 30.0, 31.0):  # noqa: B007  # read by the clock
        client.error("Unable connect to %s", "broker-1")
        client.error("Unable connect to %s", "broker-2")
        own.error("an outcome")
    logged = capsys.readouterr().err
    assert logged.count("broker-1") == logged.count("broker-2") == 2
    assert logged.count("an outcome") == 5


def test_lines_of_many_texts_take_bounded_memory() -> None:
    filter_ = RepeatFilter()
    for number in range(2_000):
        record = logging.LogRecord("aiokafka", logging.ERROR, "", 0, f"text {number}", (), None)
        assert filter_.filter(record)
    assert len(filter_._passed_s) <= 256
