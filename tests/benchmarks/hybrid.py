"""Words, meaning, or both: which mode of search finds the right page?

    PAGEMILL_BENCH_VECTORS=D python -m tests.benchmarks.hybrid [--pages N] MANUAL.pdf...

fills a collection on in-memory stores with the manuals' pages (`tests.benchmarks.manuals` embeds them once), and
searches it in each mode for

- the outline titles of the manuals; the right answer is the page that a title stands on;
- identifiers, error codes and names of functions that are drawn from the pages' texts; a right answer is any page
  whose text has the identifier, with no letter, digit or `_` beside it.

Vectors of identifiers are made by the local embedder, and kept beside those of the manuals.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import random
import re
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from ingestion.model import Document, Page, PageVectors
from ingestion.search import Searcher
from ingestion.search_mode import SearchMode
from ingestion.settings import SearchSettings
from ingestion.vectors.encoding import VectorEncoding
from tests.benchmarks.filling import KnownVectors
from tests.benchmarks.manuals import (
    ManualPage,
    Question,
    cached_vectors,
    load_questions,
    numbers_with_text,
    page_ranges,
    read_pages,
    vectors_folder,
)
from tests.memory import MemoryBlobStore, MemoryDocumentStore, MemoryVectorStore
from tests.support.documents import LEASE_MS, document
from workers.attempt.store import PageStore

TOP: Final = 5
IDENTIFIERS: Final = 200
_SEED: Final = 18
_MOST_PAGES_OF_ONE: Final = 5
"""An identifier on more pages is no test: any page will do."""
_COLLECTION: Final = "hybrid"
_IDENTIFIER: Final = re.compile(
    r"(?<![\w.:\\/-])(?:"
    r"[A-Za-z]\w*(?:(?:::|\.|->)[A-Za-z_]\w*)+"  # foo::bar, read.table, a->b
    r"|[A-Za-z]+(?:_[A-Za-z0-9]+)+"  # snake_case and UPPER_CASE
    r"|[a-z]+(?:[A-Z][a-z0-9]+)+"  # camelCase
    r"|[A-Z]{1,5}-?\d{2,}"  # E1234, HTTP-404
    r")(?![\w-])"
)


class NoIndex(MemoryVectorStore):
    """All pages have sign codes, so no search asks the ANN index."""

    async def upsert(self, collection: str, pages: Sequence[PageVectors]) -> None: ...


class FileBlobs(MemoryBlobStore):
    """Objects in a folder: the vectors of thousands of pages need more memory than a small machine has."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def _path(self, key: str) -> Path:
        return self._folder / key.replace("/", "+")

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        await asyncio.to_thread(self._path(key).write_bytes, data)

    async def get(self, key: str) -> bytes:
        return await asyncio.to_thread(self._path(key).read_bytes)

    async def get_many(self, keys: Sequence[str]) -> list[bytes]:
        return [await self.get(key) for key in keys]


