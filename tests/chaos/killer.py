"""kill -9 at random moments and at stage boundaries."""

from __future__ import annotations

import asyncio
import random
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ingestion.model import DocumentState
from tests.chaos.documents import Source
from tests.chaos.fleet import Worker
from tests.chaos.proxy import Tripwire
from tests.chaos.rig import Rig
from tests.chaos.waiting import until

_BOUNDARY_S: Final = 20.0
_ATTEMPTS_SPARED: Final = 3
"""Do not kill a worker whose document has so many attempts: the fifth one correctly ends in a dead letter."""


@dataclass(frozen=True, slots=True)
class Boundary:
    """A stage boundary: the moment before or after a worker sends `pattern` to `server`."""

    name: str
    server: str
    pattern: bytes
    before: bool


MOMENTS: Final = {
    "claim": ("mongo", b"\0claimed\0"),
    "fetch": ("s3", b"/source.pdf"),
    "plan": ("mongo", b"$literal\0\x0b\0\0\0processing\0"),
    "embed": ("embedder", b"POST /v1/embeddings"),
    "objects": ("s3", b"/pages/"),
    "rows": ("milvus", b"page_key"),
    "records": ("mongo", b"image_key"),
    "checkpoint": ("mongo", b"\x10pages_done\0"),
    "finish": ("mongo", b"\x02ready_at\0"),
    "announcement": ("kafka", b'"state":"ready"'),
    "letter": ("kafka", b"__dlq.errors"),
    "retry": ("kafka", b"pagemill.retry.due.ms"),
}
"""Server and bytes of each step. `tests/unit/test_chaos_moments.py` compares them with the commands to MongoDB."""

BOUNDARIES: Final = tuple(
    Boundary(f"{'before' if before else 'after'} {name}", server, pattern, before)
    for name, (server, pattern) in MOMENTS.items()
    for before in (True, False)
)


class Killer:
    """Kills workers with SIGKILL."""

    def __init__(self, rig: Rig, seed: int) -> None:
        self._rig = rig
        self._random = random.Random(seed)
        self.kills = 0

    async def at_random(self) -> None:
        await asyncio.sleep(self._random.uniform(0, 0.5))
        if victims := await self._victims():
            victim = self._random.choice(victims)
            victim.signal(signal.SIGKILL)
            await self._count(victim)

    async def at(self, boundary: Boundary, provoked_by: Sequence[Source] = ()) -> bool:
        """Submit `provoked_by` and kill the first worker at the boundary. Returns False if none reaches it in time."""
        victims, dead, done = await self._victims(), list[Worker](), threading.Event()

        def kill(port: int) -> bool:
            if victim := self._rig.fleet.by_port(port, victims):
                victim.signal(signal.SIGKILL)
                dead.append(victim)
                done.set()
            return victim is not None

        wire = Tripwire(boundary.pattern, kill, boundary.before)
        proxy = self._rig.proxies[boundary.server]
        proxy.watch(wire)
        try:
            await self._rig.submit(provoked_by)
            await until(done.is_set, _BOUNDARY_S, boundary.name)
        except AssertionError:
            return False
        finally:
            proxy.unwatch(wire)
        await self._count(dead[0])
        return True

    async def _victims(self) -> list[Worker]:
        """Running workers, without those whose document has its last attempt."""
        spared = {
            record["owner"]
            for record in (await self._rig.records()).values()
            if record["attempts"] >= _ATTEMPTS_SPARED and record["state"] == DocumentState.PROCESSING
        }
        return [worker for worker in self._rig.fleet.running if worker.name not in spared]

    async def _count(self, victim: Worker) -> None:
        await victim.ended()
        self.kills += 1
