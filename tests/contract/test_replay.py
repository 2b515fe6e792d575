"""Dead letters are listed, replayed and discarded, on a real broker and a real document store."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import structlog
from typer.testing import CliRunner, Result

from ingestion.adapters.kafka import dead_letters
from ingestion.adapters.kafka.consumer import JobConsumer
from ingestion.adapters.kafka.consumer_group import KafkaConsumerGroup
from ingestion.adapters.kafka.dead_letters import KafkaDeadLetters
from ingestion.adapters.kafka.producer import KafkaJobQueue
from ingestion.adapters.kafka.topics import ensure_topics
from ingestion.adapters.mongo.document_store import MongoDocumentStore
from ingestion.adapters.redis.progress import RedisProgress
from ingestion.dead_letters import of_record
from ingestion.errors import BadMessage, BadRequest, DependencyUnavailable, NotFound
from ingestion.messages import Record
from ingestion.model import DocumentState, Failure, StaleKind
from ingestion.ports import GroupSnapshot
from ingestion.replay.entries import DeadLetterStatus
from ingestion.replay.replayer import Reason, Replayer
from ingestion.replay.selection import Selection
from ingestion.settings import KafkaSettings, Settings
from tests.support.desk import THEIRS, Desk, job_of
from tests.support.documents import document
from workers.cli import app

pytestmark = pytest.mark.each_broker

S = DocumentState
REASON = Reason("ann@host", "the bucket is back")


@pytest.fixture
async def desk(
    settings: Settings, document_store: MongoDocumentStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[Desk]:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)  # no stack runs here, so the commands use the settings
    kafka = settings.kafka.model_copy(update={"kafka_partitions": 1})
    await ensure_topics(kafka)
    async with KafkaJobQueue(kafka) as queue, RedisProgress(settings.redis) as progress:
        replayer = Replayer(KafkaDeadLetters(kafka), document_store, queue, progress)
        yield Desk(kafka, document_store, queue, progress, replayer)
    structlog.reset_defaults()


async def pagemill(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, app, arguments, catch_exceptions=False)


async def dlq(*arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """Exit status and JSON lines of `pagemill dlq …`."""
    result = await pagemill("dlq", *arguments, "--json")
    return result.exit_code, [json.loads(line) for line in result.stdout.splitlines()]


class Counting:
    """The document store, with its requests counted by method."""

    def __init__(self, documents: MongoDocumentStore) -> None:
        self._documents = documents
        self.requests: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        self.requests[name] += 1
        return getattr(self._documents, name)


async def test_letters_cost_the_same_few_requests_however_many_there_are(desk: Desk) -> None:
    for number in range(7):
        await desk.dead(f"d{number}")
    await desk.dead("gone")
    await desk.documents.begin_delete("gone")
    await desk.documents.remove(await desk.read("gone"))
    await desk.bad_message()
    counting = Counting(desk.documents)
    replayer = Replayer(KafkaDeadLetters(desk.kafka), cast(Any, counting), desk.queue, desk.progress)
    assert Counter(entry.status for entry in await replayer.find(Selection())) == {
        DeadLetterStatus.OPEN: 8,
        DeadLetterStatus.DELETED: 1,
    }
    assert counting.requests == {"letter_marks": 1, "known": 1, "archived_ids": 1}
    assert len(await replayer.find(Selection(code="nothing"))) == 0
    assert counting.requests.total() == 3, "nothing is asked about letters that are not meant"


async def test_the_newest_letters_come_first_in_parts(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "_RECORDS_PER_PART", 3)
    ids = [(await desk.dead(f"d{number}")).id for number in range(7)]
    assert (await desk.replayer.newest(Selection(), 100)).next is None
    found, before = [], None
    while True:
        part = await desk.replayer.newest(Selection(), 2, before)
        found.append([entry.letter.id for entry in part.entries])
        if (before := part.next) is None:
            break
    assert [id_ for part_ids in found for id_ in part_ids] == ids[::-1]
    assert [len(part_ids) for part_ids in found[:3]] == [2, 2, 2]
    assert (await desk.replayer.one(ids[0], Selection())).letter.id == ids[0]
    with pytest.raises(NotFound, match="nothing"):
        await desk.replayer.one("nothing", Selection())
    for place in ("", "x", "0", "0.x", "0.-1", "0.1-", "0.٣"):
        with pytest.raises(BadRequest):
            await desk.replayer.newest(Selection(), 1, place)


async def test_the_lag_counts_records_that_no_worker_has_committed(desk: Desk, settings: Settings) -> None:
    group = KafkaConsumerGroup(desk.kafka)
    jobs = desk.kafka.kafka_jobs_topic
    before = (await _first_snapshot(group)).lag[jobs]
    await desk.replayer.replay(await desk.bad_message(), REASON)
    snapshot = await group.snapshot()
    assert (snapshot.members, snapshot.lag[jobs]) == ([], before + 1)
    assert set(snapshot.lag) == {jobs, *desk.kafka.retry_topics.values()}
    consumer = JobConsumer(desk.kafka, "host-1")

    async def ignored(_: object) -> None: ...

    await consumer.start(ignored, ignored)
    try:
        async with asyncio.timeout(60):
            while not (records := await consumer.poll(10, 500)):
                pass
            await consumer.commit({records[-1].partition: records[-1].offset + 1})
            assert (await group.snapshot()).members == ["host-1"]
    finally:
        await consumer.stop()
    assert (await group.snapshot()).lag[jobs] == 0


async def _first_snapshot(group: KafkaConsumerGroup) -> GroupSnapshot:
    """A broker that has had no group makes its topic of offsets at the first question, and refuses that question."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await group.snapshot()
            except DependencyUnavailable:
                await asyncio.sleep(0.1)


