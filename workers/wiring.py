"""Constructs, from services and settings, the objects that archive, back up, delete and expire collections,
make sign codes and terms, and send webhooks."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from ingestion.bootstrap import Services
from ingestion.cancel import Canceller
from ingestion.ports import BlobStore, WebhookSender
from ingestion.removal import Remover
from ingestion.webhooks.deliverer import WebhookDeliverer
from ingestion.webhooks.relay import WebhookRelay
from workers.backup.fetcher import BackupFetcher
from workers.backup.writer import BackupWriter
from workers.code_backfill import CodeBackfill
from workers.lifecycle.archive import Archiver
from workers.lifecycle.housekeeping import CollectionLifecycle
from workers.lifecycle.packer import Packer
from workers.lifecycle.unpacker import Unpacker
from workers.term_backfill import TermBackfill

_INDEX_SETTINGS: Final = {
    "index_type",
    "hnsw_m",
    "hnsw_ef_construction",
    "index_sq_type",
    "ivf_nlist",
    "rabitq_refine_type",
}


def archiver_of(services: Services) -> Archiver:
    stores = services.documents, services.blobs, services.vectors
    return Archiver(*stores, packer=Packer(*stores), unpacker=Unpacker(*stores))


def backup_writer_of(services: Services, target: BlobStore) -> BackupWriter:
    index = services.settings.milvus.model_dump(include=_INDEX_SETTINGS)
    return BackupWriter(services.documents, services.blobs, services.vectors, target, index)


def backup_fetcher_of(services: Services, source: BlobStore) -> BackupFetcher:
    return BackupFetcher(services.documents, services.blobs, source, remover_of(services))


def remover_of(services: Services) -> Remover:
    return Remover(services.documents, services.vectors, services.blobs, services.queue, services.progress)


def canceller_of(services: Services) -> Canceller:
    return Canceller(services.documents, services.vectors, services.blobs, services.queue, services.progress)


def code_backfill_of(services: Services) -> CodeBackfill:
    return CodeBackfill(services.documents, services.blobs)


def term_backfill_of(services: Services) -> TermBackfill:
    return TermBackfill(services.documents, services.blobs)


def lifecycle_of(services: Services) -> CollectionLifecycle:
    settings = services.settings.janitor
    return CollectionLifecycle(
        records=services.documents,
        archiver=archiver_of(services),
        remover=remover_of(services),
        expiry=settings.collection_expire,
        expire_after=timedelta(days=settings.collection_expire_days),
    )


def webhook_relay_of(services: Services) -> WebhookRelay:
    return WebhookRelay(services.documents)


def webhook_deliverer_of(services: Services, sender: WebhookSender) -> WebhookDeliverer:
    settings = services.settings.webhooks
    return WebhookDeliverer(
        services.documents,
        sender,
        retry_delays_s=settings.webhook_retry_delays_s,
        timeout_s=settings.webhook_timeout_s,
        at_once=settings.webhook_concurrency,
    )
