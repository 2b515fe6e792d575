"""Write, read and remove the records of pages."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pymongo import UpdateOne

from ingestion.adapters.mongo.database import MongoPort
from ingestion.adapters.mongo.document_mapping import page_record_of, pages_of
from ingestion.adapters.mongo.errors import translated
from ingestion.catalogue.generations import PageSize
from ingestion.model import PageRecord


class MongoPageRecords(MongoPort):
    """Implements the port PageRecords."""

    @translated
    async def put_pages(self, pages: Sequence[PageRecord]) -> None:
        if not pages:
            return
        records = [page_record_of(page) for page in pages]
        # The counts for the next generation are no longer valid. Fields of a newer release stay.
        await self._pages.bulk_write(
            [
                UpdateOne({"_id": record.pop("_id")}, {"$set": record, "$unset": {"next": ""}}, upsert=True)
                for record in records
            ],
            ordered=False,
        )

    @translated
    async def pages_by_key(
        self, page_keys: Collection[int], *, with_text: bool = False, with_words: bool = False
    ) -> dict[int, PageRecord]:
        wanted = {"text": with_text, "words": with_words}
        fields = {name: 0 for name, is_wanted in wanted.items() if not is_wanted} or None
        found = await self._pages.find({"_id": {"$in": list(page_keys)}}, fields).to_list(None)
        return {page.page_key: page for page in pages_of(found)}

    @translated
    async def remove_pages(self, first_page_key: int, count: int) -> None:
        await self._pages.delete_many({"_id": {"$gte": first_page_key, "$lt": first_page_key + count}})

    @translated
    async def put_page_sizes(self, generation: int, sizes: Sequence[PageSize]) -> None:
        changes = [
            UpdateOne(
                {"_id": size.page_key},
                {"$set": {"next": {"generation": generation, "patches": size.patches, "rows": size.rows}}},
            )
            for size in sizes
        ]
        if changes:
            await self._pages.bulk_write(changes, ordered=False)
