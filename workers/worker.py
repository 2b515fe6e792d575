"""The worker process: its parts, its start, its health and its stop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from functools import partial
from typing import Final, NoReturn

import structlog

from ingestion.access import check_access
from ingestion.adapters.kafka.consumer import JobConsumer
from ingestion.adapters.kafka.group_topics import unassigned_topics
from ingestion.adapters.kafka.topic_check import log_topic_faults
from ingestion.bootstrap import Services, open_services
from ingestion.concurrency.supervision import TaskSupervisor
from ingestion.ports import Embedder, EmbeddingServer, Progress
from ingestion.retrying import retrying
from ingestion.settings import Settings
from ingestion.vectors.encoding import VectorEncoding
from workers.attempt.claims import Claims
from workers.attempt.outage_evidence import EMBEDDER, OutageEvidence
from workers.attempt.outcomes import OutcomePublisher
from workers.attempt.retry_policy import FailureRun
from workers.attempt.store import PageStore
from workers.consumer.capacity import suspended_capacity
from workers.consumer.group_watch import GroupWatch
from workers.consumer.hang import HangShutdown, stall_detector_of
from workers.consumer.loop import JobLoop
from workers.consumer.record_runner import RecordRunner
from workers.consumer.stragglers import Stragglers
from workers.conversion.factory import converter_of
from workers.embedding.factory import open_embedder
from workers.ocr.reader import OcrReader
from workers.pipeline import Pipeline
from workers.rendering.renderer import PdfRenderer
from workers.rendering.selftest import SelfTestFailed, self_test
from workers.runtime.breaker import Breakers
from workers.runtime.health import Health, HealthServer
from workers.runtime.watchdog import exit_within, watch

log = structlog.get_logger(__name__)

_POLL_SILENCE_S: Final = 15.0
_SELF_TEST_S: Final = 900.0
"""A model on a slow CPU may take minutes for its first page."""
_EXIT_S: Final = 30.0
_REPORT_EVERY_S: Final = 3.0


async def run_worker(settings: Settings) -> None:
    """Ingest documents until SIGTERM or SIGINT. Raises DependencyUnavailable where the broker is down at the start.

    Raises DependencyRefused at the start where a server refuses this process.
    """
    name = settings.worker.worker_id or f"{socket.gethostname()}-{os.getpid()}"
    structlog.contextvars.bind_contextvars(worker=name)
    async with open_services(settings) as services, open_embedder(settings.embedder, settings.render) as embedder:
        await check_access(services)
        evidence = OutageEvidence()
        breakers = _breakers(services, embedder, evidence)
        hang_shutdown = HangShutdown(breakers)
        pipeline = _pipeline(name, services, embedder, breakers, hang_shutdown, evidence)
        await log_topic_faults(settings.kafka)
        await _test_itself(pipeline, settings.render.render_window_pages)
        loop = JobLoop(
            JobConsumer(settings.kafka, name),
            RecordRunner(pipeline.run, services.documents, services.queue, pipeline.outcomes).run,
            breakers,
            jobs_in_flight=settings.worker.jobs_in_flight,
            max_ahead=settings.worker.max_ahead,
            drain_s=settings.worker.drain_s,
            flows=services.documents,
        )
        group_watch = GroupWatch(
            partial(unassigned_topics, settings.kafka), settings.kafka.kafka_metadata_max_age_ms / 1000
        )
        stragglers = Stragglers(services.documents, services.queue, lambda: loop.is_empty and not breakers.is_blocking)
        hang_shutdown.attach(loop)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, loop.stop)
        health = HealthServer(
            settings.worker.worker_metrics_host,
            settings.worker.worker_metrics_port,
            lambda: _health(loop, breakers, group_watch),
        )
        log.info("worker started", embedder=embedder.fingerprint, health_port=health.port)
        try:
            async with TaskSupervisor() as watching:
                watching.run_forever("watch of servers", lambda: breakers.watch(lambda: loop.is_idle))
                watching.run_forever("watchdog", lambda: watch(lambda: loop.polled_at, settings.worker.watchdog_s))
                watching.run_forever("watch of attempts", pipeline.stalls.run)
                watching.run_forever("watch of the group", group_watch.run)
                watching.run_forever("stragglers", stragglers.run)
                watching.run_forever("reports of outages", lambda: _report_outages(breakers, services.progress))
                await loop.run()
        finally:
            if hang_shutdown.cause is not None:
                exit_within(_EXIT_S)
            await breakers.stop()
            health.close()


async def _report_outages(breakers: Breakers, progress: Progress) -> NoReturn:
    """Tell people who watch documents what this worker waits for."""
    while True:
        await asyncio.sleep(_REPORT_EVERY_S)
        await progress.report_outages({outage.dependency: outage.since for outage in breakers.outages})


def _breakers(services: Services, embedder: Embedder, evidence: OutageEvidence) -> Breakers:
    pings = {
        "mongodb": services.documents.ping,
        "s3": services.blobs.ping,
        "milvus": services.vectors.ping,
        "kafka": services.queue.ping,
        "redis": services.progress.ping,
    }
    proofs = {"s3": services.blobs.prove}
    if isinstance(embedder, EmbeddingServer):
        proofs[EMBEDDER] = partial(_prove, embedder, evidence)
    return Breakers(pings, proofs=proofs, optional={"redis"})  # Redis shows progress: no document needs it


async def _prove(embedder: EmbeddingServer, evidence: OutageEvidence) -> None:
    """A proof of the embedder counts as a success, like a page. The object store's proof is too small for that."""
    await embedder.prove()
    evidence.add_success(EMBEDDER)


