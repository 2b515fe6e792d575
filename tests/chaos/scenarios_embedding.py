"""Texts that break an embedding service which works otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ingestion.model import DocumentState
from tests.chaos.documents import DROPS, HANGS, poisoned, several
from tests.chaos.experiment import Experiment, experiment
from tests.chaos.proxy import Tripwire

_DRAINED_S: Final = 150.0
_CODES: Final = {"a-hangs.pdf": {"embedding_failed"}, "a-drops.pdf": {"embedding_failed", "fails_alone"}}


async def poisoned_texts(
    servers: Mapping[str, str], folder: Path, *, good: int, max_attempts: int = 5, workers: int = 2
) -> Experiment:
    """One text is never answered; another one drops the connections of all requests in the service.

    Both documents end in dead letters and all others become ready. If only the hanging text is there, the others need
    one attempt.
    """
    patient = {
        "PAGEMILL_LEASE_S": "5",
        "PAGEMILL_EMBEDDER_TIMEOUT_S": "1.5",
        "PAGEMILL_MAX_ATTEMPTS": str(max_attempts),
        "PAGEMILL_FAILURE_RUN_LIMIT": "3",
    }
    async with experiment("embedder poisoned", servers, folder, worker=patient) as run:
        rig = run.rig
        rig.proxies["embedder"].watch(Tripwire(f'"{DROPS} '.encode(), lambda port: _cut(run), before=True))
        await rig.submit([*several(good // 2, pages=3), poisoned("a-hangs", HANGS, 4), poisoned("a-drops", DROPS, 4)])
        await rig.submit(several(good - good // 2, pages=3, prefix="later"))
        await rig.fleet.start(workers)
        await rig.all_settled(_DRAINED_S)
        await run.conclude()
        await _expect_verdicts(run)
        run.expect(rig.embedding.embedder.hung > 0 and run.runs > 0, "the service has not received both texts")
    return run


def _cut(run: Experiment) -> bool:
    """Drop the connections of all requests in the service, like a restart does."""
    run.runs += 1
    for connection in list(run.rig.proxies["embedder"]._connections):
        connection.reset()
    return False


async def _expect_verdicts(run: Experiment) -> None:
    records = (await run.rig.records()).values()
    failed = {record["filename"]: record["error"]["code"] for record in records if record["error"]}
    run.expect(failed.keys() == _CODES.keys(), f"failed: {failed}")
    for filename, codes in _CODES.items():
        run.expect(failed.get(filename) in codes, f"{filename} failed with {failed.get(filename)}")
    ready = [record for record in records if record["state"] == DocumentState.READY]
    run.expect(len(ready) == len(run.rig.sources) - len(_CODES), f"{len(ready)} ready")
