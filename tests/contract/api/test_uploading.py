"""The upload routes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from ingestion.bootstrap import Services
from ingestion.model import MAX_FILENAME_BYTES
from tests.contract.api.helpers import StreamedRequest, assert_problem, running, upload, uploaded
from tests.support.mongo_requests import RequestRecorder
from tests.support.uploads import make_upload


async def test_an_uploaded_pdf_is_a_queued_document(client: httpx.AsyncClient, collection: str) -> None:
    answer = await upload(client, collection, ("manual.pdf", make_upload(3)))
    assert answer.status_code == 202
    [accepted] = answer.json()["documents"]
    assert answer.json()["refused"] == []
    assert accepted == {
        "document_id": accepted["document_id"],
        "filename": "manual.pdf",
        "state": "queued",
        "status_url": f"/api/v1/documents/{accepted['document_id']}",
        "duplicate_of": None,
    }
    status = await client.get(str(httpx.URL("http://api").join(accepted["status_url"])))
    assert status.json() == {
        "document_id": accepted["document_id"],
        "collection": collection,
        "filename": "manual.pdf",
        "state": "queued",
        "pages": 3,
        "pages_done": 0,
        "attempts": 0,
        "error": None,
        "media_type": "application/pdf",
        "size_bytes": len(make_upload(3)),
        "text_pages": None,
        "notes": [],
        "warnings": [],
        **dict.fromkeys(("key", "replaced_by", "duplicate_of")),
        "metadata": {},
        "tags": [],
        "priority": "bulk",
        "uploaded": status.json()["uploaded"],
    }


async def test_a_plain_upload_sends_nine_commands_to_mongodb(
    client: httpx.AsyncClient, collection: str, mongo_requests: RequestRecorder
) -> None:
    await upload(client, collection, ("first.pdf", make_upload(1)))  # records the use of the collection
    mongo_requests.commands.clear()
    await upload(client, collection, ("second.pdf", make_upload(2)))
    assert mongo_requests.commands == [
        "find collections",  # before the body is read
        "find collections",  # after it, which may have taken long
        "find documents",  # by id
        "find documents",  # by content
        "findAndModify counters",  # reserves page keys
        "insert documents",
        "find collections",  # after the insertion: archiving does not miss it
        "update documents",  # the job has been published
        "update flows",  # workers see that the flow has a waiting document
    ]


async def test_uploads_that_come_together_share_commands_to_mongodb(
    client: httpx.AsyncClient, collection: str, mongo_requests: RequestRecorder
) -> None:
    await upload(client, collection, ("first.pdf", make_upload(1)))
    mongo_requests.commands.clear()
    files = [(f"{number}.pdf", make_upload(1)) for number in range(12)]
    await asyncio.gather(*(upload(client, collection, file) for file in files))
    assert len(mongo_requests.commands) < 6 * len(files)


async def test_refused_files_do_not_affect_others(client: httpx.AsyncClient, collection: str) -> None:
    before = await refused_counts(client)
    answer = await upload(
        client,
        collection,
        ("good.pdf", make_upload(1)),
        ("text.pdf", b"just text"),
        ("empty.pdf", b""),
        ("locked.pdf", make_upload(1, ("owner", "user"))),
        ("broken.pdf", b"%PDF-1.7\nnothing more"),
        ("bare.pdf", make_upload(3).replace(b"/Kids", b"/Xids")),
        ("heavy.pdf", make_upload(1) + b"\0" * 100_000),
        ("long.pdf", make_upload(5)),
        ("ninth.pdf", make_upload(1)),
    )
    assert answer.status_code == 202, answer.text
    assert [one["filename"] for one in answer.json()["documents"]] == ["good.pdf"]
    refused = answer.json()["refused"]
    assert [(one["filename"], one["code"]) for one in refused] == [
        ("text.pdf", "not_a_pdf"),
        ("empty.pdf", "empty_file"),
        ("locked.pdf", "encrypted_pdf"),
        ("broken.pdf", "corrupt_pdf"),
        ("bare.pdf", "no_pages"),
        ("heavy.pdf", "file_too_large"),
        ("long.pdf", "too_many_pages"),
        ("ninth.pdf", "too_many_files"),
    ]
    assert all(one["detail"] for one in refused)
    after = await refused_counts(client)
    assert {code: after[code] - before.get(code, 0) for code in after if after[code] != before.get(code, 0)} == {
        one["code"]: 1 for one in refused
    }


async def refused_counts(client: httpx.AsyncClient) -> dict[str, float]:
    text = (await client.get("http://api/metrics")).text
    [family] = [one for one in text_string_to_metric_families(text) if one.name == "ingestion_refused"]
    return {one.labels["code"]: one.value for one in family.samples if one.name.endswith("_total")}


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [(b"text", 422, "not_a_pdf"), (make_upload(1) + b"\0" * 100_000, 413, "file_too_large")],
)
async def test_if_all_files_are_refused_the_answer_is_a_problem_with_all_of_them(
    client: httpx.AsyncClient, collection: str, content: bytes, status: int, code: str
) -> None:
    body = assert_problem(await upload(client, collection, ("1.pdf", content), ("2.pdf", b"")), status, code)
    assert body["detail"].startswith("1.pdf: ")
    assert [(one["filename"], one["code"]) for one in body["refused"]] == [("1.pdf", code), ("2.pdf", "empty_file")]


async def test_a_form_with_too_many_parts_is_413_with_the_earlier_files_and_logs_one_line(
    client: httpx.AsyncClient, collection: str
) -> None:
    one = b'--x\r\nContent-Disposition: form-data; name="file"; filename=a\r\n\r\n\r\n'
    first = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.pdf"\r\n\r\n' + make_upload(1) + b"\r\n"
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        yield first
        for _ in range(1000):
            sent += 100
            yield one * 100

    headers = {"content-type": "multipart/form-data; boundary=x"}
    with capture_logs() as logs:
        answer = await client.post(f"/collections/{collection}/documents", content=body(), headers=headers)
    problem = assert_problem(answer, 413, "form_too_large")
    assert [document["filename"] for document in problem["documents"]] == ["a.pdf"]
    assert {refused["code"] for refused in problem["refused"]} == {"empty_file", "too_many_files"}
    assert len(answer.content) < 10_000
    assert sent <= 200
    assert len([line for line in logs if line["event"] == "refused"]) == 1


async def test_filenames_are_kept_for_display(client: httpx.AsyncClient, collection: str) -> None:
    shown_of = {
        "with spaces and ümlaut.pdf": "with spaces and ümlaut.pdf",
        'quoted "name\'s".pdf': 'quoted "name\'s".pdf',
        "../../etc/passwd.pdf": "passwd.pdf",
        "📄 emoji 🧪.pdf": "📄 emoji 🧪.pdf",
        "line\nbreak.pdf": "linebreak.pdf",
        "<img src=x onerror=alert(1)>.pdf": "<img src=x onerror=alert(1)>.pdf",
        "n" * 300: "n" * MAX_FILENAME_BYTES,
        "é" * 200: "é" * 127,
    }
    answer = await upload(client, collection, *((name, make_upload(1)) for name in shown_of))
    assert [one["filename"] for one in answer.json()["documents"]] == list(shown_of.values())
    for one in answer.json()["documents"]:
        assert (await client.get(f"/documents/{one['document_id']}")).json()["filename"] == one["filename"]


async def test_layras_address_uploads_into_the_conversation(client: httpx.AsyncClient, collection: str) -> None:
    answer = await client.post(f"/upload/anna/{collection}", files={"file": ("a.pdf", make_upload(1))})
    assert answer.status_code == 202
    [accepted] = answer.json()["documents"]
    assert (await client.get(f"/documents/{accepted['document_id']}")).json()["collection"] == collection


async def test_repeating_an_upload_gives_the_same_document(client: httpx.AsyncClient, collection: str) -> None:
    assert await uploaded(client, collection) == await uploaded(client, collection)
    assert len((await client.get("/documents", params={"collection": collection})).json()["documents"]) == 1


@pytest.mark.parametrize(
    "request_",
    [
        {"files": {"attachment": ("a.pdf", make_upload(1))}},
        {"data": {"files": "no file"}},
        {"content": b"--x\r\nnot multipart", "headers": {"content-type": "multipart/form-data; boundary=x"}},
        {"content": make_upload(1), "headers": {"content-type": "application/pdf"}},
        {"json": {}},
    ],
)
async def test_an_invalid_upload_is_a_bad_request(
    bare_client: httpx.AsyncClient, collection: str, request_: dict[str, Any]
) -> None:
    assert_problem(await bare_client.post(f"/collections/{collection}/documents", **request_), 400, "bad_request")


@pytest.mark.parametrize("name", ["-dash", "with%20space", "%2e%2e", "x" * 101])
async def test_an_invalid_collection_name_is_a_bad_request(bare_client: httpx.AsyncClient, name: str) -> None:
    assert_problem(await upload(bare_client, name, ("a.pdf", make_upload(1))), 400, "bad_request")


async def test_uploading_a_document_that_is_being_deleted_is_a_conflict(
    client: httpx.AsyncClient, services: Services, collection: str
) -> None:
    await services.documents.begin_delete(await uploaded(client, collection))
    assert_problem(await upload(client, collection, ("a.pdf", make_upload(2))), 409, "conflict")


async def test_an_upload_cut_off_by_its_client_leaves_nothing(
    app: FastAPI, client: httpx.AsyncClient, services: Services, collection: str
) -> None:
    # The fixture asserts that the spool directory is empty afterwards.
    cut_off = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.pdf"\r\n\r\n' + make_upload(1)
    streamed = StreamedRequest(
        "POST", f"/collections/{collection}/documents", {"content-type": "multipart/form-data; boundary=x"}, [cut_off]
    )
    streamed.left.set()
    async with running(app, streamed) as task:
        await task
    assert streamed.status == 400
    assert await services.documents.list(collection) == []
    assert await services.blobs.list_keys("documents/") == []
