"""The broker: one list of records for each topic."""

from __future__ import annotations

from collections import defaultdict

from ingestion import dead_letters
from ingestion.dead_letters import DeadLetter
from ingestion.messages import Headers, Record, decode_job, encode_event, encode_job, first_headers, retry_headers
from ingestion.model import Document, IngestJob
from ingestion.settings import KafkaSettings
from ingestion.tracing import NO_ORIGIN, Origin, publishing


class MemoryJobQueue:
    """JobQueue, with the topics and the wire format of the settings. `topics` is open to tests.

    Each topic has one partition. Retries are not delayed: a test reads them from their topic.
    """

    def __init__(self, settings: KafkaSettings | None = None) -> None:
        self._settings = settings or KafkaSettings()
        self.topics: defaultdict[str, list[Record]] = defaultdict(list)

    async def publish(self, job: IngestJob) -> None:
        origin = Origin(job.request_id, job.traceparent)
        self._append(self._settings.kafka_jobs_topic, *encode_job(job), origin)

    async def retry(self, record: Record, delay_s: int) -> None:
        topic = self._settings.retry_topics[delay_s]
        self._append(topic, record.key, record.value, retry_headers(record, delay_s * 1000))

    async def publish_dead_letter(self, letter: DeadLetter) -> None:
        self._append(self._settings.dead_letter_topic, *dead_letters.encode(letter))

    async def replay(self, letter: DeadLetter) -> None:
        headers = first_headers(letter.headers)
        self._append(self._settings.kafka_jobs_topic, letter.key, letter.value, headers)

    async def announce(self, document: Document) -> None:
        self._append(self._settings.kafka_events_topic, *encode_event(document))

    async def ping(self) -> None: ...

    @property
    def jobs(self) -> list[Record]:
        """The records of the jobs topic, oldest first."""
        return self.topics[self._settings.kafka_jobs_topic]

    @property
    def job_ids(self) -> list[str]:
        """The document ids of the jobs, oldest first."""
        return [decode_job(record.value).document_id for record in self.jobs]

    def retries(self, delay_s: int) -> list[Record]:
        return self.topics[self._settings.retry_topics[delay_s]]

    @property
    def letters(self) -> list[DeadLetter]:
        return [dead_letters.decode(record) for record in self.topics[self._settings.dead_letter_topic]]

    @property
    def events(self) -> list[Record]:
        return self.topics[self._settings.kafka_events_topic]

    def _append(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, origin: Origin = NO_ORIGIN
    ) -> None:
        records = self.topics[topic]
        with publishing(topic, key, headers, origin) as extended:
            records.append(Record((topic, 0), len(records), key, value, tuple(extended)))
