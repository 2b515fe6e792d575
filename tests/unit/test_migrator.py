"""The lock of `pagemill migrate`, with records in memory that do not answer for a while."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ingestion.errors import DependencyUnavailable
from ingestion.settings import Settings
from workers.cli import app
from workers.commands import migrate as command
from workers.migrations import migrator as module
from workers.migrations.migrator import Migrator, StepReport
from workers.migrations.step import Task
from workers.stack.datadir import DataDir


class Records:
    """Grants the lock, and fails while `is_down`."""

    def __init__(self) -> None:
        self.is_down = False
        self.locked: list[str] = []
        self.failed = 0

    async def applied_versions(self) -> dict[str, int]:
        return {}

    async def record_step(self, name: str, version: int) -> None: ...

    async def lock(self, token: str, lease_ms: int) -> bool:
        self._answer()
        self.locked.append(token)
        return True

    async def unlock(self, token: str) -> None:
        self._answer()

    def _answer(self) -> None:
        if self.is_down:
            self.failed += 1
            raise DependencyUnavailable("mongodb", "it is down")


class OutageStep:
    """Its `apply` waits until a renewal of the lock has failed, and then until one has been granted again."""

    name = "outage"
    version = 1

    def __init__(self, records: Records) -> None:
        self._records = records

    async def tasks(self) -> list[Task]:
        return []

    async def apply(self) -> None:
        async with asyncio.timeout(10):
            self._records.is_down = True
            while not self._records.failed:
                await asyncio.sleep(0)
            self._records.is_down = False
            granted = len(self._records.locked)
            while len(self._records.locked) == granted:
                await asyncio.sleep(0)


class BrokenStep(OutageStep):
    async def apply(self) -> None:
        self._records.is_down = True
        raise ValueError("the step's own error")


async def test_the_lock_is_renewed_again_after_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RENEW_EVERY_S", 0.0)
    records = Records()
    [report] = await Migrator(records, [OutageStep(records)]).migrate()
    assert report.step == "outage"
    assert len(set(records.locked)) == 1


async def test_a_lock_that_cannot_be_released_does_not_hide_the_error_of_a_step() -> None:
    records = Records()
    with pytest.raises(ValueError, match="the step's own error"):
        await Migrator(records, [BrokenStep(records)]).migrate()


def test_a_setting_of_a_running_stack_goes_before_a_file_that_the_user_has_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    used: list[str] = []

    async def run(settings: Settings, *, check: bool) -> list[StepReport]:
        used.append(settings.mongo.mongo_uri)
        return []

    (tmp_path / "uri").write_text("mongodb://own")
    monkeypatch.setenv("PAGEMILL_MONGO_URI", "")
    monkeypatch.setenv("PAGEMILL_MONGO_URI_FILE", str(tmp_path / "uri"))
    monkeypatch.setattr(DataDir, "read_stack", lambda _: {"of": "the stack"})
    monkeypatch.setattr(command, "environment_of", lambda _: {"PAGEMILL_MONGO_URI": "mongodb://stack"})
    monkeypatch.setattr(command, "_run", run)
    result = CliRunner().invoke(app, ["migrate", "--check", "--data-dir", str(tmp_path)])
    assert (result.exit_code, used) == (0, ["mongodb://stack"]), result.output
