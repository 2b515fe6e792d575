"""The steps of every scenario: a rig, a fault, the end of the work, an audit, one row of the table."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tests.chaos.invariants import Audit, Watch, audit, watching
from tests.chaos.rig import Rig, open_rig
from tests.chaos.waiting import until_async

_SETTLE_S: Final = 120.0


@dataclass(slots=True)
class Experiment:
    """One run of one scenario. `runs`: number of faults injected. `problems`: expectations that failed."""

    fault: str
    rig: Rig
    watch: Watch
    runs: int = 0
    problems: list[str] = field(default_factory=list)
    audit: Audit | None = None
    seconds: float = 0.0

    def expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.problems.append(otherwise)

    async def conclude(self, *, settle_s: float = _SETTLE_S) -> Audit:
        """Wait for the work and the committed offsets, stop the workers, and audit the stores."""
        await self.rig.all_settled(settle_s)
        await until_async(self._backlog_is_committed, settle_s, "every record committed")
        await self.rig.fleet.retire()
        self.audit = await audit(self.rig, self.watch)
        return self.audit

    async def _backlog_is_committed(self) -> bool:
        committed = await self.rig.broker.committed()
        await self.rig.broker.refresh()
        return not self.rig.broker.behind(committed)

    @property
    def verdict(self) -> list[str]:
        """The broken invariants and failed expectations; empty if all hold."""
        if self.audit is None:
            return [*self.problems, "not concluded"]
        broken = [f"{name} {count}: {self.audit.details.get(name)}" for name, count in self.audit.violations.items()]
        return broken + self.problems

    def assert_clean(self) -> None:
        assert not self.verdict, "\n".join(self.verdict)


@asynccontextmanager
async def experiment(
    fault: str,
    servers: Mapping[str, str],
    folder: Path,
    *,
    embed_s: float = 0.02,
    worker: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[Experiment]:
    """Run the block on a rig, watch its offsets and measure its time."""
    async with (
        open_rig(servers, folder, embed_s, worker) as rig,
        watching(rig) as watch,
    ):
        run = Experiment(fault, rig, watch)
        started = time.monotonic()
        yield run
        run.seconds = time.monotonic() - started
