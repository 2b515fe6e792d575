"""A stage that hangs, on real stores. The attempt ends and counts, and a later attempt makes the document ready."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from ingestion.bootstrap import Services
from ingestion.concurrency.supervision import TaskSupervisor
from ingestion.model import DocumentState
from tests.support.pipelines import (
    ScriptedEmbedder,
    assert_stores_hold_exactly,
    job,
    pipeline,
    read,
    submitted,
)
from tests.support.waiting import wait_for
from workers.attempt.stall import StallDetector
from workers.pipeline import Pipeline

S = DocumentState
DEADLINE_S = 60.0
FLOOR_S = 2.0


@pytest.fixture
async def background() -> AsyncIterator[TaskSupervisor]:
    async with TaskSupervisor() as tasks:
        yield tasks


def impatient(services: Services, embedder: ScriptedEmbedder, background: TaskSupervisor) -> Pipeline:
    """A pipeline whose stages count as stalled after FLOOR_S."""
    watched = replace(pipeline(services, embedder, lease_s=2.0), stalls=StallDetector(floor_s=FLOOR_S, factor=1.0))
    background.run_forever("stalls", watched.stalls.run)
    return watched


async def test_a_model_that_hangs_ends_the_attempt_and_the_next_one_goes_on_after_the_checkpoint(
    services: Services, tmp_path: Path, background: TaskSupervisor
) -> None:
    document = await submitted(services, tmp_path / "a.pdf", pages=7)
    embedder = ScriptedEmbedder()
    embedder.hold_at = 5
    worker = impatient(services, embedder, background)
    async with asyncio.timeout(DEADLINE_S):
        await worker.run(job(document))
    put_off = await read(services, document)
    assert (put_off.state, put_off.attempts, put_off.owner) == (S.QUEUED, 1, "")
    assert put_off.error is not None
    assert (put_off.error.code, put_off.error.stage) == ("stalled", "embed")
    embedder.hold_at = None
    await due_now(services, document.id)
    async with asyncio.timeout(DEADLINE_S):
        await worker.run(job(document))
    assert (await read(services, document)).state is S.READY
    await assert_stores_hold_exactly(services, document)


async def test_a_neighbour_is_not_held_up_by_one_that_hangs(
    services: Services, tmp_path: Path, background: TaskSupervisor
) -> None:
    hanging = await submitted(services, tmp_path / "a.pdf", pages=7)
    neighbour = await submitted(services, tmp_path / "b.pdf", pages=3, word="other")
    embedder = ScriptedEmbedder()
    embedder.hold_at = 5
    worker = impatient(services, embedder, background)
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        group.create_task(worker.run(job(hanging)))
        await wait_for(embedder.holding.is_set)
        await worker.run(job(neighbour))
    assert (await read(services, neighbour)).state is S.READY
    assert (await read(services, hanging)).state is S.QUEUED


async def due_now(services: Services, document_id: str) -> None:
    """Put the wait before the retry in the past."""
    database = services.documents._documents  # type: ignore[attr-defined]
    await database.update_one({"_id": document_id}, {"$set": {"lease_until": 0}})
