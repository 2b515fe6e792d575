"""What the last publishes prove: a broker that answers a metadata request may still refuse every message."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from aiokafka.errors import (
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    ProducerClosed,
    ProducerFenced,
    RecordListTooLargeError,
    UnknownProducerId,
)

_KEPT_S: Final = 15.0
"""A refusal is forgotten after this time: without new publishes, no success would ever take it back."""
_OF_ONE_PRODUCER = (
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    OutOfOrderSequenceNumber,
    ProducerClosed,
    ProducerFenced,
    UnknownProducerId,
)
"""A new producer does not meet them again, unless the broker has a fault. So the first one proves nothing."""
_OF_ONE_MESSAGE = (MessageSizeTooLargeError, RecordListTooLargeError)


@dataclass(frozen=True, slots=True)
class _Refusal:
    cause: str
    at_s: float
    proves_nothing: bool


class PublishOutcomes:
    """Remembers, for each topic, the failure that no later success has taken back."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._refused: dict[str, _Refusal] = {}
        self._unanswered: dict[str, set[asyncio.Future[Any]]] = {}

    def succeeded(self, topic: str) -> None:
        self._refused.pop(topic, None)
        self._unanswered.pop(topic, None)

    def failed(self, topic: str, error: BaseException) -> None:
        if isinstance(error, _OF_ONE_MESSAGE):
            return
        is_first = topic not in self._refused
        cause = f"{type(error).__name__}: {error}"
        self._refused[topic] = _Refusal(cause, self._monotonic_s(), isinstance(error, _OF_ONE_PRODUCER) and is_first)

    def unanswered(self, topic: str, delivery: asyncio.Future[Any]) -> None:
        """The caller has stopped waiting. The producer still tries: an acknowledged `delivery` proves the topic."""
        if not delivery.done():
            waiting = self._unanswered.setdefault(topic, set())
            waiting.add(delivery)
            delivery.add_done_callback(waiting.discard)

    def failing(self) -> dict[str, str]:
        """Return the topics on which publishing fails at present, each with the cause."""
        now_s = self._monotonic_s()
        self._refused = {topic: one for topic, one in self._refused.items() if now_s - one.at_s < _KEPT_S}
        waiting = {
            topic: "no acknowledgement yet of a message that waits for it"
            for topic, deliveries in self._unanswered.items()
            if deliveries
        }
        return waiting | {topic: one.cause for topic, one in self._refused.items() if not one.proves_nothing}
