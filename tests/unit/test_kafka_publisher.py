"""When a producer is replaced, and what a ping knows of the last publishes. The producers are fakes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    ProducerClosed,
    ProducerFenced,
    TopicAuthorizationFailedError,
)

from ingestion.adapters.kafka import publisher as module
from ingestion.adapters.kafka.publish_outcomes import PublishOutcomes
from ingestion.adapters.kafka.publisher import Publisher
from ingestion.errors import MessageTooLarge

FATAL = [OutOfOrderSequenceNumber(), ProducerFenced(), ProducerClosed()]


class FakeProducer:
    """Takes messages. A test answers each of them."""

    def __init__(self) -> None:
        self.deliveries: list[asyncio.Future[Any]] = []
        self.refusal: Exception | None = None
        self.is_closed = False

    async def send(self, topic: str, **message: Any) -> asyncio.Future[Any]:
        if self.refusal is not None:
            raise self.refusal
        self.deliveries.append(asyncio.get_running_loop().create_future())
        return self.deliveries[-1]


class Desk:
    """A publisher, and the producers that it has asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[FakeProducer] = []
        self.publisher = Publisher(self._start)  # type: ignore[arg-type]
        monkeypatch.setattr(module, "close_producer", self._close)

    async def _start(self) -> FakeProducer:
        await asyncio.sleep(0)
        self.made.append(FakeProducer())
        return self.made[-1]

    async def _close(self, producer: FakeProducer) -> None:
        producer.is_closed = True
        for delivery in producer.deliveries:
            if not delivery.done():
                delivery.set_exception(ProducerClosed())

    async def publishing(self, topic: str = "jobs") -> asyncio.Task[None]:
        task = asyncio.create_task(self.publisher.publish(topic, b"k", b"v", []))
        for _ in range(10):
            await asyncio.sleep(0)
        return task


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(monkeypatch)


@pytest.mark.parametrize("error", FATAL, ids=lambda error: type(error).__name__)
async def test_a_producer_whose_message_was_rejected_is_replaced(desk: Desk, error: KafkaError) -> None:
    first, waiting = await desk.publishing(), await desk.publishing("events")
    desk.made[0].deliveries[0].set_exception(error)
    with pytest.raises(type(error)):
        await first
    with pytest.raises(KafkaError):
        await waiting
    both = [await desk.publishing(), await desk.publishing()]
    assert len(desk.made) == 2, "one new producer for all"
    assert desk.made[0].is_closed
    for delivery in desk.made[1].deliveries:
        delivery.set_result(None)
    await asyncio.gather(*both)


async def test_a_producer_that_takes_no_message_is_replaced(desk: Desk) -> None:
    await desk.publisher.producer()
    desk.made[0].refusal = ProducerClosed()
    with pytest.raises(ProducerClosed):
        await desk.publisher.publish("jobs", b"k", b"v", [])
    await desk.publisher.producer()
    assert len(desk.made) == 2


@pytest.mark.parametrize("at_broker", [True, False])
async def test_a_message_that_is_too_large_says_so_and_says_nothing_about_the_topic(
    desk: Desk, at_broker: bool
) -> None:
    await desk.publisher.producer()
    if not at_broker:
        desk.made[0].refusal = MessageSizeTooLargeError()
    task = await desk.publishing()
    if at_broker:
        desk.made[0].deliveries[0].set_exception(MessageSizeTooLargeError())
    with pytest.raises(MessageTooLarge, match=r"topic jobs refuses a message of 2 bytes.*max\.message\.bytes"):
        await task
    assert desk.publisher.outcomes.failing() == {}
    await desk.publisher.producer()
    assert len(desk.made) == (2 if at_broker else 1), "the broker has not seen the number of the rejected message"


async def test_a_publish_that_was_given_up_counts_as_failing_until_it_is_acknowledged(desk: Desk) -> None:
    task = await desk.publishing()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert "jobs" in desk.publisher.outcomes.failing()
    desk.made[0].deliveries[0].set_result(None)
    await asyncio.sleep(0)
    assert desk.publisher.outcomes.failing() == {}


async def test_the_end_delivers_to_the_present_producer_and_waits_for_the_replaced_one(desk: Desk) -> None:
    await desk.publisher.producer()
    await desk.publisher.close()
    assert desk.made[0].is_closed


class TestOutcomes:
    def test_a_refused_topic_fails_until_a_success(self) -> None:
        outcomes = PublishOutcomes()
        outcomes.failed("jobs", TopicAuthorizationFailedError("jobs"))
        assert "TopicAuthorizationFailedError" in outcomes.failing()["jobs"]
        outcomes.succeeded("events")
        assert outcomes.failing().keys() == {"jobs"}
        outcomes.succeeded("jobs")
        assert outcomes.failing() == {}

    def test_a_refusal_is_forgotten_so_that_a_new_publish_can_prove_the_topic(self) -> None:
        now_s = 100.0
        outcomes = PublishOutcomes(lambda: now_s)
        outcomes.failed("jobs", TopicAuthorizationFailedError("jobs"))
        now_s += 15
        assert outcomes.failing() == {}

    @pytest.mark.parametrize("error", FATAL, ids=lambda error: type(error).__name__)
    def test_an_error_that_a_new_producer_mends_counts_when_the_new_producer_meets_it_too(
        self, error: KafkaError
    ) -> None:
        outcomes = PublishOutcomes()
        outcomes.failed("jobs", error)
        assert outcomes.failing() == {}
        outcomes.failed("jobs", error)
        assert outcomes.failing().keys() == {"jobs"}
