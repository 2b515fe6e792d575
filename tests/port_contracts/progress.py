"""Progress of a document, and running totals."""

from __future__ import annotations

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

    async def test_forgetting_removes_the_report(self, progress: Progress) -> None:
        await progress.report("d", status="processing", message="", processed=0, total=1)
        await progress.forget("d")
        await progress.forget("d")
        assert await progress.read("d") == {}

    async def test_nothing_to_add_is_no_error(self, progress: Progress) -> None:
        await progress.add()
        await progress.add(ready=1, pages=12)
