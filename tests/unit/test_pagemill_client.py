"""The public client, synchronous and asynchronous, against the real API over fakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingestion.client import ApiError, ApiUnavailable, AsyncPagemill, DocumentView, Pagemill
from ingestion.errors import BadRequest
from ingestion.hits import Hit
from tests.support.fake_api import API_KEY, FakeApi
from tests.support.uploads import make_upload


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.pdf"
    path.write_bytes(make_upload(40))
    return path


def test_an_upload_is_followed_to_its_end(api: FakeApi, file: Path) -> None:
    sent, seen = list[tuple[int, int]](), list[DocumentView]()
    with Pagemill(api.url, API_KEY) as pagemill:
        uploaded = pagemill.upload("c", file, on_sent=lambda *now: sent.append(now))
        ready = pagemill.wait(uploaded.document_id, timeout_s=30, on_progress=seen.append)
        assert (uploaded.state, ready.state, ready.pages_done) == ("queued", "ready", 3)
        assert pagemill.document(ready.document_id) == ready
    size = file.stat().st_size
    assert sent[-1] == (size, size) and [done for done, _ in sent] == sorted(done for done, _ in sent)
    assert [view.state.value for view in seen][-2:] == ["processing", "ready"]


def test_a_broken_event_stream_does_not_end_the_wait(api: FakeApi) -> None:
    id_ = api.add("broken.pdf")
    with Pagemill(api.url, API_KEY) as pagemill:
        assert pagemill.wait(id_, timeout_s=30).state == "ready"


def test_a_failed_document_has_its_code(api: FakeApi) -> None:
    id_ = api.add("fails.pdf")
    with Pagemill(api.url, API_KEY) as pagemill:
        error = pagemill.wait(id_, timeout_s=30).error
    assert error is not None and error.code == "page_render_failed"


def test_a_listing_has_every_document_once(api: FakeApi) -> None:
    ids = sorted(api.add(f"{number}.pdf") for number in range(5))
    with Pagemill() as pagemill:  # the address and the key of the settings
        assert [document.document_id for document in pagemill.documents()] == ids
        pagemill.delete(ids[0])
        assert len(list(pagemill.documents("default"))) == 4
        pagemill.delete_collection("default")
        assert list(pagemill.documents()) == []


def test_hits_are_typed(api: FakeApi) -> None:
    api.hits = [Hit(document_id="d", filename="a.pdf", page=4, score=1.5)]
    with Pagemill(api.url, API_KEY) as pagemill:
        [hit] = pagemill.search("c", "q")
    assert (hit.document_id, hit.page, hit.page_url) == ("d", 4, "/api/v1/documents/d/pages/4")


def test_errors_are_the_documented_codes(api: FakeApi, tmp_path: Path) -> None:
    (tmp_path / "bad.pdf").write_bytes(b"%PDF-")
    codes, id_ = [], api.add("a.pdf")
    with Pagemill(api.url, API_KEY) as pagemill:
        for call in (
            lambda: pagemill.document("none"),
            lambda: pagemill.page("none", 1),
            lambda: pagemill.upload("c", tmp_path / "bad.pdf"),
            lambda: pagemill.page(id_, 0),
        ):
            with pytest.raises(ApiError) as caught:
                call()
            codes.append(caught.value.code)
        with pytest.raises(BadRequest, match="cannot be read"):
            pagemill.upload("c", tmp_path / "none.pdf")
    assert codes == ["not_found", "not_found", "not_a_pdf", "bad_request"]
    with Pagemill(api.url, "wrong") as pagemill, pytest.raises(ApiError) as caught:
        pagemill.check()
    assert caught.value.code == "unauthorized"


async def test_an_api_that_is_not_there_is_unavailable() -> None:
    async with AsyncPagemill("http://127.0.0.1:9", "key") as pagemill:
        with pytest.raises(ApiUnavailable, match="check the address"):
            await pagemill.check()
    with pytest.raises(BadRequest, match="not valid"):
        AsyncPagemill("http://a:port", "key")


async def test_waiting_ends_at_its_time_limit(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    id_ = api.add("a.pdf")
    monkeypatch.setattr("ingestion.api.events.POLL_INTERVAL_S", 30)
    async with AsyncPagemill(api.url, API_KEY) as pagemill:
        with pytest.raises(TimeoutError):
            await pagemill.wait(id_, timeout_s=0.2)
