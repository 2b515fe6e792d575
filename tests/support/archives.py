"""Archivers, and the whole content of a collection, for tests that compare it before and after."""

from __future__ import annotations

from typing import Any

from ingestion.bootstrap import Services
from ingestion.catalogue.holds import LEASE_S
from ingestion.search import Searcher
from tests.support.embedders import WordEmbedder
from tests.support.shelf import Shelf
from workers.lifecycle.archive import Archiver
from workers.lifecycle.packer import PART_BYTES, READ_BYTES, Packer
from workers.lifecycle.unpacker import Unpacker


def archiver(
    services: Services,
    *,
    documents: Any = None,
    blobs: Any = None,
    vectors: Any = None,
    lease_s: float = LEASE_S,
    part_bytes: int = PART_BYTES,
    read_bytes: int = READ_BYTES,
) -> Archiver:
    stores = documents or services.documents, blobs or services.blobs, vectors or services.vectors
    return Archiver(*stores, Packer(*stores, part_bytes, read_bytes), Unpacker(*stores), lease_s)


async def everything(shelf: Shelf) -> dict[str, Any]:
    """Records, rows with their vectors, and the keys of objects; all of them comparable.

    Archiving and restoring change `updated_at`: `DocumentFeedContract` tests it.
    """
    documents = await shelf.records["documents"].find({}, {"updated_at": 0}).sort("_id", 1).to_list(None)
    pages = await shelf.records["pages"].find({}).sort("_id", 1).to_list(None)
    keys = [record["_id"] for record in pages]
    rows = await shelf.services.vectors.read_pages(shelf.collection, range(min(keys), max(keys) + 1)) if keys else {}
    return {
        "documents": documents,
        "pages": pages,
        "rows": {key: vectors.tolist() for key, vectors in rows.items()},
        "objects": await shelf.services.blobs.list_keys("documents/"),
    }


async def search(shelf: Shelf) -> list[tuple[str, int, float]]:
    searcher = Searcher(
        embedder=WordEmbedder(),
        vectors=shelf.services.vectors,
        records=shelf.services.documents,
        blobs=shelf.services.blobs,
        settings=shelf.services.settings.search,
    )
    hits = await searcher.search(shelf.collection, "text of some page", 50)
    return [(hit.document_id, hit.page, hit.score) for hit in hits]
