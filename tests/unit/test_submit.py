"""Accepting an upload, step by step, with each step failing once. No server: the ports are in memory."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ingestion.adapters.kafka.producer import KafkaJobQueue
from ingestion.adapters.minio import MinioBlobStore
from ingestion.concurrency.deadline import budget
from ingestion.errors import BadRequest, Conflict, CorruptPdf, DependencyUnavailable, TooManyPages
from ingestion.keys.quotas import QuotaKeeper, Quotas
from ingestion.model import (
    Document,
    DocumentState,
    Failure,
    IngestJob,
    converted_key,
    document_id,
    document_prefix,
    source_key,
)
from ingestion.ports import BlobStore
from ingestion.sandbox.pool import Sandbox
from ingestion.server_cooldown import ServerCooldown
from ingestion.settings import KafkaSettings, S3Settings
from ingestion.submit import Reserve, Submitter, Upload, UploadOptions, UploadRecords
from tests.memory import MemoryBlobStore, MemoryDocumentStore, MemoryJobQueue, MemoryProgress
from tests.support.silent import fake_server, says_nothing
from tests.support.uploads import make_upload

pytestmark = pytest.mark.asyncio(loop_scope="module")

COLLECTION = "manuals"
DEADLINE_S = 30.0
SANDBOX = Sandbox(processes=1, memory_bytes=1024**3)
"""One launcher for all tests, in one event loop. Each file gets a child of its own."""


@dataclass
class Services:
    """The ports that an upload uses, in memory."""

    documents: MemoryDocumentStore = field(default_factory=MemoryDocumentStore)
    blobs: Any = field(default_factory=MemoryBlobStore)
    queue: Any = field(default_factory=MemoryJobQueue)
    progress: MemoryProgress = field(default_factory=MemoryProgress)


@pytest.fixture
def services() -> Services:
    return Services()


class NoBroker:
    async def publish(self, job: IngestJob) -> None:
        raise DependencyUnavailable("kafka", "down")


def submitter(
    services: Services,
    documents: UploadRecords | None = None,
    *,
    store_budget_s: float = 15.0,
    blobs: BlobStore | None = None,
    reserve: Reserve | None = None,
) -> Submitter:
    return Submitter(
        records=documents or services.documents,
        blobs=blobs or services.blobs,
        queue=services.queue,
        progress=services.progress,
        reserve=reserve,
        sandbox=SANDBOX,
        max_pages=5,
        inspect_timeout_s=30,
        store_budget_s=store_budget_s,
    )


Uploaded = Callable[..., Upload]


@pytest.fixture
def uploaded(tmp_path: Path) -> Uploaded:
    def make(content: bytes = make_upload(3), filename: str = "a manual.pdf") -> Upload:
        path = tmp_path / "upload.pdf"
        path.write_bytes(content)
        return Upload(filename, path, hashlib.sha256(content).hexdigest(), len(content))

    return make


async def record(services: Services, id_: str) -> Document:
    found = await services.documents.get(id_)
    assert found is not None
    return found


async def fail_the_work(services: Services, id_: str) -> None:
    claimed = await services.documents.claim(id_, "worker", 60_000)
    await services.documents.fail(id_, claimed.fence, Failure("corrupt_pdf", "render", "for a test"))


async def test_an_upload_is_stored_recorded_and_published(services: Services, uploaded: Uploaded) -> None:
    upload = uploaded()
    document = await submitter(services).submit(COLLECTION, upload)
    assert document.id == document_id(COLLECTION, upload.filename, upload.sha256)
    assert (document.state, document.outbox, document.pages) == (DocumentState.QUEUED, "sent", 3)
    stored = await record(services, document.id)
    assert (stored.state, stored.outbox, stored.filename) == (DocumentState.QUEUED, "sent", "a manual.pdf")
    assert stored.object_key == source_key(document.id)
    assert await services.blobs.get(stored.object_key) == upload.path.read_bytes()
    assert (await services.progress.read(document.id))["status"] == "queued"
    assert services.queue.job_ids == [document.id]


async def test_page_keys_of_documents_do_not_overlap(services: Services, uploaded: Uploaded) -> None:
    first = await submitter(services).submit(COLLECTION, uploaded(filename="1.pdf"))
    second = await submitter(services).submit(COLLECTION, uploaded(filename="2.pdf"))
    assert abs(second.first_page_key - first.first_page_key) >= 3


async def test_repeating_an_upload_gives_the_same_document_and_no_second_job(
    services: Services, uploaded: Uploaded
) -> None:
    first = await submitter(services).submit(COLLECTION, uploaded())
    again = await submitter(services).submit(COLLECTION, uploaded())
    assert (again.id, again.first_page_key) == (first.id, first.first_page_key)
    assert services.queue.job_ids == [first.id]


async def test_the_same_upload_many_times_at_once_is_one_document(services: Services, uploaded: Uploaded) -> None:
    upload = uploaded()
    one = submitter(services)
    found = await asyncio.gather(*(one.submit(COLLECTION, upload) for _ in range(5)))
    assert len({(document.id, document.first_page_key) for document in found}) == 1
    assert [document.id for document in await services.documents.list(COLLECTION)] == [found[0].id]
    assert await services.blobs.get(found[0].object_key) == upload.path.read_bytes()


async def test_without_a_broker_the_upload_is_accepted_and_waits_in_the_outbox(
    services: Services, uploaded: Uploaded
) -> None:
    document = await submitter(replace(services, queue=NoBroker())).submit(COLLECTION, uploaded())
    assert (document.state, document.outbox) == (DocumentState.RECEIVED, "pending")
    assert (await record(services, document.id)).outbox == "pending"

    again = await submitter(services).submit(COLLECTION, uploaded())
    assert (again.id, again.state, again.outbox) == (document.id, DocumentState.QUEUED, "sent")
    assert services.queue.job_ids == [document.id]


async def test_uploading_a_failed_document_again_puts_it_back_to_work(services: Services, uploaded: Uploaded) -> None:
    document = await submitter(services).submit(COLLECTION, uploaded())
    await fail_the_work(services, document.id)
    await services.blobs.delete_prefix(document_prefix(document.id))

    again = await submitter(services).submit(COLLECTION, uploaded())
    assert (again.id, again.state, again.attempts, again.error) == (document.id, DocumentState.QUEUED, 0, None)
    assert await services.blobs.get(document.object_key) == uploaded().path.read_bytes()
    assert services.queue.job_ids == [document.id, document.id]


async def test_uploading_a_document_that_is_being_deleted_is_a_conflict(
    services: Services, uploaded: Uploaded
) -> None:
    document = await submitter(services).submit(COLLECTION, uploaded())
    await services.documents.begin_delete(document.id)
    with pytest.raises(Conflict, match="being deleted"):
        await submitter(services).submit(COLLECTION, uploaded())


async def test_uploading_a_cancelled_document_begins_anew(services: Services, uploaded: Uploaded) -> None:
    first = await submitter(services).submit(COLLECTION, uploaded())
    begun = await services.documents.begin_cancel(first.id)
    with pytest.raises(Conflict, match="being cancelled"):
        await submitter(services).submit(COLLECTION, uploaded())
    await services.documents.end_cancel(begun)
    again = await submitter(services).submit(COLLECTION, uploaded())
    found = await services.documents.get(first.id)
    assert found is not None
    assert (again.id, found.state, found.outbox, found.attempts) == (first.id, DocumentState.QUEUED, "sent", 0)
    assert found.first_page_key > first.first_page_key
    assert found.fence > begun.fence
    assert services.queue.job_ids == [first.id, first.id]
    assert (await services.documents.claim(first.id, "w", 1000)).attempts == 1


@pytest.mark.parametrize(
    ("content", "error"), [(b"%PDF-1.7 and nothing else", CorruptPdf), (make_upload(6), TooManyPages)]
)
async def test_a_refused_file_leaves_nothing_behind(
    services: Services, uploaded: Uploaded, content: bytes, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await submitter(services).submit(COLLECTION, uploaded(content))
    assert await services.blobs.list_keys("documents/") == []
    assert await services.documents.list(COLLECTION) == []


async def test_a_collection_that_cannot_be_named_so_is_refused(services: Services, uploaded: Uploaded) -> None:
    with pytest.raises(BadRequest, match="collection name"):
        await submitter(services).submit("../etc", uploaded())


class Interrupted:
    """The records, with an insert that raises: before the record is stored, or after."""

    def __init__(self, documents: UploadRecords, *, after: bool) -> None:
        self._documents = documents
        self._after = after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._documents, name)

    async def insert(self, document: Document) -> bool:
        if self._after:
            await self._documents.insert(document)
        raise DependencyUnavailable("mongodb", "cut off by a test")


@pytest.mark.parametrize("recorded", [False, True])
async def test_a_source_with_an_uncertain_record_is_left_to_the_audit(
    services: Services, uploaded: Uploaded, recorded: bool
) -> None:
    """The source may belong to a record that is about to appear, or to the same upload at the same time."""
    with pytest.raises(DependencyUnavailable):
        await submitter(services, Interrupted(services.documents, after=recorded)).submit(COLLECTION, uploaded())
    assert len(await services.blobs.list_keys("documents/")) == 1
    assert len(await services.documents.list(COLLECTION)) == recorded


class SilentBroker:
    """Each publication takes five seconds of the broker's own clock and fails, until the broker is up."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.asked = 0
        self.is_up = False

    async def publish(self, job: Any) -> None:
        self.asked += 1
        if not self.is_up:
            self.now_s += 5.0
            raise DependencyUnavailable("kafka", "silent")