# replay


async def test_a_replayed_document_is_queued_and_its_job_published_with_the_same_bytes(desk: Desk) -> None:
    letter = await desk.dead()
    outcome = await desk.replayer.replay(letter, REASON)
    assert (outcome.is_changed, outcome.entry.status) == (True, DeadLetterStatus.REPLAYED)
    again = await desk.read("d1")
    assert (again.state, again.outbox, again.attempts, again.error) == (S.QUEUED, "sent", 0, None)
    key, value, headers = job_of(again)
    assert await desk.published() == [(key, value, [*headers, THEIRS])]
    assert (await desk.progress.read("d1"))["status"] == "queued"
    mark = outcome.entry.mark
    assert mark is not None
    assert (mark.action, mark.by, mark.why) == ("replayed", REASON.by, REASON.why)


async def test_replaying_twice_runs_once(desk: Desk) -> None:
    letter = await desk.dead()
    await desk.replayer.replay(letter, REASON)
    again = await desk.replayer.replay(letter, Reason("bob", "too"))
    assert (again.is_changed, again.entry.status) == (False, DeadLetterStatus.REPLAYED)
    assert again.entry.mark is not None
    assert again.entry.mark.by == REASON.by
    assert len(await desk.published()) == 1


async def test_two_concurrent_replays_of_the_same_letters_run_each_document_once(desk: Desk) -> None:
    letters = [await desk.dead(f"d{number}") for number in range(12)]
    outcomes = await asyncio.gather(
        *(desk.replayer.replay(letter, Reason(who, "")) for letter in letters for who in ("ann", "bob"))
    )
    assert Counter(outcome.entry.letter.id for outcome in outcomes if outcome.is_changed) == {
        letter.id: 1 for letter in letters
    }
    assert Counter(key for key, _, _ in await desk.published()) == {letter.key: 1 for letter in letters}
    assert {(await desk.read(letter.document_id)).outbox for letter in letters} == {"sent"}


async def test_a_replay_cut_off_before_its_mark_is_finished_by_the_next_one(desk: Desk) -> None:
    letter = await desk.dead()
    assert await desk.documents.requeue("d1", fence=letter.fence)
    assert await desk.statuses() == {letter.id: "open"}
    assert (await desk.replayer.replay(letter, REASON)).is_changed
    assert len(await desk.published()) == 1
    assert (await desk.read("d1")).outbox == "sent"


async def test_a_replay_that_the_broker_cuts_off_is_left_to_the_janitor(desk: Desk) -> None:
    letter = await desk.dead()
    async with KafkaJobQueue(KafkaSettings(kafka_bootstrap="127.0.0.1:1")) as unreachable:
        replayer = Replayer(KafkaDeadLetters(desk.kafka), desk.documents, unreachable, desk.progress)
        with pytest.raises(DependencyUnavailable):
            await replayer.replay(letter, REASON)
    again = await desk.replayer.replay(letter, REASON)
    assert (again.is_changed, again.entry.status) == (False, DeadLetterStatus.REPLAYED)
    assert [one.id for one in await desk.documents.stale(StaleKind.UNPUBLISHED, 0, 10)] == ["d1"]