async def _test_itself(pipeline: Pipeline, window_pages: int) -> None:
    """Render and embed a page. Raises SelfTestFailed, DependencyUnavailable.

    The first run warms the device up. The second is measured, so that the stall limits fit this machine.
    """
    try:
        async with asyncio.timeout(_SELF_TEST_S):
            await retrying(self_test, pipeline.renderer, pipeline.embedder)
            began_s = time.monotonic()
            await retrying(self_test, pipeline.renderer, pipeline.embedder)
    except TimeoutError as error:
        exit_within(_EXIT_S)  # Python would wait for the thread that hangs
        raise SelfTestFailed(f"this worker has not rendered and embedded a page within {_SELF_TEST_S:g} s") from error
    pipeline.stalls.add_gap("embed", window_pages * (time.monotonic() - began_s))


def _pipeline(
    name: str,
    services: Services,
    embedder: Embedder,
    breakers: Breakers,
    hang_shutdown: HangShutdown,
    evidence: OutageEvidence,
) -> Pipeline:
    settings = services.settings
    encoding = VectorEncoding(settings.vectors.index_pooling, settings.vectors.blob_precision)
    store = PageStore(services.documents, services.blobs, services.vectors, encoding)
    return Pipeline(
        ledger=services.documents,
        blobs=services.blobs,
        store=store,
        renderer=PdfRenderer(settings.render, max_pages=settings.api.max_pages, while_waiting=suspended_capacity),
        embedder=embedder,
        progress=services.progress,
        outcomes=OutcomePublisher(
            ledger=services.documents,
            queue=services.queue,
            progress=services.progress,
            failures=FailureRun(settings.worker.failure_run_limit, breakers.halt),
            group=settings.kafka.kafka_group,
            max_attempts=settings.worker.max_attempts,
            retry_delays_s=settings.kafka.retry_delays_s,
        ),
        claims=Claims(services.documents, store, name, settings.worker.lease_s),
        max_attempts=settings.worker.max_attempts,
        converter=converter_of(settings, while_waiting=suspended_capacity),
        reader=OcrReader(
            settings.ocr,
            max_chars=settings.render.max_text_chars,
            embeds_text=not embedder.wants_pixels,
            while_waiting=suspended_capacity,
        ),
        stalls=stall_detector_of(settings, embedder, store, hang_shutdown.shut_down),
        evidence=evidence,
    )


def _health(loop: JobLoop, breakers: Breakers, group_watch: GroupWatch) -> Health:
    polls = loop.is_member and time.monotonic() - loop.polled_at < _POLL_SILENCE_S
    return Health(polls and not breakers.is_blocking, breakers.outages, group_watch.unassigned)