async def test_a_silent_broker_holds_up_one_file_of_an_upload_and_not_each(
    services: Services, uploaded: Uploaded
) -> None:
    broker = SilentBroker()
    submit = submitter(replace(services, queue=broker))
    submit._broker = ServerCooldown(lambda: broker.now_s)
    content = make_upload(1)
    for number in range(20):
        document = await submit.submit(COLLECTION, uploaded(content, f"{number}.pdf"))
        assert document.outbox == "pending", "the janitor publishes it"
    assert broker.asked == 1
    broker.is_up, broker.now_s = True, 60.0
    for number in range(20):
        assert (await submit.submit(COLLECTION, uploaded(content, f"{number}.pdf"))).outbox == "sent"


async def test_a_silent_object_store_ends_an_upload_with_its_budget(services: Services, uploaded: Uploaded) -> None:
    with fake_server(says_nothing) as server:
        nowhere = S3Settings(s3_endpoint=server.address, s3_access_key="k", s3_secret_key="s")
        async with MinioBlobStore(nowhere) as blobs, asyncio.timeout(DEADLINE_S):
            with pytest.raises(DependencyUnavailable, match="s3"):
                await submitter(replace(services, blobs=blobs), store_budget_s=0.5).submit(COLLECTION, uploaded())
        assert server.requests == 1
    assert await services.documents.list(COLLECTION) == []