async def test_a_document_that_dies_again_has_a_new_letter_and_the_old_one_no_longer_acts(desk: Desk) -> None:
    first = await desk.dead()
    await desk.replayer.replay(first, REASON)
    second = await desk.dies("d1")
    assert await desk.statuses() == {first.id: "replayed", second.id: "open"}
    assert not (await desk.replayer.replay(first, REASON)).is_changed
    assert await desk.state("d1") is S.FAILED
    assert (await desk.replayer.replay(second, REASON)).is_changed
    assert len(await desk.published()) == 2


async def test_replay_of_a_document_that_was_uploaded_again_is_a_no_op(desk: Desk) -> None:
    letter = await desk.dead()
    await desk.documents.requeue("d1")
    await desk.documents.mark_queued(document("d1"))
    for _ in range(2):  # while the document is queued, and when it has failed under another fence
        outcome = await desk.replayer.replay(letter, REASON)
        assert (outcome.is_changed, outcome.entry.status, outcome.entry.mark) == (
            False,
            DeadLetterStatus.MOVED_ON,
            None,
        )
        if await desk.state("d1") is S.QUEUED:
            await desk.dies("d1")
    assert await desk.state("d1") is S.FAILED
    assert await desk.published() == []


async def test_a_document_deleted_and_uploaded_again_has_letters_of_its_own(desk: Desk) -> None:
    old = await desk.dead()
    await desk.replayer.discard(old, REASON)
    await desk.documents.begin_delete("d1")
    await desk.documents.remove(document("d1"))
    await desk.documents.insert(replace(document("d1"), first_page_key=5))
    new = await desk.dies("d1")
    assert (new.document_id, new.fence) == (old.document_id, old.fence)
    assert await desk.statuses() == {old.id: "discarded", new.id: "open"}
    assert (await desk.replayer.replay(new, REASON)).is_changed


@pytest.mark.parametrize("is_removed", [False, True])
async def test_replay_of_a_deleted_document_is_a_no_op(desk: Desk, is_removed: bool) -> None:
    letter = await desk.dead()
    await desk.documents.begin_delete("d1")
    if is_removed:
        await desk.documents.remove(document("d1"))
    outcome = await desk.replayer.replay(letter, REASON)
    assert (outcome.is_changed, outcome.entry.status, outcome.entry.mark) == (False, DeadLetterStatus.DELETED, None)
    assert await desk.published() == []


async def test_a_message_that_was_no_job_is_published_again_once(desk: Desk) -> None:
    letter = await desk.bad_message()
    outcomes = await asyncio.gather(*(desk.replayer.replay(letter, REASON) for _ in range(2)))
    assert sorted(outcome.is_changed for outcome in outcomes) == [False, True]
    assert await desk.published() == [(None, b"\xff no job", [THEIRS])]


# discard


async def test_a_discarded_letter_is_marked_and_its_document_stays_failed(desk: Desk) -> None:
    letter = await desk.dead()
    assert (await desk.replayer.discard(letter, REASON)).is_changed
    for act in (desk.replayer.discard, desk.replayer.replay):
        outcome = await act(letter, Reason("bob", ""))
        assert (outcome.is_changed, outcome.entry.status) == (False, DeadLetterStatus.DISCARDED)
    mark = (await desk.documents.letter_marks([letter.id]))[letter.id]
    assert (mark.action, mark.by, mark.why) == ("discarded", REASON.by, REASON.why)
    assert await desk.state("d1") is S.FAILED
    assert await desk.published() == []


# the commands


async def test_the_list_holds_open_letters_oldest_first_and_can_be_narrowed(desk: Desk) -> None:
    other = Failure("corrupt_pdf", "render", "broken")
    old = await desk.dead("d1", collection="a")
    new = await desk.dead("d2", collection="b", failure=other)
    bad = await desk.bad_message()
    done = await desk.dead("d3", collection="a")
    await desk.replayer.discard(done, REASON)

    async def listed(*arguments: str) -> list[str]:
        status, lines = await dlq("list", *arguments)
        assert status == 0
        return [line["letter"] for line in lines]

    assert await listed() == [old.id, new.id, bad.id]
    assert await listed("--collection", "a", "--state", "all") == [old.id, done.id]
    assert await listed("--code", "corrupt_pdf") == [new.id]
    assert await listed("d3", old.id) == [old.id, done.id]
    assert await listed("--since", "1h", "--until", new.timestamp.isoformat()) == [old.id]


