"""`pagemill migrate`: prepare the servers for this release."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import structlog
import typer

from workers.stack import datadir
from workers.stack.environment import replace_settings
from workers.stack.stack_file import environment_of

if TYPE_CHECKING:
    from ingestion.settings import Settings
    from workers.migrations.migrator import StepReport


def migrate(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing. Exit with 1 where something is to be done.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON lines.")] = False,
    data_dir: Annotated[
        Path, typer.Option(help="Data directory of a running stack. Without a running stack the settings are used.")
    ] = (datadir.DEFAULT),
) -> None:
    """Create the topics, partitions, bucket, indexes and aliases that this release needs, and keep those that exist.

    Run it before the processes of a new release start. It may run again, and beside running processes.
    """
    from ingestion.settings import Settings

    if stack := datadir.DataDir(data_dir).read_stack():
        replace_settings(os.environ, environment_of(stack))
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))  # standard output is the answer's
    reports = asyncio.run(_run(Settings(), check=check))
    for report in reports:
        (_write_json if as_json else _write)(report, check=check)
    if _is_incomplete(reports, check=check):
        raise typer.Exit(1)
    if not as_json:
        typer.echo("nothing is to be done" if check else "the servers are as this release needs them")


async def _run(settings: Settings, *, check: bool) -> list[StepReport]:
    from ingestion.adapters.milvus.store import MilvusVectorStore
    from ingestion.adapters.minio import MinioBlobStore
    from ingestion.adapters.mongo.document_store import MongoDocumentStore
    from workers.migrations.migrator import Migrator
    from workers.migrations.steps import AliasStep, StoreStep, TopicStep

    async with (
        MinioBlobStore(settings.s3) as blobs,
        MongoDocumentStore(settings.mongo) as documents,
        MilvusVectorStore(settings.milvus) as vectors,
    ):
        steps = (
            StoreStep("bucket", blobs),
            StoreStep("indexes", documents),
            TopicStep(settings.kafka),
            AliasStep(documents, vectors),
        )
        migrator = Migrator(documents, steps, on_wait=_say_waiting)
        return await (migrator.check() if check else migrator.migrate())


def _say_waiting() -> None:
    typer.echo("waiting: another `pagemill migrate` runs", err=True)


def _write(report: StepReport, *, check: bool) -> None:
    for task in report.done:
        typer.echo(f"{'to do' if check else 'done'}  {task.what}")
    for task in report.left:
        typer.echo(f"by hand  {task.what}: {task.command}")


def _write_json(report: StepReport, *, check: bool) -> None:
    from workers.commands.terminal import write_json_line

    for task in (*report.done, *report.left):
        outcome = "by_hand" if task.command else "to_do" if check else "done"
        required = task.is_required
        write_json_line(
            {"step": report.step, "outcome": outcome, "task": task.what, "command": task.command, "required": required}
        )


def _is_incomplete(reports: list[StepReport], *, check: bool) -> bool:
    is_left = any(task.is_required for report in reports for task in report.left)
    return is_left or (check and any(report.done for report in reports))