async def test_a_silent_broker_ends_a_publication_with_the_callers_budget() -> None:
    with fake_server(says_nothing) as server:
        nowhere = KafkaSettings(kafka_bootstrap=server.address)
        async with KafkaJobQueue(nowhere) as queue, asyncio.timeout(DEADLINE_S):
            with budget(0.5), pytest.raises(DependencyUnavailable, match="kafka"):
                await queue.publish(IngestJob("d", "c", "f.pdf"))


async def accepted(services: Services, upload: Upload, **options: Any) -> Document:
    return await submitter(services).submit(COLLECTION, upload, UploadOptions(**options))


async def ready(services: Services, document: Document) -> None:
    await services.documents.finish(await services.documents.claim(document.id, "w", 60_000))


async def test_metadata_of_a_repeated_upload_are_merged(services: Services, uploaded: Uploaded) -> None:
    upload = uploaded()
    first = await accepted(services, upload, metadata={"a": 1, "b": 1}, tags=("t",))
    assert (first.metadata, first.tags) == ({"a": 1, "b": 1}, ("t",))
    again = await accepted(services, upload, metadata={"b": 2, "a": None})
    assert (again.id, again.metadata, again.tags) == (first.id, {"b": 2}, ("t",))
    assert (await accepted(services, upload)).metadata == {"b": 2}


