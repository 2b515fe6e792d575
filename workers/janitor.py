"""The janitor process: its parts, its start, its health and its stop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Final, NoReturn

import structlog

from ingestion import metrics
from ingestion.access import check_access
from ingestion.adapters.webhook_sender import HttpWebhookSender
from ingestion.bootstrap import Services, open_services
from ingestion.concurrency.supervision import TaskSupervisor
from ingestion.errors import DependencyUnavailable, as_ingest_error
from ingestion.settings import Settings
from workers.audit.auditor import Auditor
from workers.audit.mismatch import STORES, Mismatch, MismatchKind, NotJudged, TooYoung
from workers.installation_gauges import DOCUMENTS_EVERY_S, InstallationGauges
from workers.recovery import Janitor
from workers.runtime.breaker import Outage
from workers.runtime.health import Health, HealthServer
from workers.wiring import (
    canceller_of,
    code_backfill_of,
    lifecycle_of,
    remover_of,
    term_backfill_of,
    webhook_deliverer_of,
    webhook_relay_of,
)

log = structlog.get_logger(__name__)

REMEDY: Final = "delete the document and upload it again"
REMAKE: Final = "let the janitor run, or run `pagemill janitor` twice: the second time makes what is missing"


def janitor_of(services: Services) -> Janitor:
    settings = services.settings
    return Janitor(
        records=services.documents,
        queue=services.queue,
        remover=remover_of(services),
        canceller=canceller_of(services),
        group=settings.kafka.kafka_group,
        grace_s=settings.janitor.janitor_grace_s,
        lost_after_s=settings.janitor.janitor_lost_after_s,
        replaced_after_s=settings.janitor.janitor_replaced_after_s,
    )


def auditor_of(services: Services) -> Auditor:
    return Auditor(
        records=services.documents,
        blobs=services.blobs,
        vectors=services.vectors,
        orphan_grace_s=services.settings.janitor.janitor_orphan_grace_s,
        settle_s=services.settings.janitor.janitor_settle_s,
    )


async def run_janitor(settings: Settings) -> None:
    """Run all rounds and the audits until SIGTERM or SIGINT. Each step is safe to interrupt."""
    structlog.contextvars.bind_contextvars(worker=f"janitor-{socket.gethostname()}-{os.getpid()}")
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with open_services(settings) as services, HttpWebhookSender(settings.webhooks) as sender:
        await check_access(services)
        janitor, auditor = janitor_of(services), auditor_of(services)
        every_s, audit_every_s = settings.janitor.janitor_every_s, settings.janitor.janitor_audit_every_s
        rounds = Repeated(janitor.round, every_s=every_s, again_s=every_s)
        # In tasks of their own, because archiving and reading vectors may take long.
        lifecycle_rounds = Repeated(lifecycle_of(services).round, every_s=every_s, again_s=every_s)
        code_rounds = Repeated(code_backfill_of(services).round, every_s=every_s, again_s=every_s)
        term_rounds = Repeated(term_backfill_of(services).round, every_s=every_s, again_s=every_s)
        gauges = InstallationGauges(services.documents, services.documents, services.vectors, services.documents)
        gauge_rounds = Repeated(gauges.round, every_s=DOCUMENTS_EVERY_S, again_s=DOCUMENTS_EVERY_S)
        relay, deliverer = webhook_relay_of(services), webhook_deliverer_of(services, sender)
        webhook_every_s = settings.webhooks.webhook_every_s
        relay_rounds = Repeated(relay.round, every_s=webhook_every_s, again_s=every_s)
        delivery_rounds = Repeated(deliverer.round, every_s=webhook_every_s, again_s=every_s)
        audits = Repeated(lambda: audit(auditor), every_s=audit_every_s, again_s=min(every_s, audit_every_s))
        health = HealthServer(
            settings.worker.worker_metrics_host,
            settings.worker.worker_metrics_port,
            lambda: _health(
                rounds, lifecycle_rounds, code_rounds, term_rounds, gauge_rounds, relay_rounds, delivery_rounds, audits
            ),
        )
        log.info("janitor started", health_port=health.port)
        try:
            async with TaskSupervisor() as tasks:
                tasks.run_forever("janitor rounds", rounds.run)
                tasks.run_forever("collection lifecycle rounds", lifecycle_rounds.run)
                tasks.run_forever("sign code rounds", code_rounds.run)
                tasks.run_forever("term rounds", term_rounds.run)
                tasks.run_forever("gauges of the installation", gauge_rounds.run)
                tasks.run_forever("webhook events", relay_rounds.run)
                tasks.run_forever("webhook deliveries", delivery_rounds.run)
                # An audit reads all stores, so a janitor that is restarted again and again should not begin with one.
                tasks.run_forever("audits", lambda: audits.run(first_after_s=audit_every_s))
                await stopping.wait()
        finally:
            health.close()
            await deliverer.close()
    log.info("janitor stopped")


class Repeated:
    """Calls `work` again and again, with a pause of `every_s`, or `again_s` after an error.

    The begin and the end of an outage are logged.
    """

    def __init__(self, work: Callable[[], Awaitable[object]], *, every_s: float, again_s: float) -> None:
        self._work = work
        self._every_s = every_s
        self._again_s = again_s
        self.outage: Outage | None = None

    async def run(self, first_after_s: float = 0.0) -> NoReturn:
        pause_s = first_after_s
        while True:
            await asyncio.sleep(pause_s)
            pause_s = self._every_s if await self._once() else self._again_s

    async def _once(self) -> bool:
        try:
            await self._work()
        except DependencyUnavailable as error:
            self._down(error)
            return False
        except Exception as error:
            cause = as_ingest_error(error)
            log.error("round failed", code=cause.code, cause=cause.message, exc_info=error)
            return False
        if self.outage is not None:
            log.info("janitor goes on", dependency=self.outage.dependency)
            self.outage = None
        return True

    def _down(self, error: DependencyUnavailable) -> None:
        if self.outage is None or self.outage.dependency != error.dependency:
            self.outage = Outage(error.dependency, datetime.now(UTC), error.message)
            log.warning("janitor waits", dependency=error.dependency, cause=error.message)


async def audit(auditor: Auditor) -> None:
    """Compare the stores, delete orphans, and report what is missing."""
    left = {(store, kind): 0 for store in STORES for kind in MismatchKind}
    too_young, not_judged = TooYoung(), NotJudged()
    async for mismatch in auditor.mismatches(repair=True, too_young=too_young, not_judged=not_judged):
        _report(mismatch)
        if not mismatch.is_repaired:
            left[mismatch.store, mismatch.kind] += 1
    for (store, kind), count in left.items():
        metrics.FINDINGS.labels(store, kind).set(count)
    log.info(
        "audited",
        mismatches_left=sum(left.values()),
        too_young=too_young.objects,
        not_judged=len(not_judged.causes),
    )


def _report(mismatch: Mismatch) -> None:
    facts = {"store": mismatch.store, "document_id": mismatch.document_id, "collection": mismatch.collection}
    if mismatch.is_repaired:
        metrics.REPAIRS.labels(mismatch.kind).inc()
        repair = "sign codes to be made again" if mismatch.is_remade else "orphans deleted"
        log.warning(repair, **facts, what=mismatch.what, count=mismatch.count)
    else:
        remedy = REMAKE if mismatch.is_remade else REMEDY
        log.error(
            "stores differ", **facts, kind=mismatch.kind, what=mismatch.what, count=mismatch.count, remedy=remedy
        )


def _health(*repeated: Repeated) -> Health:
    outages: Sequence[Outage] = [one.outage for one in repeated if one.outage is not None]
    return Health(not outages, outages)
