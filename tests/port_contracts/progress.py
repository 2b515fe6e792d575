"""Progress of a document, and running totals."""

from __future__ import annotations

from datetime import UTC, datetime

from ingestion.ports import Progress


class ProgressContract:
    """Needs a fixture `progress`."""

    async def test_the_latest_report_is_read_back(self, progress: Progress) -> None:
        for processed in (1, 3):
            await progress.report("d", status="processing", message="half ½", processed=processed, total=6)
        expected = {"status": "processing", "message": "half ½", "processed": "3", "total": "6"}
        assert await progress.read("d") == expected

    async def test_an_unknown_document_has_no_report(self, progress: Progress) -> None:
        assert await progress.read("unknown") == {}

    async def test_reports_of_many_documents_are_read_in_their_order(self, progress: Progress) -> None:
        await progress.report("d", status="queued", message="", processed=0, total=2)
        found = await progress.read_many(["unknown", "d"])
        assert [one.get("status") for one in found] == [None, "queued"]
        assert await progress.read_many([]) == []

    async def test_reported_outages_are_read_back(self, progress: Progress) -> None:
        assert await progress.outages() == {}
        await progress.report_outages({})
        since = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        await progress.report_outages({"milvus": since})
        await progress.report_outages({"s3": since})
        assert await progress.outages() == {"milvus": since, "s3": since}

    async def test_forgetting_removes_the_report(self, progress: Progress) -> None:
        await progress.report("d", status="processing", message="", processed=0, total=1)
        await progress.forget("d")
        await progress.forget("d")
        assert await progress.read("d") == {}

    async def test_nothing_to_add_is_no_error(self, progress: Progress) -> None:
        await progress.add()
        await progress.add(ready=1, pages=12)