async def test_the_same_bytes_under_another_name_are_told_and_stored_by_choice(
    services: Services, uploaded: Uploaded
) -> None:
    upload = uploaded()
    first = await accepted(services, upload)
    other = replace(upload, filename="other.pdf")
    skipped = await accepted(services, other, skip_duplicates=True)
    assert (skipped.id, skipped.duplicate_of) == (first.id, first.id)
    stored = await accepted(services, other)
    assert (stored.id != first.id, stored.duplicate_of) == (True, first.id)
    with_key = await accepted(services, replace(upload, filename="third.pdf"), skip_duplicates=True, key="k")
    assert (with_key.filename, with_key.duplicate_of) == ("third.pdf", first.id)
    assert first.duplicate_of == ""


async def test_the_same_file_under_two_keys_is_two_documents(services: Services, uploaded: Uploaded) -> None:
    upload = uploaded()
    one, other = [await accepted(services, upload, key=key) for key in ("a", "b")]
    assert one.id != other.id
    assert (await accepted(services, upload, key="a")).id == one.id


async def test_the_last_accepted_version_wins_also_if_its_file_was_there_before(
    services: Services, uploaded: Uploaded
) -> None:
    old, new = uploaded(filename="old.pdf"), uploaded(make_upload(2), "new.pdf")
    first = await accepted(services, old, key="k")
    await ready(services, first)
    second = await accepted(services, new, key="k")
    await accepted(services, old, key="k")
    await ready(services, second)
    assert [one.document_id for one in await services.documents.ready_page_ranges(COLLECTION, 1)] == [first.id]


async def test_a_replaced_version_that_is_uploaded_again_has_to_wait(services: Services, uploaded: Uploaded) -> None:
    old, new = uploaded(filename="old.pdf"), uploaded(make_upload(2), "new.pdf")
    for upload in (old, new):
        await ready(services, await accepted(services, upload, key="k"))
    with pytest.raises(Conflict, match="upload it again later"):
        await accepted(services, old, key="k")


async def test_a_conversion_of_a_failed_document_is_not_deleted_by_an_upload(
    services: Services, uploaded: Uploaded
) -> None:
    """A worker that got the document from another upload may just have stored it."""
    upload = uploaded()
    document = await accepted(services, upload)
    stored = services.documents.state.documents[document.id]
    stored.document = replace(stored.document, state=DocumentState.FAILED, media_type="text/plain", pages=0)
    await services.blobs.put(converted_key(document.id), b"%PDF-", "application/pdf")
    assert (await accepted(services, upload)).state is DocumentState.QUEUED
    assert await services.blobs.get(converted_key(document.id)) == b"%PDF-"


class FullBlobStore(MemoryBlobStore):
    async def put_file(self, key: str, path: Path, content_type: str) -> None:
        raise DependencyUnavailable("s3", "full")


async def test_a_file_that_the_object_store_does_not_take_is_not_counted(
    services: Services, uploaded: Uploaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    quotas = QuotaKeeper(services.documents, Quotas(bytes_per_day=10**9), {})
    day = datetime.now(UTC).date().isoformat()
    refused = submitter(services, blobs=FullBlobStore(), reserve=quotas.reserved, store_budget_s=0.2)
    with pytest.raises(DependencyUnavailable):
        await refused.submit(COLLECTION, uploaded())
    assert (await services.documents.add_usage("default", day, 0, 0)).size_bytes == 0
    await submitter(services, reserve=quotas.reserved).submit(COLLECTION, uploaded())
    assert (await services.documents.add_usage("default", day, 0, 0)).size_bytes > 0
