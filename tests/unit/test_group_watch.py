"""Topics that nothing reads, as a worker reports them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from ingestion.errors import DependencyUnavailable
from workers.consumer.group_watch import GroupWatch
from workers.runtime.health import Health

Answer = set[str] | Exception | None


async def watched(answers: Sequence[Answer]) -> tuple[GroupWatch, list[str]]:
    """Let a watch ask for these answers. Returns it, and its log above the level of debugging."""
    left, done = list(answers), asyncio.Event()

    async def find() -> set[str] | None:
        if not left:
            done.set()
            await asyncio.Event().wait()
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    watch = GroupWatch(find, 0.0)
    with capture_logs() as lines:
        task = asyncio.create_task(watch.run())
        await done.wait()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    return watch, [line["event"] for line in lines if line["log_level"] != "debug"]


async def test_a_topic_that_two_questions_find_without_a_consumer_is_reported_once() -> None:
    watch, log = await watched([{"retry"}, {"retry"}, {"retry"}])
    assert (watch.unassigned, log) == (["retry"], ["topics without a consumer"])
    assert json.loads(Health(True, [], watch.unassigned).as_json())["unassigned_topics"] == ["retry"]


@pytest.mark.parametrize(
    "answers", [[{"retry"}, set()], [{"retry"}, {"jobs"}], [{"retry"}, set(), {"retry"}]], ids=["once", "other", "gap"]
)
async def test_a_topic_that_one_question_finds_is_not_reported(answers: list[Answer]) -> None:
    watch, log = await watched(answers)
    assert (watch.unassigned, log) == ([], [])


@pytest.mark.parametrize("answer", [None, DependencyUnavailable("kafka", "down")], ids=["a rebalance", "an outage"])
async def test_an_answer_without_topics_changes_nothing(answer: Answer) -> None:
    watch, log = await watched([{"retry"}, {"retry"}, answer])
    assert (watch.unassigned, len(log)) == (["retry"], 1)
    watch, log = await watched([{"retry"}, answer, {"retry"}])
    assert (watch.unassigned, len(log)) == (["retry"], 1)


async def test_the_end_is_logged_too() -> None:
    watch, log = await watched([{"retry"}, {"retry"}, set()])
    assert (watch.unassigned, log) == ([], ["topics without a consumer", "all topics have a consumer"])
