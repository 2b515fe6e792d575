"""Delete or cancel documents while workers process them, and upload the same files again at once."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Final

from tests.chaos.documents import Source, several
from tests.chaos.experiment import Experiment, experiment
from tests.chaos.rig import Rig

_TOGETHER: Final = 4
_PAGES: Final = 6
_PROGRESS_S: Final = 90.0
_SHORT_LEASE: Final = {"PAGEMILL_LEASE_S": "3"}

TakeAway = Callable[[Rig, Collection[str]], Awaitable[list[Source]]]


async def deletions(servers: Mapping[str, str], folder: Path, *, rounds: int, seed: int = 4) -> Experiment:
    """Each round submits four documents, deletes three at a random moment and uploads two of them again.

    In every second round one worker is frozen until another worker has processed the new uploads.
    """
    return await _take_away("deleted", servers, folder, Rig.delete, rounds, seed)


async def cancellations(servers: Mapping[str, str], folder: Path, *, rounds: int, seed: int = 5) -> Experiment:
    """As `deletions`, with cancelled documents. The third one stays cancelled."""
    return await _take_away("cancelled", servers, folder, Rig.cancel, rounds, seed)


async def _take_away(
    name: str, servers: Mapping[str, str], folder: Path, take: TakeAway, rounds: int, seed: int
) -> Experiment:
    """`take` returns the sources of the documents that it took."""
    pick = random.Random(seed)
    async with experiment(name, servers, folder, embed_s=0.1, worker=_SHORT_LEASE) as run:
        rig = run.rig
        await rig.fleet.start(2)
        for turn in range(rounds):
            accepted = await rig.submit(several(_TOGETHER, _PAGES, prefix=f"turn{turn}n"))
            await asyncio.sleep(pick.uniform(0.0, 1.5))
            worker = rig.fleet.running[turn // 2 % 2]
            stands_still = turn % 2 == 0
            if stands_still:
                worker.signal(signal.SIGSTOP)
            taken = await take(rig, [document.id for document in pick.sample(accepted, 3)])
            again = {document.id for document in await rig.submit(taken[:2])}
            if stands_still:
                await rig.broker.publish_everywhere(rig.jobs(again))
                await rig.all_ready(again, _PROGRESS_S)
                worker.signal(signal.SIGCONT)
            run.runs += len(taken)
        await run.conclude()
    return run
