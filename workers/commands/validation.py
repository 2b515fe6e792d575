"""The work and the output of `pagemill validate`."""

from __future__ import annotations

import asyncio
import json
import secrets
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import anyio
import httpx
from rich.text import Text

from ingestion.bootstrap import Services
from ingestion.client.client import connect
from ingestion.errors import BadRequest, IngestError
from workers.bench.html_page import require_writable
from workers.commands.documents.target import find_target
from workers.commands.installation import open_installation
from workers.commands.interruption import run_until_signal
from workers.commands.terminal import cell, say
from workers.stack import datadir
from workers.validation.checklist import (
    BEFORE_PRODUCTION,
    MONTHLY,
    WEEKLY,
    ItemResult,
    in_words,
    interrupted,
    is_good,
    run_checklist,
)
from workers.validation.context import Context, Limits
from workers.validation.finding import Item, ItemStatus
from workers.validation.report_page import counts, report_page

_STYLES: Final = {ItemStatus.PASSED: "green", ItemStatus.FAILED: "red", ItemStatus.SKIPPED: "yellow"}
_CLEANUP_S: Final = 300.0
_ANSWER_S: Final = 10.0
_INTERRUPTED: Final = 130
_INDENT: Final = 8


@dataclass(frozen=True, slots=True)
class ValidationRequest:
    """The options of the command line."""

    limits: Limits
    only: Sequence[str]
    weekly: bool
    monthly: bool
    metrics: Sequence[str]
    prometheus: str | None
    grafana: str | None
    alerts: Path | None
    is_destructive: bool
    json_file: Path | None
    html_file: Path | None
    data_dir: Path | None


def list_all() -> None:
    for kind, items in (("", BEFORE_PRODUCTION), ("--weekly", WEEKLY), ("--monthly", MONTHLY)):
        for item in items:
            say(Text(f"{item.name:<20}"), item.question, cell(kind, "dim"))


def run(request: ValidationRequest) -> int:
    """Run the items and report. Return the exit status: 1 where an item failed, 130 after an interruption.

    Raises BadRequest, ApiError, DependencyUnavailable.
    """
    items = chosen_items(request)
    files = [file for file in (request.json_file, request.html_file) if file is not None]
    for file in files:
        require_writable(file)
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    results: list[ItemResult] = []
    target, is_interrupted = anyio.run(_run, request, items, results)
    results += interrupted(items, results)
    if request.json_file is not None:
        content = {
            "target": target,
            "started_at": started_at,
            "good": is_good(results),
            "items": [result.as_json() for result in results],
        }
        request.json_file.write_text(json.dumps(content, indent=2), encoding="utf-8")
    if request.html_file is not None:
        page = report_page(results, target=target, started_at=started_at)
        request.html_file.write_text(page, encoding="utf-8")
    say(counts(results))
    return _INTERRUPTED if is_interrupted else int(not is_good(results))


def chosen_items(request: ValidationRequest) -> Sequence[Item]:
    """Raises BadRequest for an unknown item."""
    every = {item.name: item for item in (*BEFORE_PRODUCTION, *WEEKLY, *MONTHLY)}
    if unknown := [name for name in request.only if name not in every]:
        raise BadRequest(f"no item is called {unknown[0]!r}; `pagemill validate --list` lists them")
    if request.only:
        return [every[name] for name in request.only]
    periodic = (*(WEEKLY if request.weekly else ()), *(MONTHLY if request.monthly else ()))
    return periodic or BEFORE_PRODUCTION


async def _run(request: ValidationRequest, items: Sequence[Item], results: list[ItemResult]) -> tuple[str, bool]:
    async with _open_context(request) as context:
        is_interrupted = await run_until_signal(_shown(items, context, results))
        return context.target.api_url, is_interrupted


@asynccontextmanager
async def _open_context(request: ValidationRequest) -> AsyncIterator[Context]:
    target = find_target(request.data_dir)
    directory = datadir.DataDir(request.data_dir or datadir.DEFAULT)
    collection = f"validate_{secrets.token_hex(4)}"
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pagemill-validate-"))
        api = await stack.enter_async_context(connect(target))
        await api.check()
        services, no_services = await _services(stack, request.data_dir)
        context = Context(
            api=api,
            target=target,
            http=await stack.enter_async_context(httpx.AsyncClient(trust_env=not target.is_local)),
            collection=collection,
            folder=Path(folder),
            limits=request.limits,
            services=services,
            no_services=no_services,
            read_stack=directory.read_stack if target.is_local else _no_stack,
            data_dir=directory.root,
            metrics=request.metrics,
            prometheus=request.prometheus,
            grafana=request.grafana,
            alerts=request.alerts,
            is_destructive=request.is_destructive,
        )
        try:
            yield context
        finally:
            try:
                await context.exits.aclose()
            finally:
                await _clean_up(context)


async def _services(stack: AsyncExitStack, data_dir: Path | None) -> tuple[Services | None, str]:
    """Return the stores, or None and the reason where one of them does not answer."""
    try:
        services = await stack.enter_async_context(open_installation(data_dir))
        async with asyncio.timeout(_ANSWER_S):
            await services.documents.ping()
            await services.blobs.ping()
            await services.vectors.ping()
    except (IngestError, TimeoutError) as error:
        return None, in_words(error)
    return services, ""


def _no_stack() -> Mapping[str, Any] | None:
    return None


async def _shown(items: Sequence[Item], context: Context, results: list[ItemResult]) -> None:
    """Run the items, with a line for each when it has ended."""
    shown = 0

    def show_ended(_: Item | None) -> None:
        nonlocal shown
        for result in results[shown:]:
            _show(result)
        shown = len(results)

    try:
        await run_checklist(items, context, results, show_ended)
    finally:
        show_ended(None)


def _show(result: ItemResult) -> None:
    finding = result.finding
    status = Text(f"{finding.status.value:<8}", style=_STYLES[finding.status])
    say(status, Text(f"{result.item.name:<20}"), cell(finding.reason), cell(f"{result.seconds:.1f} s", "dim"))
    for name, value in finding.evidence.items():
        say(Text(" " * _INDENT), cell(f"{name.replace('_', ' ')}: {value}", "dim"))


async def _clean_up(context: Context) -> None:
    try:
        async with asyncio.timeout(_CLEANUP_S):
            await context.api.delete_collection(context.collection)
    except (IngestError, TimeoutError) as error:
        say(cell(f"collection {context.collection} is not deleted: {in_words(error)}", "red"))
        say(cell(f"run `pagemill collections drop {context.collection}`"))
