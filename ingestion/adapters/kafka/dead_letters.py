"""Read the dead-letter topic without a consumer group."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from heapq import merge
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from ingestion import dead_letters
from ingestion.adapters.kafka.client_options import consumer_options
from ingestion.adapters.kafka.client_start import start_client
from ingestion.adapters.kafka.membership import close_consumer
from ingestion.adapters.kafka.producer import translated
from ingestion.dead_letters import DeadLetter
from ingestion.errors import BadMessage, BadRequest
from ingestion.messages import Record
from ingestion.ports import PlacedLetter
from ingestion.settings import KafkaSettings

log = structlog.get_logger(__name__)

_POLL_MS: Final = 500
_RECORDS_PER_PART: Final = 100
"""The records of a partition that a backward read holds at a time."""
_BACKWARD_READS: Final = 2
"""The backward reads of a process at a time. Each holds up to _RECORDS_PER_PART records, of a megabyte at worst."""


class KafkaDeadLetters:
    """Implements the port DeadLetters."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._turns = asyncio.Semaphore(_BACKWARD_READS)

    async def read(self) -> AsyncIterator[DeadLetter]:
        seen: set[str] = set()
        async with self._consumer() as consumer:
            ends = await consumer.end_offsets(consumer.assignment())
            for at, end in ends.items():
                async for record in _records(consumer, at, await consumer.position(at), end):
                    letter = _letter_of(record)
                    if letter is not None and letter.id not in seen:
                        seen.add(letter.id)
                        yield letter

    async def newest(self, before: str | None = None) -> AsyncGenerator[PlacedLetter, None]:
        wanted = {} if before is None else _offsets_of(before)
        async with self._turns, self._consumer() as consumer:
            ends = await consumer.end_offsets(consumer.assignment())
            begins = await consumer.beginning_offsets(consumer.assignment())
            places = {at: min(end, wanted.get(at.partition, end)) for at, end in ends.items()}
            while any(places[at] > begins[at] for at in places):
                starts = {at: max(begins[at], place - _RECORDS_PER_PART) for at, place in places.items()}
                parts = [[one async for one in _records(consumer, at, starts[at], places[at])][::-1] for at in places]
                for record in merge(*parts, key=lambda one: -one.timestamp_ms):
                    places[TopicPartition(*record.partition)] = record.offset
                    if (letter := _letter_of(record)) is not None:
                        yield PlacedLetter(letter, _place_of(places))
                places = starts

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[AIOKafkaConsumer]:
        """A consumer of all partitions of the topic, at their beginnings."""
        async with translated():
            options = consumer_options(self._settings, auto_offset_reset="earliest", enable_auto_commit=False)
            consumer = AIOKafkaConsumer(self._settings.dead_letter_topic, **options)
            await start_client(consumer, self._settings)
            try:
                yield consumer
            finally:
                await close_consumer(consumer)


async def _records(consumer: AIOKafkaConsumer, at: TopicPartition, start: int, end: int) -> AsyncIterator[Record]:
    """The records of the partition from the offset `start` to before `end`."""
    consumer.seek(at, start)
    while await consumer.position(at) < end:
        for found in (await consumer.getmany(at, timeout_ms=_POLL_MS)).get(at, ()):
            if found.offset >= end:
                return
            yield Record(
                tuple(at), found.offset, found.key, found.value, tuple(found.headers), max(0, found.timestamp)
            )


def _letter_of(record: Record) -> DeadLetter | None:
    try:
        return dead_letters.decode(record)
    except BadMessage as error:
        log.warning("record on the dead-letter topic skipped", cause=error.message)
        return None


def _place_of(offsets: dict[TopicPartition, int]) -> str:
    """For each partition, the offset before which it is to be read."""
    return "-".join(f"{at.partition}.{offset}" for at, offset in sorted(offsets.items()))


def _offsets_of(place: str) -> dict[int, int]:
    """Raises BadRequest."""
    pairs = [one.partition(".") for one in place.split("-")]
    if len(pairs) > 1000 or not all(_is_offset(name) and _is_offset(offset) for name, _, offset in pairs):
        raise BadRequest("`after` is no place in the list of dead letters: send the `next` of an earlier answer")
    return {int(name): int(offset) for name, _, offset in pairs}


def _is_offset(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 18
