"""The work and the output of `pagemill collections archive --to … --keep` and `restore --from …`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import typer

from ingestion.adapters.minio import MinioBlobStore
from ingestion.bootstrap import Services
from ingestion.errors import BadRequest, DependencyRefused, InvalidSetting
from ingestion.retrying import retrying
from workers.backup.location import backup_store
from workers.backup.manifest import BackupManifest
from workers.commands.collections.moves import run_on, tell
from workers.wiring import archiver_of, backup_fetcher_of, backup_writer_of


def back_up_collection(collection: str, *, to: str, keep: bool, as_json: bool, data_dir: Path | None) -> None:
    """Raises BadRequest for one option without the other, InvalidSetting where the bucket refuses, NotFound,
    CollectionBusy, CollectionArchived, DependencyUnavailable."""
    if not to or not keep:
        raise BadRequest(
            "--to and --keep belong together: a backup leaves the collection in use, and an archive, which frees "
            "MongoDB and Milvus, stays in the bucket of the installation"
        )

    async def back_up(services: Services) -> BackupManifest:
        async with _open(services, to) as target:
            await target.prove()
            return await backup_writer_of(services, target).write(collection)

    made = run_on(back_up, collection, data_dir)
    tell("backed_up", collection, made.totals(), as_json, backup=made.backup_id, left_out=len(made.left_out))
    _name(made, as_json)


def restore_backup(collection: str, *, from_: str, backup_id: str, as_json: bool, data_dir: Path | None) -> None:
    """Raises BadRequest without --from, InvalidSetting where the bucket refuses, NotFound, Conflict where the
    collection is there, DependencyUnavailable."""
    if not from_:
        raise BadRequest("--backup names one of the backups in --from: name that as well")

    async def fetch(services: Services) -> BackupManifest:
        async with _open(services, from_) as source:
            return await backup_fetcher_of(services, source).fetch(collection, backup_id)

    fetched = run_on(fetch, collection, data_dir)
    restored = run_on(lambda services: archiver_of(services).restore(collection), collection, data_dir)
    tell("restored", collection, restored, as_json, backup=fetched.backup_id)
    _name(fetched, as_json)


@asynccontextmanager
async def _open(services: Services, location: str) -> AsyncIterator[MinioBlobStore]:
    """Raises InvalidSetting where the server refuses, or the bucket does not exist."""
    settings = services.settings
    async with MinioBlobStore(backup_store(location, settings.s3, settings.backup)) as store:
        try:
            is_there = await retrying(store.has_bucket)
        except DependencyRefused as error:
            raise InvalidSetting(
                f"{location}: refused; the settings of backups are PAGEMILL_BACKUP_S3_…: {error.message}"
            ) from error
        if not is_there:
            raise InvalidSetting(f"{location}: there is no such bucket; make it, or check PAGEMILL_BACKUP_S3_ENDPOINT")
        yield store


def _name(manifest: BackupManifest, as_json: bool) -> None:
    if not as_json:
        typer.echo(f"backup {manifest.backup_id} of {manifest.created_at}")
    if manifest.left_out:
        typer.echo(f"{len(manifest.left_out)} document(s) were deleted meanwhile and are not in it", err=True)
