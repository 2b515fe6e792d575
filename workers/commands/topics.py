"""`pagemill topics ensure`: create topics, bucket and indexes before the first document is uploaded."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from workers.stack import datadir
from workers.stack.environment import replace_settings
from workers.stack.stack_file import environment_of

app = typer.Typer(help="Topics and what else the services must hold.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Topics and what else the services must hold."""


@app.command()
def ensure(
    data_dir: Annotated[
        Path, typer.Option(help="Data directory of a running stack. Without a running stack the settings are used.")
    ] = (datadir.DEFAULT),
) -> None:
    """Create missing topics, bucket and indexes. Existing ones are not changed."""
    from ingestion.prepare import prepare
    from ingestion.settings import Settings

    if stack := datadir.DataDir(data_dir).read_stack():
        replace_settings(os.environ, environment_of(stack))
    settings = Settings()
    asyncio.run(prepare(settings))
    typer.echo(f"{settings.kafka.kafka_jobs_topic} and its topics, {settings.s3.s3_bucket} and the indexes are there")
