"""The work and the output of `pagemill bench load`."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import anyio
import typer
from rich import box
from rich.table import Table

from ingestion.client.client import ApiClient, connect
from ingestion.errors import BadRequest, IngestError
from workers.bench.html_page import require_writable
from workers.bench.load import STREAMS, LoadPlan, LoadRun, ResponseCounter
from workers.bench.load_page import figure_rows, load_page
from workers.bench.load_report import LoadReport, load_report
from workers.bench.plot import require_matplotlib
from workers.bench.sampling import Sampler, beside
from workers.bench.scrape import metrics_urls
from workers.commands.bench.load_bars import show_bars
from workers.commands.documents.target import find_target
from workers.commands.interruption import run_until_signal
from workers.commands.terminal import cell, plain, say, stdout, write_json_line
from workers.stack import datadir

PAGES_LIMIT: Final = 2000
"""Pages of a run without `--yes`."""
_CLEANUP_S: Final = 300.0
_INTERRUPTED: Final = 130


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """The options of the command line."""

    plan: LoadPlan
    report: Path | None
    metrics: Sequence[str]
    as_json: bool
    is_confirmed: bool
    keep: bool
    data_dir: Path | None


def run(request: LoadRequest) -> int:
    """Load the system, report, and clean up. Return the exit status.

    0: every file became ready. 1: not all did. 130: interrupted. Raises BadRequest, ApiError, DependencyUnavailable.
    """
    pages = request.plan.files * request.plan.pages
    if pages > PAGES_LIMIT and not request.is_confirmed:
        raise BadRequest(f"this would upload {pages:,} pages; confirm more than {PAGES_LIMIT:,} with --yes")
    if request.report is not None:
        require_matplotlib()
        require_writable(request.report)
    report = anyio.run(_run, request)
    if request.as_json:
        write_json_line(report.as_json())
    else:
        _show(report)
    if request.report is not None:
        request.report.write_text(load_page(report), encoding="utf-8")
        if not request.as_json:
            say(f"report: {request.report}")
    return _INTERRUPTED if report.is_interrupted else int(not report.is_good)


async def _run(request: LoadRequest) -> LoadReport:
    target = find_target(request.data_dir)
    errors = ResponseCounter()
    collection = f"bench_load_{secrets.token_hex(4)}"
    connections = request.plan.concurrency + STREAMS
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    with tempfile.TemporaryDirectory(prefix="pagemill-load-") as folder:
        async with connect(target, on_response=errors, max_connections=connections) as api:
            await api.check()
            load = LoadRun(api, collection, request.plan, Path(folder))
            directory = datadir.DataDir(request.data_dir or datadir.DEFAULT)
            # A target of the settings may be another system than the stack of this directory.
            read_stack = directory.read_stack if target.is_local else _no_stack
            sampler = Sampler(load, read_stack, lambda stack: [*request.metrics, *metrics_urls(stack)])
            try:
                is_interrupted = await run_until_signal(_watched(load, sampler, is_shown=not request.as_json))
            finally:
                await _clean_up(api, collection, request)
    return load_report(
        request.plan,
        load.files,
        sampler.samples,
        target=target.api_url,
        started_at=started_at,
        duration_s=load.elapsed_s,
        is_interrupted=is_interrupted,
        error_answers=errors.errors,
    )


def _no_stack() -> Mapping[str, Any] | None:
    return None


async def _watched(load: LoadRun, sampler: Sampler, *, is_shown: bool) -> None:
    async with beside(sampler.watch()), beside(show_bars(load, sampler, stdout(), is_shown=is_shown)):
        await load.run()


async def _clean_up(api: ApiClient, collection: str, request: LoadRequest) -> None:
    """Delete the collection of the run. A failure is reported, and the run keeps its report."""
    remedy = f"`pagemill collections drop {collection}` deletes it"
    if request.keep:
        if not request.as_json:
            say(f"kept: collection {collection}; {remedy}")
        return
    try:
        async with asyncio.timeout(_CLEANUP_S):
            await api.delete_collection(collection)
    except (IngestError, TimeoutError) as error:
        cause = str(error) or "no answer in time"
        typer.echo(f"error: collection {plain(collection)} is not deleted: {plain(cause)}; {remedy}", err=True)


def _show(report: LoadReport) -> None:
    table = Table(box=box.SIMPLE_HEAD, show_header=False)
    table.add_column("", no_wrap=True)
    table.add_column("", overflow="fold")
    for name, figure in figure_rows(report):
        table.add_row(cell(name), cell(figure))
    stdout().print(table)
    if report.is_interrupted:
        say("interrupted: this is what was measured until then")
