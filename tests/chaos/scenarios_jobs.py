"""Faults of files and messages: poison, duplicate jobs, unpublished jobs, replays."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from ingestion.bootstrap import open_services
from ingestion.model import DocumentState, StaleKind
from ingestion.replay.replayer import Reason, Replayer, ReplayResult
from ingestion.replay.selection import Selection
from tests.chaos.documents import Source, bomb, broken, deadly, endless, gigapixel, several
from tests.chaos.experiment import Experiment, experiment
from tests.chaos.proxy import REFUSED, Tripwire
from tests.chaos.rig import Rig, settings_of, submitter_of
from workers.janitor import janitor_of

_CODES: Final = {
    "broken.pdf": "page_render_failed",
    "endless.pdf": "render_timeout",
    "bomb.pdf": "page_render_failed",
    "deadly.pdf": "attempts_exhausted",
}


async def poison(
    servers: Mapping[str, str], folder: Path, *, good: int, max_attempts: int = 5, with_bomb: bool = True
) -> Experiment:
    """Valid documents with five bad ones among them: a missing page, an endless page, a page that needs too much
    memory, a page of gigapixels, and a file that kills its worker."""
    limits = {
        "PAGEMILL_MAX_ATTEMPTS": str(max_attempts),
        "PAGEMILL_LEASE_S": "3",
        "PAGEMILL_RENDER_TIMEOUT_S": "3",
        "PAGEMILL_RENDER_MEMORY_BYTES": str(512 * 1024**2),
        "PAGEMILL_MAX_PAGE_PX": "1000000",
    }
    async with experiment("poison", servers, folder, worker=limits) as run:
        rig = run.rig
        hostile = [deadly("deadly"), endless("endless"), broken("broken"), gigapixel("gigapixel")]
        hostile += [bomb("bomb")] if with_bomb else []
        await rig.submit(_among(several(good, pages=3), hostile))
        killer = next(id_ for id_, source in rig.sources.items() if source.filename == "deadly.pdf")
        rig.proxies["s3"].watch(Tripwire(f"{killer}/source.pdf".encode(), lambda port: _kill(run, port), before=True))
        await rig.fleet.start(2)
        await run.conclude()
        records = (await rig.records()).values()
        codes = {record["filename"]: record["error"]["code"] for record in records if record["error"]}
        expected = {source.filename: _CODES[source.filename] for source in hostile if source.is_poison}
        run.expect(codes == expected, f"failed with {codes}, not {expected}")
        run.expect(run.runs == max_attempts, f"the deadly file killed {run.runs} workers, not {max_attempts}")
    return run


def _among(good: list[Source], hostile: list[Source]) -> list[Source]:
    """Spread the bad documents evenly over the valid ones."""
    step = max(1, len(good) // len(hostile))
    mixed = list(good)
    for index, source in enumerate(hostile):
        mixed.insert(index * (step + 1), source)
    return mixed


def _kill(run: Experiment, port: int) -> bool:
    """Kill every worker that opens the connection."""
    if victim := run.rig.fleet.by_port(port):
        victim.signal(signal.SIGKILL)
        run.runs += 1
    return False


async def deliveries(servers: Mapping[str, str], folder: Path, *, documents: int, times: int = 3) -> Experiment:
    """Deliver every job `times` times; its effects must be there once."""
    async with experiment(f"delivered x {times}", servers, folder) as run:
        await run.rig.submit(several(documents, pages=3))
        for job in run.rig.jobs(run.rig.sources) * (times - 1):
            await run.rig.services.queue.publish(job)
        await run.rig.fleet.start(2)
        run.runs = documents * times
        result = await run.conclude()
        run.expect(result.extra_starts == 0, f"{result.extra_starts} extra starts")
        run.expect(result.pages_again == 0, f"{result.pages_again} pages embedded again")
    return run


async def unpublished(servers: Mapping[str, str], folder: Path, *, documents: int) -> Experiment:
    """Upload while the broker is down; the janitor publishes the jobs after its return."""
    async with experiment("publish fails", servers, folder) as run:
        rig = run.rig
        sources = several(documents, pages=3)
        async with open_services(settings_of(rig.worker_environment)) as proxied:
            await proxied.queue.ping()  # the outage must hit a connected producer
            with rig.proxies["kafka"].broken(REFUSED):
                submitter = submitter_of(proxied)
                await asyncio.gather(*(rig.submit([source], submitter) for source in sources))
        pending = Counter((record["state"], record["outbox"]) for record in (await rig.records()).values())
        run.expect(pending == {(DocumentState.RECEIVED, "pending"): documents}, f"after the uploads: {pending}")
        done = await janitor_of(rig.services).round()
        run.expect(done.repaired == {StaleKind.UNPUBLISHED: documents}, f"the janitor repaired {done.repaired}")
        run.runs = documents
        await rig.fleet.start(1)
        result = await run.conclude()
        run.expect(result.extra_starts == 0, f"{result.extra_starts} extra starts")
    return run


async def replays(servers: Mapping[str, str], folder: Path, *, documents: int) -> Experiment:
    """Remove the cause of dead letters, replay them twice in parallel, and once more afterwards."""
    # Without this, so many failures in a row stop the worker itself.
    undaunted = {"PAGEMILL_FAILURE_RUN_LIMIT": str(documents + 1)}
    async with experiment("replayed x 3", servers, folder, worker=undaunted) as run:
        rig = run.rig
        sources = [replace(source, is_poison=True) for source in several(documents, pages=3)]
        uploaded = await rig.submit(sources)
        await rig.services.blobs.delete([document.object_key for document in uploaded])
        await rig.fleet.start(1)
        await rig.all_dead_letters_sent(timeout_s=90)
        for document in uploaded:
            await rig.services.blobs.put(document.object_key, rig.sources[document.id].content, "application/pdf")
        outcomes = await asyncio.gather(_replay(rig), _replay(rig))
        await rig.all_settled(timeout_s=90)
        replayed = Counter(
            outcome.entry.letter.document_id for outcome in _all(*outcomes, await _replay(rig)) if outcome.is_changed
        )
        run.runs = sum(map(len, outcomes))
        run.expect(replayed == Counter(rig.sources.keys()), f"replayed: {replayed}")
        result = await run.conclude()
        run.expect(result.ready == documents, f"{result.ready} of {documents} ready")
        run.expect(result.extra_starts == documents, f"{result.extra_starts} attempts for {documents} replays")
    return run


async def _replay(rig: Rig) -> list[ReplayResult]:
    services = rig.services
    replayer = Replayer(services.dead_letters, services.documents, services.queue, services.progress)
    entries = await replayer.find(Selection())
    return [await replayer.replay(entry.letter, Reason("chaos", "the source files are restored")) for entry in entries]


def _all(*lists: Iterable[ReplayResult]) -> list[ReplayResult]:
    return [outcome for outcomes in lists for outcome in outcomes]
