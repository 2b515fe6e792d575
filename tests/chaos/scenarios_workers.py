"""Faults of workers: kills, stops, freezes, restarts."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ingestion.model import DocumentState
from tests.chaos.documents import Source, broken, flaky, several
from tests.chaos.experiment import Experiment, experiment
from tests.chaos.fleet import Worker
from tests.chaos.killer import BOUNDARIES, Boundary, Killer
from tests.chaos.rig import Rig
from tests.chaos.waiting import until, until_async

_PAGES: Final = 6
_BATCH: Final = 6
_PROGRESS_S: Final = 90.0
_ENDS: Final = ("lease lost", "skipped")
_SHORT_LEASE: Final = {"PAGEMILL_LEASE_S": "3"}

Records = dict[str, dict[str, Any]]
"""Records of documents in MongoDB, by id."""


async def keep_busy(rig: Rig) -> int:
    """Submit more documents if needed and wait until one more is settled. Returns the earlier count."""
    settled = await rig.settled()
    if len(rig.sources) - settled < _BATCH:
        await rig.submit(several(_BATCH, _PAGES, prefix=f"batch{len(rig.sources)}n"))

    async def has_more() -> bool:
        return await rig.settled() > settled

    await until_async(has_more, _PROGRESS_S, f"more than {settled} documents settled")
    return settled


async def kills(
    servers: Mapping[str, str], folder: Path, *, count: int, workers: int = 3, seed: int = 1
) -> Experiment:
    """kill -9, alternately at a stage boundary and at a random moment."""
    async with experiment("kill -9", servers, folder, worker=_SHORT_LEASE) as run:
        await run.rig.fleet.start(workers)
        killer, missed = Killer(run.rig, seed), Counter[str]()
        order = random.Random(seed).sample(BOUNDARIES, len(BOUNDARIES))
        for turn in range(2 * count):
            await keep_busy(run.rig)
            if turn % 2:
                await killer.at_random()
            else:
                boundary = order[turn // 2 % len(order)]
                missed[boundary.name] += not await killer.at(boundary, provoked_by=_provoking(boundary, turn))
            if killer.kills == count:
                break
        run.runs = killer.kills
        await run.conclude()
        run.expect(killer.kills == count, f"{killer.kills} kills instead of {count}; not reached: {+missed}")
        _expect_few_repeats(run)
    return run


def _provoking(boundary: Boundary, turn: int) -> list[Source]:
    """The documents that make a worker reach `boundary`."""
    if boundary.name.endswith("letter"):
        return [broken(f"broken{turn}")]
    if boundary.name.endswith(("retry", "plan")):  # only a later attempt records a plan
        return [flaky(f"turn{turn}")]
    return several(2, _PAGES, prefix=f"turn{turn}n")


def _expect_few_repeats(run: Experiment) -> None:
    """A page is embedded at most once per attempt of its document."""
    starts = Counter(line["document_id"] for line in run.rig.fleet.events("claimed"))
    seen = run.rig.seen()
    for id_, source in run.rig.sources.items():
        most = max(seen[text] for text in source.texts)
        run.expect(most <= starts[id_], f"a page of {id_} was embedded {most} times in {starts[id_]} starts")


async def terms(
    servers: Mapping[str, str], folder: Path, *, count: int, workers: int = 3, seed: int = 2
) -> Experiment:
    """SIGTERM at random moments, with a drain long enough for the running jobs."""
    pick = random.Random(seed)
    async with experiment("SIGTERM", servers, folder) as run:
        await run.rig.fleet.start(workers)
        while run.runs < count:
            await keep_busy(run.rig)
            await asyncio.sleep(pick.uniform(0, 0.5))
            worker = pick.choice([worker for worker in run.rig.fleet.running if worker.events("partitions assigned")])
            worker.signal(signal.SIGTERM)
            status = await worker.ended()
            run.expect(status == 0, f"{worker.name} ended with status {status}")
            run.runs += 1
        result = await run.conclude()
        run.expect(result.extra_starts == 0, f"{result.extra_starts} extra starts")
    return run


async def freezes(servers: Mapping[str, str], folder: Path, *, count: int, past_session: bool = False) -> Experiment:
    """SIGSTOP a worker until others have processed its documents, then SIGCONT: its late writes are refused.

    The rig delivers the documents again, as a broker does that expires the member; noida-db never does. With
    `past_session` the broker does it, and the worker has to join the group again.
    """
    ready: Records = {}
    fault = "SIGSTOP past the session" if past_session else "SIGSTOP"
    async with experiment(fault, servers, folder, embed_s=0.3, worker=_SHORT_LEASE) as run:
        await run.rig.fleet.start(2)
        while run.runs < count:
            await keep_busy(run.rig)
            worker = run.rig.fleet.running[run.runs % 2]
            worker.signal(signal.SIGSTOP)
            if frozen := await _in_work(run.rig, worker):
                if not past_session:
                    await run.rig.broker.publish_everywhere(run.rig.jobs(frozen))
                lost = await _ready_elsewhere(run.rig, frozen)
                joins = len(worker.events("partitions assigned"))
                worker.signal(signal.SIGCONT)
                await _lets_go(worker, set(lost))
                if past_session:
                    await until(
                        lambda worker=worker, joins=joins: len(worker.events("partitions assigned")) > joins,
                        _PROGRESS_S,
                        f"{worker.name} has joined again",
                    )
                ready |= lost
                run.runs += bool(lost)
            worker.signal(signal.SIGCONT)
        await run.conclude()
        after = await run.rig.records()
        changed = [id_ for id_, record in ready.items() if after[id_] != record]
        run.expect(not changed, f"changed by a worker that had lost its lease: {changed}")
    return run


async def _in_work(rig: Rig, worker: Worker) -> Records:
    """The documents that `worker` has claimed, by the ledger."""
    await asyncio.sleep(0.2)  # requests sent before the stop arrive
    its_work = (worker.name, DocumentState.PROCESSING)
    found = await rig.records()
    return {id_: record for id_, record in found.items() if (record["owner"], record["state"]) == its_work}


async def _ready_elsewhere(rig: Rig, frozen: Records) -> Records:
    """Their records when ready, without those whose outcome was already sent when the worker stopped."""
    ready = await rig.all_ready(frozen, _PROGRESS_S)
    return {id_: record for id_, record in ready.items() if record["fence"] != frozen[id_]["fence"]}


async def _lets_go(worker: Worker, ids: set[str]) -> None:
    """Wait until the worker drops these documents: it lost the lease, or its claim found nothing to do."""

    def has_let_go() -> bool:
        return ids <= {line["document_id"] for event in _ENDS for line in worker.events(event)}

    await until(has_let_go, _PROGRESS_S, f"{worker.name} drops {ids}")


async def comings_and_goings(
    servers: Mapping[str, str], folder: Path, *, seconds: float, workers: int, period_s: float, seed: int = 3
) -> Experiment:
    """Kill, stop and restart workers all the time; documents must become ready in each period."""
    pick, away = random.Random(seed), list[str]()
    async with experiment("come and go", servers, folder, worker=_SHORT_LEASE) as run:
        killer = Killer(run.rig, seed)
        await run.rig.fleet.start(workers)
        start = time.monotonic()
        settled_at: list[float] = []
        while time.monotonic() - start < seconds:
            before = await keep_busy(run.rig)
            settled_at += [time.monotonic() - start] * (await run.rig.settled() - before)
            if away:
                run.rig.fleet.keep(away.pop())
            elif pick.random() < 0.5:
                await killer.at_random()
            else:
                worker = pick.choice(run.rig.fleet.running)
                away.append(worker.name)
                await run.rig.fleet.dismiss(worker)
            run.runs += 1
        periods = Counter(int(at / period_s) for at in settled_at)
        idle = [period for period in range(int(seconds / period_s)) if not periods[period]]
        run.expect(not idle, f"no document settled in periods {idle} of {period_s:g} s")
        await run.conclude()
    return run
