"""The clients of a searching process: they ask, and take the time."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.filling import Place

_LINE_BYTES: Final = 16 * 1024**2
_WAIT_REFUSED_S: Final = 0.2
_STOP_S: Final = 30.0
_LOG_CHARS: Final = 4000

Counters = dict[str, float]


@dataclass(frozen=True, slots=True)
class Answer:
    """`places` are the pages found, best first. None where the search was refused for overload."""

    took_s: float
    places: Sequence[Place] | None


class SearchFailed(Exception):
    """The search failed, for another reason than overload."""


class SearchProcessEnded(Exception):
    """The searching process has ended. The text has the last lines of its log."""


class SearchProcess:
    """A running `tests.benchmarks.growth.replica`."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log
        self._ids = itertools.count()
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._has_ended = False
        self.pid = process.pid

    async def search(self, query: str) -> Answer:
        """Raises SearchFailed, and SearchProcessEnded."""
        began = time.perf_counter()
        answer = await self._ask(query=query)
        took_s = time.perf_counter() - began
        if "failed" in answer:
            raise SearchFailed(answer["failed"])
        places = [(document, number) for document, number in answer["hits"]] if "hits" in answer else None
        return Answer(took_s, places)

    async def counters(self) -> Counters:
        """What the process has counted so far."""
        return dict((await self._ask())["counters"])

    async def _ask(self, **request: Any) -> dict[str, Any]:
        if self._has_ended:
            raise self._ended()
        id_ = next(self._ids)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._asked[id_] = future
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": id_, **request}).encode() + b"\n")
        return await future

    async def read_answers(self) -> None:
        """Resolve what was asked, until the process ends."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            answer = json.loads(line)
            self._asked.pop(answer["id"]).set_result(answer)
        self._has_ended = True
        for future in self._asked.values():
            future.set_exception(self._ended())

    def _ended(self) -> SearchProcessEnded:
        return SearchProcessEnded(f"the searching process has ended:\n{self._log.read_text()[-_LOG_CHARS:]}")


@asynccontextmanager
async def search_process(arguments: Sequence[str], env: Mapping[str, str], log: Path) -> AsyncIterator[SearchProcess]:
    """Run a searching process during the block, with exactly this environment."""
    argv = (sys.executable, "-P", "-m", "tests.benchmarks.growth.replica", *arguments)
    pipe = asyncio.subprocess.PIPE
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=pipe, stdout=pipe, stderr=errors, env=env, limit=_LINE_BYTES
        )
    searching = SearchProcess(process, log)
    reading = asyncio.create_task(searching.read_answers())
    try:
        await searching.counters()  # it answers once it is connected
        yield searching
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), _STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()
        with suppress(asyncio.CancelledError):
            await reading


@dataclass(slots=True)
class Load:
    """The outcome of many clients."""

    seconds: list[float] = field(default_factory=list)
    """Of each search that was answered."""
    refused: int = 0
    failed: int = 0
    elapsed_s: float = 0.0

    @property
    def per_s(self) -> float:
        return len(self.seconds) / self.elapsed_s


async def one_client(process: SearchProcess, queries: Sequence[str]) -> list[Answer]:
    """One search after another."""
    return [await process.search(query) for query in queries]


async def many_clients(process: SearchProcess, queries: Sequence[str], clients: int, seconds: float) -> Load:
    """Each client sends its next query once it has its answer, and waits 0.2 s after a refusal."""
    load, turns = Load(), itertools.cycle(queries)
    began = time.perf_counter()

    async def client() -> None:
        while time.perf_counter() < began + seconds:
            try:
                answer = await process.search(next(turns))
            except SearchFailed:
                load.failed += 1
                continue
            if answer.places is None:
                load.refused += 1
                await asyncio.sleep(_WAIT_REFUSED_S)
            else:
                load.seconds.append(answer.took_s)

    await asyncio.gather(*(client() for _ in range(clients)))
    load.elapsed_s = time.perf_counter() - began
    return load
