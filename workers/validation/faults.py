"""Faults of servers: reported while they last, no document lost, none failed."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Final

import httpx

from ingestion.client.following import follow
from ingestion.client.views import DocumentView
from ingestion.errors import IngestError
from ingestion.model import DocumentState
from workers.bench.sample_pdf import sample_pdf
from workers.validation.context import Context, settled
from workers.validation.finding import Finding, judged, skipped
from workers.validation.proxy import NetworkFault
from workers.validation.scratch import ScratchInstallation, open_scratch, require_plain

_PAGES: Final = 24
_BEGUN_S: Final = 120.0
_NAMED_S: Final = 150.0
_RESUMED_S: Final = 300.0
_LOOK_EVERY_S: Final = 0.2

Change = Callable[[ScratchInstallation], Awaitable[None]]


async def embedder_killed(context: Context) -> Finding:
    """On a local stack the embedding service is killed, and the stack starts it again. Elsewhere it is cut off."""
    stack = context.read_stack()
    if stack is None:
        return await _outage(
            context, "embedder", _impose("embedder", NetworkFault.REFUSED), _impose("embedder", NetworkFault.NONE)
        )
    pid = next(int(process["pid"]) for process in stack["processes"] if process["name"] == "embedder")

    async def kill(_: ScratchInstallation) -> None:
        os.kill(pid, signal.SIGKILL)

    return await _outage(context, "embedder", kill, None)


async def milvus_cut_off(context: Context) -> Finding:
    return await _outage(
        context, "milvus", _impose("milvus", NetworkFault.REFUSED), _impose("milvus", NetworkFault.NONE)
    )


async def disk_full(context: Context) -> Finding:
    """The object store answers each write with 507, as MinIO does. An upload must be refused, and say so."""
    return await _outage(
        context, "s3", _impose("s3", NetworkFault.DISK_FULL), _impose("s3", NetworkFault.NONE), refused_upload=True
    )


async def _outage(
    context: Context, dependency: str, begin: Change, end: Change | None, *, refused_upload: bool = False
) -> Finding:
    """Impose a fault in the middle of a document, wait until the worker reports it, end it, and wait for the document.

    `end` is None for a fault that ends by itself: it may be over before a worker has to report it.
    `refused_upload`: an upload during the fault must be answered with 5xx.
    """
    if reason := _obstacle(context):
        return skipped(reason)
    scratch = await _scratch(context)
    view = await _upload(context, scratch, _PAGES)
    pages_before = await _begun(scratch, view)
    began = time.monotonic()
    problems: list[str] = []
    named_after_s: float | None = None
    await begin(scratch)
    if end is not None:
        try:
            problems += await _refused(context, scratch) if refused_upload else []
            named_after_s = await _named(context, scratch, dependency, began)
        finally:
            await end(scratch)
        if named_after_s is None:
            problems.append(f"the worker's /ready did not name {dependency}")
    ended = await settled(scratch.api, view, _RESUMED_S)
    if ended.state is not DocumentState.READY or ended.pages_done != _PAGES:
        code = ended.error.code if ended.error else ""
        problems.append(f"the document is {ended.state.value} with {ended.pages_done} of {_PAGES} pages {code}")
    return judged(
        problems,
        f"the worker went on by itself after the loss of {dependency}, and the document became ready",
        pages_before_the_fault=pages_before,
        named_after_s="ended by itself" if named_after_s is None else round(named_after_s, 1),
        ready_after_s=round(time.monotonic() - began, 1),
        attempts=ended.attempts,
    )


def _obstacle(context: Context) -> str:
    if context.services is None:
        return f"the servers cannot be reached from here: {context.no_services}"
    if not context.may_break:
        return "this is not a local stack; --destructive runs a scratch API and worker with topics on its servers"
    return require_plain(context.services.settings)


async def _scratch(context: Context) -> ScratchInstallation:
    """Return the scratch installation of this run. The first call starts it, the end of the run removes it.

    Raises the error of the first call where it did not start.
    """
    if context.scratch is None:
        assert context.services is not None
        opened = open_scratch(context.services.settings, context.target.api_key, context.folder / "scratch")
        try:
            context.scratch = await context.exits.enter_async_context(opened)
        except IngestError as error:
            context.scratch = error
    if isinstance(context.scratch, IngestError):
        raise context.scratch
    return context.scratch


def _impose(server: str, fault: NetworkFault) -> Change:
    async def change(scratch: ScratchInstallation) -> None:
        await scratch.proxies[server].impose(fault)

    return change


async def _upload(context: Context, scratch: ScratchInstallation, pages: int) -> DocumentView:
    made = await asyncio.to_thread(sample_pdf, secrets.token_hex(8), pages)
    path = context.folder / "fault.pdf"
    await asyncio.to_thread(path.write_bytes, made.content)
    return await scratch.api.upload(scratch.collection, path)


async def _begun(scratch: ScratchInstallation, view: DocumentView) -> int:
    """Wait until pages of the document are done. Return their number."""
    async with asyncio.timeout(_BEGUN_S), aclosing(follow(scratch.api, view.document_id)) as views:
        async for view in views:
            if view.pages_done:
                break
    return view.pages_done


async def _named(context: Context, scratch: ScratchInstallation, dependency: str, began: float) -> float | None:
    """Wait until the worker's /ready names the server. Return the seconds that it took; None where it does not."""
    try:
        async with asyncio.timeout(_NAMED_S):
            while dependency not in await scratch.outages(context.http):  # noqa: ASYNC110
                await asyncio.sleep(_LOOK_EVERY_S)
    except TimeoutError:
        return None
    return time.monotonic() - began


async def _refused(context: Context, scratch: ScratchInstallation) -> list[str]:
    """Upload once, without a repetition. Return a problem where the answer is not a 5xx with a code."""
    url = f"{scratch.target.api_url}/api/v1/collections/{scratch.collection}/documents"
    headers = {"Authorization": f"Bearer {scratch.target.api_key}"}
    files = {"files": ("full.pdf", sample_pdf(secrets.token_hex(8), 1).content, "application/pdf")}
    response = await context.http.post(url, headers=headers, files=files, timeout=httpx.Timeout(60.0))
    if response.is_server_error and "code" in response.json():
        return []
    return [f"an upload to a full disk was answered with {response.status_code}"]
