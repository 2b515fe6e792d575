"""`pagemill doctor`: reports what this machine lacks, and the command that installs it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from workers.commands.doctor.checks import CheckResult, CheckStatus, check_machine
from workers.stack import datadir
from workers.stack.environment import replace_settings
from workers.stack.stack_file import environment_of

_STYLES = {CheckStatus.OK: "green", CheckStatus.WARN: "yellow", CheckStatus.MISSING: "red"}


def doctor(
    data_dir: Annotated[Path, typer.Option(help="Data directory of the stack to check.")] = datadir.DEFAULT,
) -> None:
    """Check this machine and the configured servers. The exit status is 1 if a requirement is missing."""
    from ingestion.settings import Settings
    from workers.commands.doctor.confinement import check_confinement
    from workers.commands.doctor.reachability import check_services

    directory = datadir.DataDir(data_dir)
    if stack := directory.read_stack():
        replace_settings(os.environ, environment_of(stack))
    settings = Settings()
    is_configured = any(name in os.environ for name in ("PAGEMILL_KAFKA_BOOTSTRAP", "PAGEMILL_MONGO_URI"))
    results = check_machine(directory.root, settings.embedder.embedder, needs_servers=not is_configured)
    results += asyncio.run(check_confinement())
    if is_configured:
        results += asyncio.run(check_services(settings))
    else:
        results.append(CheckResult("stack", CheckStatus.WARN, f"no stack runs on {data_dir}", "pagemill up"))
    Console(highlight=False).print(_table(results))
    if any(result.status is CheckStatus.MISSING for result in results):
        raise typer.Exit(1)


def _table(results: list[CheckResult]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("check", "", "found", "to do"):
        table.add_column(column, overflow="fold")
    for result in results:
        style = _STYLES[result.status]
        table.add_row(result.name, f"[{style}]{result.status}[/]", result.detail, result.remedy)
    return table
