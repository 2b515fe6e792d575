"""A process that only searches, as a replica of the API does: its memory and CPU time are those of searches.

    python -m tests.benchmarks.growth.replica QUESTIONS.npz COLLECTION FINGERPRINT TOP [EFFORT]

It reads requests from its input and answers on its output, a line of JSON each:

    {"id": 1, "query": "a title"}  ->  {"id": 1, "hits": [["document", 3], ...]}, or "refused" or "failed" for "hits"
    {"id": 2}                      ->  {"id": 2, "counters": {...}}
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any, Final, cast, get_args, get_type_hints

import numpy as np
import uvloop
from prometheus_client import REGISTRY

import ingestion.api.app  # noqa: F401  # the API's own code takes memory too
from ingestion.bootstrap import Services, open_services
from ingestion.errors import IngestError, Overloaded
from ingestion.ports import BlobStore
from ingestion.search import Searcher
from ingestion.search_mode import SearchMode
from ingestion.settings import Settings
from tests.benchmarks.filling import KnownVectors
from tests.benchmarks.manuals import Question

_SWITCH_INTERVAL_S: Final = 0.0005
"""The switch interval of the API's process, see `workers.commands.serve`."""


class CountingBlobs:
    """A BlobStore that counts the objects, and their bytes, that its methods return."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self.objects = 0
        self.bytes = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._blobs, name)
        if not inspect.iscoroutinefunction(method):
            return method

        async def counted(*args: Any, **options: Any) -> Any:
            answer = await method(*args, **options)
            for data in answer if isinstance(answer, list | tuple) else [answer]:
                if isinstance(data, bytes | bytearray | memoryview):
                    self.objects += 1
                    self.bytes += len(data)
            return answer

        return counted


def effort_option(name: str | None) -> dict[str, Any]:
    """The keyword argument of `Searcher.search` for an effort. Raises SystemExit where it takes none, or not this."""
    if name is None:
        return {}
    if "effort" not in inspect.signature(Searcher.search).parameters:
        raise SystemExit("--effort: Searcher.search of this release has no efforts")
    hint = get_type_hints(Searcher.search)["effort"]
    for kind in (hint, *get_args(hint)):
        if isinstance(kind, type) and issubclass(kind, Enum):
            try:
                return {"effort": kind(name)}
            except ValueError as error:
                raise SystemExit(f"--effort: {error}") from None
    return {"effort": name}


def write_questions(questions: Sequence[Question], path: Path) -> None:
    np.savez(
        path,
        texts=np.array([question.text for question in questions]),
        rows=np.concatenate([question.vectors for question in questions]),
        counts=np.array([len(question.vectors) for question in questions]),
    )


def _read_questions(path: Path, fingerprint: str) -> KnownVectors:
    with np.load(path) as stored:
        parts = np.split(stored["rows"], np.cumsum(stored["counts"])[:-1])
        known = dict(zip(stored["texts"].tolist(), parts, strict=True))
        return KnownVectors(known, fingerprint, stored["rows"].shape[1])


def search_counters() -> Iterator[tuple[str, float]]:
    """The sums and totals of all metrics of searches, by name and labels.

    Reads all metrics that there are, because a release may add some.
    """
    for metric in REGISTRY.collect():
        if "search" not in metric.name:
            continue
        for sample in metric.samples:
            if sample.name.endswith(("_sum", "_total")):
                yield "/".join([sample.name, *sample.labels.values()]), sample.value


class Replica:
    """Answers requests, each in a task of its own."""

    def __init__(
        self, services: Services, embedder: KnownVectors, collection: str, top: int, effort: str | None
    ) -> None:
        self._blobs = CountingBlobs(services.blobs)
        services = replace(services, blobs=cast(BlobStore, self._blobs))
        self._searcher = Searcher(
            embedder=embedder,
            vectors=services.vectors,
            records=services.documents,
            blobs=services.blobs,
            settings=services.settings.search.model_copy(update={"search_mode": SearchMode.SEMANTIC}),
            cache=None,
        )
        self._collection = collection
        self._top = top
        self._effort = effort_option(effort)

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if "query" not in request:
            return {"counters": self._counters()}
        try:
            hits = await self._searcher.search(self._collection, request["query"], self._top, **self._effort)
        except Overloaded as error:
            return {"refused": str(error)}
        except IngestError as error:
            return {"failed": repr(error)}
        return {"hits": [(hit.document_id, hit.page) for hit in hits]}

    def _counters(self) -> dict[str, float]:
        own = {"cpu_s": time.process_time(), "blobs": self._blobs.objects, "blob_bytes": self._blobs.bytes}
        return {**dict(search_counters()), **own}


async def serve(answer: Callable[[dict[str, Any]], Any]) -> None:
    """Answer requests until the input ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def answer_one(request: dict[str, Any]) -> None:
        answered = json.dumps({"id": request["id"], **await answer(request)})
        sys.stdout.write(answered + "\n")
        sys.stdout.flush()

    async with asyncio.TaskGroup() as tasks:
        while line := await reader.readline():
            tasks.create_task(answer_one(json.loads(line)))


async def main(questions: str, collection: str, fingerprint: str, top: str, effort: str | None = None) -> None:
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    async with open_services(Settings()) as services:
        await asyncio.gather(services.documents.ping(), services.vectors.ping(), services.blobs.ping())
        embedder = _read_questions(Path(questions), fingerprint)
        await serve(Replica(services, embedder, collection, int(top), effort).answer)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
