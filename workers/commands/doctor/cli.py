"""`pagemill doctor`: what is missing on this machine, and the command that installs it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from workers.commands.doctor.checks import Finding, Verdict, check_machine
from workers.stack import datadir
from workers.stack.stack_file import environment_of

_STYLES = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.MISSING: "red"}


def doctor(
    data_dir: Annotated[Path, typer.Option(help="Data directory of the stack to look at.")] = datadir.DEFAULT,
) -> None:
    """Check this machine and the servers within reach; exit status 1 where something necessary is missing."""
    from ingestion.settings import Settings
    from workers.commands.doctor.confinement import check_confinement
    from workers.commands.doctor.reachability import check_services

    directory = datadir.DataDir(data_dir)
    if stack := directory.read_stack():
        os.environ |= environment_of(stack)
    settings = Settings()
    is_configured = any(name in os.environ for name in ("PAGEMILL_KAFKA_BOOTSTRAP", "PAGEMILL_MONGO_URI"))
    findings = check_machine(directory.root, settings.embedder.embedder, needs_servers=not is_configured)
    findings += asyncio.run(check_confinement())
    if is_configured:
        findings += asyncio.run(check_services(settings))
    else:
        findings.append(Finding("stack", Verdict.WARN, f"none runs on {data_dir}", "pagemill up"))
    Console(highlight=False).print(_table(findings))
    if any(finding.verdict is Verdict.MISSING for finding in findings):
        raise typer.Exit(1)


def _table(findings: list[Finding]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("what", "", "found", "to do"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        style = _STYLES[finding.verdict]
        table.add_row(finding.name, f"[{style}]{finding.verdict}[/]", finding.detail, finding.remedy)
    return table