@dataclass(frozen=True, slots=True)
class Task:
    """A query, and the pages that are right answers, by manual and number."""

    query: str
    right: frozenset[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class PageText:
    manual: str
    page_number: int
    text: str


def title_tasks(questions: Sequence[Question], pages: Sequence[PageText], most: int) -> list[Task]:
    there = {(page.manual, page.page_number) for page in pages}
    tasks = [Task(one.text, frozenset({(one.manual, one.page_number)})) for one in questions]
    tasks = [task for task in tasks if task.right <= there]
    return random.Random(_SEED).sample(tasks, min(most, len(tasks)))


def identifier_tasks(pages: Sequence[PageText]) -> list[Task]:
    """IDENTIFIERS of those that stand on few pages, drawn with a fixed seed from the manuals in turn."""
    by_manual: defaultdict[str, set[str]] = defaultdict(set)
    for page in pages:
        by_manual[page.manual].update(one for one in _IDENTIFIER.findall(page.text) if 4 <= len(one) <= 40)
    chance, tasks = random.Random(_SEED), dict[str, Task]()
    turns = [iter(chance.sample(names, len(names))) for names in map(sorted, by_manual.values())]
    for turn in itertools.cycle(turns):
        name = next(turn)
        right = frozenset((page.manual, page.page_number) for page in pages if name in page.text and _has(page, name))
        if len(right) <= _MOST_PAGES_OF_ONE:
            tasks[name] = Task(name, right)
        if len(tasks) == IDENTIFIERS:
            return list(tasks.values())
    raise AssertionError("there is a turn")


def _has(page: PageText, name: str) -> bool:
    return re.search(rf"(?<![A-Za-z0-9_]){re.escape(name)}(?![A-Za-z0-9_])", page.text) is not None


@dataclass
class Library:
    """The collection, filled as a worker fills it: each manual is a document of its pages with text."""

    folder: Path
    records: MemoryDocumentStore = field(default_factory=MemoryDocumentStore)
    pages: list[PageText] = field(default_factory=list)
    numbers: dict[str, list[int]] = field(default_factory=dict)
    """The numbers in its manual of the pages of each document."""
    term_cpu_s: float = 0.0
    """CPU seconds that the terms of all pages took."""

    def __post_init__(self) -> None:
        self.blobs = FileBlobs(self.folder)
        self._store = PageStore(self.records, self.blobs, NoIndex(), VectorEncoding(1, "int8"))

    async def add(self, path: Path, most: int) -> None:
        """`most`: the most pages to take."""
        numbers = [number for part in page_ranges(path) for number in numbers_with_text(path, part)][:most]
        if not numbers:
            return
        first = await self.records.reserve_page_keys(len(numbers))
        await self.records.insert(replace(document(path.name, _COLLECTION), pages=len(numbers), first_page_key=first))
        claimed = await self.records.claim(path.name, "filler", LEASE_MS)
        generation = await self._store.prepare(claimed, KnownVectors({}))
        planned = await self.records.plan(path.name, claimed.fence, dpi=100, stage="", generation=generation)
        codes = self._store.code_writer(planned, generation, 0)
        done = 0
        for part in page_ranges(path):
            own = [] if done == len(numbers) else list(read_pages(path, part))[: len(numbers) - done]
            window = [_vectors_of(planned, number, page) for number, page in enumerate(own, done + 1)]
            await self._store.write(planned, window, codes)
            self.pages += [PageText(one.manual, one.page_number, one.text) for one in own]
            done += len(own)
        self.numbers[path.name] = numbers
        await codes.complete()
        started = time.process_time()
        await self.records.finish(await self._store.completed(planned, codes))
        self.term_cpu_s += time.process_time() - started

    def bytes_a_page(self, extension: str) -> float:
        return sum(path.stat().st_size for path in self.folder.glob(f"*.{extension}")) / len(self.pages)


def _vectors_of(planned: Document, number: int, page: ManualPage) -> PageVectors:
    return PageVectors(Page(number, 1, 1, b"", page.text), planned.page_key(number), page.vectors)


async def measure(
    searcher: Searcher, tasks: Sequence[Task], mode: SearchMode, numbers: Mapping[str, Sequence[int]]
) -> tuple[float, float, list[str], float]:
    """Recall@TOP, mean reciprocal rank, the queries whose pages were not found, and the median of seconds."""
    found, reciprocal, missed, seconds = 0, 0.0, [], []
    for task in tasks:
        started = time.perf_counter()
        hits = (await searcher.answer(_COLLECTION, task.query, TOP, mode=mode)).hits
        seconds.append(time.perf_counter() - started)
        ranks = [
            rank
            for rank, hit in enumerate(hits, 1)
            if (hit.document_id, numbers[hit.document_id][hit.page - 1]) in task.right
        ]
        found += bool(ranks)
        reciprocal += 1 / ranks[0] if ranks else 0
        if not ranks:
            missed.append(task.query)
    return found / len(tasks), reciprocal / len(tasks), missed, float(np.median(seconds))


def known(questions: Sequence[Question], identifiers: Sequence[Task], paths: Sequence[Path]) -> KnownVectors:
    names = [task.query for task in identifiers]
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]
    vectors = cached_vectors(vectors_folder(paths[0]).parent / f"identifiers-{digest}.npz", names)
    return KnownVectors({one.text: one.vectors for one in questions} | dict(zip(names, vectors, strict=True)))


async def run(arguments: Any) -> None:
    arguments.folder.mkdir(parents=True, exist_ok=True)
    library = Library(arguments.folder)
    for path in arguments.manuals:
        await library.add(path, arguments.pages - len(library.pages))
    questions = load_questions(arguments.manuals)
    titles, identifiers = title_tasks(questions, library.pages, arguments.titles), identifier_tasks(library.pages)
    searcher = Searcher(
        # In a thread: the model has an event loop of its own.
        embedder=await asyncio.to_thread(known, questions, identifiers, arguments.manuals),
        vectors=NoIndex(),
        records=library.records,
        blobs=library.blobs,
        settings=SearchSettings(search_cache_ttl_s=0, search_code_cache_bytes=2 * 1024**3),
    )
    print(f"{len(library.pages)} pages, {len(titles)} titles, {len(identifiers)} identifiers, such as")
    print("  " + ", ".join(task.query for task in identifiers[:12]))
    print(
        f"terms: {1000 * library.term_cpu_s / len(library.pages):.2f} ms of CPU, {library.bytes_a_page('terms'):.0f} "
        f"bytes a page, beside {library.bytes_a_page('codes'):.0f} of sign codes and "
        f"{library.bytes_a_page('vec'):.0f} of vectors"
    )
    print(f"| mode | titles: recall@{TOP} | MRR | p50 ms | identifiers: recall@{TOP} | MRR | p50 ms |")
    print("|---|---|---|---|---|---|---|")
    for mode in (SearchMode.SEMANTIC, SearchMode.LEXICAL, SearchMode.HYBRID):
        await searcher.answer(_COLLECTION, titles[0].query, TOP, mode=mode)  # reads codes and terms
        cells, all_missed = [], []
        for tasks in (titles, identifiers):
            recall, reciprocal, missed, median_s = await measure(searcher, tasks, mode, library.numbers)
            cells += [f"{recall:.3f}", f"{reciprocal:.3f}", f"{1000 * median_s:.0f}"]
            all_missed.append(missed)
        print(f"| {mode.value} | " + " | ".join(cells) + " |", flush=True)
        if arguments.missed and mode is not SearchMode.SEMANTIC:
            print(f"  missed: {all_missed[1][: arguments.missed]}; {all_missed[0][: arguments.missed]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", type=int, default=1_000_000, help="use so many pages at most")
    parser.add_argument("--titles", type=int, default=300, help="use so many titles at most")
    parser.add_argument("--missed", type=int, default=0, help="name so many queries whose pages were not found")
    parser.add_argument("--folder", type=Path, required=True, help="an empty folder for the objects")
    parser.add_argument("manuals", type=Path, nargs="+")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
