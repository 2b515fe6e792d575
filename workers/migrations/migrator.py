"""Applies the steps one after another, and records each in MongoDB."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from ingestion.concurrency.supervision import TaskSupervisor
from ingestion.errors import DependencyUnavailable, NewerRecord
from workers.migrations.step import Step, Task

log = structlog.get_logger(__name__)

_LEASE_MS: Final = 60_000
_RENEW_EVERY_S: Final = 15.0
_RECHECK_S: Final = 1.0


class MigrationRecords(Protocol):
    """The applied steps, and the lock of `pagemill migrate`."""

    async def applied_versions(self) -> dict[str, int]: ...
    async def record_step(self, name: str, version: int) -> None: ...
    async def lock(self, token: str, lease_ms: int) -> bool: ...
    async def unlock(self, token: str) -> None: ...


@dataclass(slots=True)
class StepReport:
    """`done` are the tasks that were done, or would be; `left` those that need the operator's command."""

    step: str
    done: list[Task] = field(default_factory=list)
    left: list[Task] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Migrator:
    """`on_wait` is called once where another migration runs."""

    records: MigrationRecords
    steps: Sequence[Step]
    on_wait: Callable[[], None] = lambda: None

    async def check(self) -> list[StepReport]:
        """Returns what is to be done, and changes nothing. Raises NewerRecord, DependencyUnavailable."""
        await self._require_known()
        return [_report(step, await step.tasks()) for step in self.steps]

    async def migrate(self) -> list[StepReport]:
        """Apply all steps. Waits while another process does. Raises NewerRecord, DependencyUnavailable.

        A step that was interrupted is applied again at the next call.
        """
        async with self._locked():
            await self._require_known()
            reports = []
            for step in self.steps:
                report = _report(step, await step.tasks())
                await step.apply()
                await self.records.record_step(step.name, step.version)
                for task in report.done:
                    log.info("migrated", step=step.name, task=task.what)
                reports.append(report)
            return reports

    async def _require_known(self) -> None:
        """Raises NewerRecord where a newer release has migrated: this one does not know what it needs."""
        applied = await self.records.applied_versions()
        for step in self.steps:
            if applied.get(step.name, 0) > step.version:
                raise NewerRecord(
                    f"step {step.name!r} was applied in version {applied[step.name]}, and this release knows "
                    f"{step.version}: migrate with the newer release"
                )

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        token = secrets.token_hex(8)
        if not await self.records.lock(token, _LEASE_MS):
            self.on_wait()
            while not await self.records.lock(token, _LEASE_MS):  # noqa: ASYNC110  # the database sends no notice
                await asyncio.sleep(_RECHECK_S)
        try:
            async with TaskSupervisor() as background:
                background.run_forever("migration lock", lambda: self._renew(token))
                yield
        finally:
            await self._unlock(token)

    async def _renew(self, token: str) -> None:
        """A lock that is lost is no harm: steps may be applied by several processes at once."""
        while True:
            await asyncio.sleep(_RENEW_EVERY_S)
            try:
                await self.records.lock(token, _LEASE_MS)
            except DependencyUnavailable as error:
                log.warning("migration lock not renewed", cause=error.message)

    async def _unlock(self, token: str) -> None:
        try:
            await self.records.unlock(token)
        except DependencyUnavailable as error:  # the lock ends with its lease; keep the block's own error
            log.warning("migration lock not released", cause=error.message)


def _report(step: Step, tasks: Sequence[Task]) -> StepReport:
    return StepReport(
        step.name, [task for task in tasks if not task.command], [task for task in tasks if task.command]
    )
