"""A collection filled with pages of manuals whose vectors are known, as a worker fills it: without its first half.

    python -m tests.benchmarks.filling COLLECTION INDEX_POOLING MANUAL.pdf...

goes on until it is stopped, so that others can measure what an ingest does to them. Every document it has finished is
a line on its output.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ingestion.bootstrap import Services, open_services
from ingestion.concurrency.tasks import gather_or_cancel
from ingestion.model import Document, Page, PageVectors, Vectors, source_key
from ingestion.ports import Embedder
from ingestion.settings import Settings
from ingestion.vectors.encoding import VectorEncoding
from tests.benchmarks.manuals import DIM, FINGERPRINT, ManualPage, Question, load_pages
from tests.support.documents import LEASE_MS, document
from workers.attempt.store import PageStore

PAGES_OF_DOCUMENT: Final = 16
WINDOW: Final = 8
_PICTURE: Final = bytes(40_000)

Place = tuple[str, int]
"""Document id, and the page's number in that document, from 1."""


@dataclass(frozen=True, slots=True)
class KnownVectors:
    """An Embedder, and the choice of it, that knows the vectors of these questions beforehand."""

    known: dict[str, Vectors]
    fingerprint: str = FINGERPRINT
    dim: int = DIM
    wants_pixels: bool = False

    @classmethod
    def of(cls, questions: Sequence[Question]) -> KnownVectors:
        return cls({question.text: question.vectors for question in questions})

    async def for_fingerprint(self, fingerprint: str) -> Embedder:
        assert fingerprint == self.fingerprint
        return self

    async def embed_pages(self, pages: Sequence[Page]) -> list[Vectors]:
        raise NotImplementedError("pages come with their vectors")

    async def embed_queries(self, queries: Sequence[str]) -> list[Vectors]:
        return [self.known[query] for query in queries]


class Filler:
    """Writes documents of PAGES_OF_DOCUMENT pages, each until it is ready."""

    def __init__(
        self, services: Services, collection: str, index_pooling: int, model: KnownVectors | None = None
    ) -> None:
        """`model`: its fingerprint and dimension are those of the pages' vectors."""
        self._services = services
        self._collection = collection
        self._model = model or KnownVectors({})
        encoding = VectorEncoding(index_pooling, services.settings.vectors.blob_precision)
        self._store = PageStore(services.documents, services.blobs, services.vectors, encoding)

    async def fill(self, pages: Sequence[ManualPage], width: int = 2) -> dict[Place, ManualPage]:
        """Write all of `pages`, `width` documents at a time. Returns the pages by their place in the collection."""
        placed: dict[Place, ManualPage] = {}
        parts = iter([pages[i : i + PAGES_OF_DOCUMENT] for i in range(0, len(pages), PAGES_OF_DOCUMENT)])

        async def fill_next() -> None:
            for part in parts:
                placed.update(await self.put(f"{part[0].manual}-{part[0].page_number}", part))

        await gather_or_cancel(*(fill_next() for _ in range(width)))
        return placed

    async def put(self, id_: str, pages: Sequence[ManualPage]) -> dict[Place, ManualPage]:
        documents = self._services.documents
        first = await documents.reserve_page_keys(len(pages))
        fresh = replace(document(id_, self._collection), pages=len(pages), first_page_key=first)
        await documents.insert(replace(fresh, object_key=source_key(id_), filename=f"{id_}.pdf"))
        claimed = await documents.claim(id_, "filler", LEASE_MS)
        generation = await self._store.prepare(claimed, self._model)
        planned = await documents.plan(id_, claimed.fence, dpi=150, stage="", generation=generation)
        codes = self._store.code_writer(planned, generation, 0)
        for start in range(0, len(pages), WINDOW):
            window = _window(planned, start, pages[start : start + WINDOW])
            await self._store.write(planned, window, codes)
            await documents.checkpoint(id_, claimed.fence, start + len(window))
        await documents.finish(await self._store.completed(planned, codes))
        return {(id_, number): page for number, page in enumerate(pages, 1)}


def _window(document: Document, start: int, pages: Sequence[ManualPage]) -> list[PageVectors]:
    return [
        PageVectors(Page(number, 1240, 1754, _PICTURE, page.text), document.page_key(number), page.vectors)
        for number, page in enumerate(pages, start + 1)
    ]


async def fill_on(collection: str, index_pooling: int, paths: Sequence[Path]) -> None:
    pages = load_pages(paths)
    async with open_services(Settings()) as services:
        filler = Filler(services, collection, index_pooling)
        for turn in itertools.count():
            for start in range(0, len(pages), PAGES_OF_DOCUMENT):
                part = pages[start : start + PAGES_OF_DOCUMENT]
                await filler.put(f"more-{turn}-{start}", part)
                print(len(part), flush=True)


if __name__ == "__main__":
    asyncio.run(fill_on(sys.argv[1], int(sys.argv[2]), [Path(path) for path in sys.argv[3:]]))