async def test_an_id_that_matches_nothing_is_named_and_nothing_is_done(desk: Desk) -> None:
    letter = await desk.dead()
    with pytest.raises(NotFound, match="no dead letter matches nobody"):
        await desk.replayer.find(Selection(ids=frozenset({letter.id, "nobody"})))
    result = await pagemill("dlq", "replay", "d1", "nobody")
    assert (result.exit_code, result.stderr) == (1, "error: no dead letter matches nobody\n")
    assert await desk.state("d1") is S.FAILED


async def test_show_prints_the_whole_history(desk: Desk) -> None:
    letter = await desk.dead()
    await desk.replayer.discard(letter, REASON)
    status, [shown] = await dlq("show", "d1")
    assert status == 0
    assert shown["letter"] == letter.id
    assert (shown["mark"]["action"], shown["mark"]["by"]) == ("discarded", REASON.by)
    assert shown["origin"] == {"topic": "jobs", "partition": 1, "offset": 42}
    assert (shown["key"], shown["document_state"]) == ("d1", "failed")
    assert [line["event"] for line in shown["history"]] == ["claimed", "failed"]
    assert {"name": "traceparent", "value_base64": "MDAt/w=="} in shown["headers"]
    report = (await pagemill("dlq", "show", letter.id)).stdout
    for told in (
        "source_missing",
        "the uploaded file is gone",
        "d1.pdf",
        REASON.by,
        REASON.why,
        "partition 1, offset 42",
    ):
        assert told in report
    assert '"filename":"d1.pdf"' in report, "the message itself"


async def test_a_dry_run_changes_nothing(desk: Desk) -> None:
    letter = await desk.dead()
    for command, words in (("replay", "would be replayed"), ("discard", "would be discarded")):
        status, [line] = await dlq(command, "--all", "--dry-run")
        assert (status, line["outcome"]) == (0, words)
    assert await desk.statuses() == {letter.id: "open"}
    assert await desk.state("d1") is S.FAILED
    assert await desk.published() == []


async def test_the_replay_command_replays_the_selection_and_records_user_and_reason(desk: Desk) -> None:
    wanted = await desk.dead("d1")
    other = await desk.dead("d2", failure=Failure("corrupt_pdf", "render", "broken"))
    status, [line] = await dlq("replay", "--code", "source_missing", "--why", "it is back", "--by", "ann")
    assert (status, line["letter"], line["outcome"]) == (0, wanted.id, "replayed")
    mark = (await desk.documents.letter_marks([wanted.id]))[wanted.id]
    assert (mark.by, mark.why) == ("ann", "it is back")
    assert await desk.statuses() == {wanted.id: "replayed", other.id: "open"}
    assert await dlq("replay", "--code", "source_missing") == (0, [])
    status, [line] = await dlq("replay", "d1")
    assert (status, line["outcome"]) == (0, "replayed already")


async def test_the_exit_status_is_1_if_a_letter_was_not_replayed(desk: Desk) -> None:
    letter = await desk.dead()
    await desk.replayer.discard(letter, REASON)
    status, [line] = await dlq("replay", letter.id)
    assert (status, line["outcome"]) == (1, "discarded already")


async def test_the_rate_is_kept(desk: Desk) -> None:
    for number in range(3):
        await desk.dead(f"d{number}")
    started = time.monotonic()
    status, lines = await dlq("replay", "--all", "--rate", "1")
    assert (status, len(lines)) == (0, 3)
    assert time.monotonic() - started >= 2.0


async def test_a_letter_without_its_whole_record_is_not_replayed_and_says_where_the_record_is(desk: Desk) -> None:
    record = Record((desk.kafka.kafka_jobs_topic, 0), 17, b"k", b"v" * 300)
    letter = of_record(record, "group", BadMessage("message is not JSON")).cut()
    await desk.queue.publish_dead_letter(letter)
    status, [line] = await dlq("replay", letter.id)
    assert status == 1
    assert "the whole one is at" in line["outcome"]
    assert "partition 0, offset 17" in line["outcome"]
    assert line["state"] == "open"
