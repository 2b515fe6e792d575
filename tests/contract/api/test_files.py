"""Uploads of other types than PDF, the original's address, and the counts of a collection."""

from __future__ import annotations

from dataclasses import replace

import httpx

from ingestion.bootstrap import Services
from ingestion.model import Document, TextPages
from tests.contract.api.helpers import upload
from tests.support.uploaded_files import docx, picture


async def test_types_are_accepted_by_content_and_the_original_stays_downloadable(
    client: httpx.AsyncClient, collection: str
) -> None:
    letter = docx("Hello")
    answer = await upload(
        client,
        collection,
        ("photo.dat", picture("x", size=(60, 40))),
        ("letter", letter),
        ("notes.txt", b"just text"),
        ("notes.docx", b"just text"),
        ("program", b"\x7fELF\0\0"),
        ("archive.zip", b"PK\x03\x04 nothing more"),
    )
    assert [(one["filename"], one["code"]) for one in answer.json()["refused"]] == [
        *(("notes.docx", "unsupported_type"), ("program", "unsupported_type"), ("archive.zip", "conversion_failed"))
    ]
    ids = {one["filename"]: one["document_id"] for one in answer.json()["documents"]}
    views = {name: (await client.get(f"http://api/api/v1/documents/{id_}")).json() for name, id_ in ids.items()}
    assert {name: (view["media_type"], view["pages"]) for name, view in views.items()} == {
        "photo.dat": ("image/png", 0),
        "letter": ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", 0),
        "notes.txt": ("text/plain", 0),
    }
    found = await client.get(f"http://api/api/v1/documents/{ids['letter']}/source")
    assert found.status_code == 307
    async with httpx.AsyncClient() as store:
        assert (await store.get(found.headers["location"])).content == letter


async def test_a_collection_counts_its_pages_by_where_their_texts_came_from(
    client: httpx.AsyncClient, collection: str, services: Services
) -> None:
    for number, counts in enumerate((TextPages(file=2), TextPages(ocr=1, none=1, unsearchable=1), None)):
        first = await services.documents.reserve_page_keys(2)
        document = Document(f"{collection}{number}", collection, "a", "k", "0", 1, pages=2, first_page_key=first)
        await services.documents.insert(document)
        claimed = await services.documents.claim(document.id, "w", 60_000)
        done = claimed if counts is None else replace(claimed, text_pages=counts)
        await services.documents.finish(done)
    view = (await client.get(f"http://api/api/v1/collections/{collection}")).json()
    assert (view["pages"], view["text_pages"]) == (6, {"file": 2, "ocr": 1, "none": 1, "unsearchable": 1})
    assert "1 page(s)" in view["warnings"][0]
