"""The process that sends requests:  python -m tests.benchmarks.load.generator < plan.json > measured.json

Each phase of the plan is either a number of clients, each of which sends its next request once the last is answered,
or a rate, at which requests are sent without waiting for earlier answers. Requests are made before the clock starts.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, cast

import httptools
import orjson
import uvloop

from tests.benchmarks.load.plan import Phase, Plan, Tally
from tests.benchmarks.load.traffic import http_request

_TICK_S: Final = 0.005
_ANSWERS_WITHIN_S: Final = 60.0
"""Time after the end of a phase. A request without an answer by then counts as hung."""


class Connection(asyncio.Protocol):
    """One keep-alive connection, with one request at a time."""

    def __init__(self, answered: Callable[[Connection], None], lost: Callable[[Connection], None]) -> None:
        self._answered = answered
        self._lost = lost
        self._bytes = 0
        self._sent_at = 0.0
        self.course: Course | None = None
        """To which the request belongs that is not answered yet."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpResponseParser(self)

    def send(self, course: Course) -> None:
        self.course, self._bytes = course, 0
        course.tally.sent += 1
        request = course.requests.popleft()
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._bytes += len(body)

    def on_message_complete(self) -> None:
        now = time.perf_counter()
        assert self.course is not None
        status = self._parser.get_status_code()
        self.course.tally.answered(status, now - self._sent_at, now - self.course.started, self._bytes)
        self._answered(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._lost(self)

    def close(self) -> None:
        self._transport.close()


@dataclass
class Course:
    """A phase under way."""

    phase: Phase
    requests: deque[bytes]
    tally: Tally = field(default_factory=Tally)
    started: float = field(default_factory=time.perf_counter)

    @property
    def is_over(self) -> bool:
        return time.perf_counter() >= self.started + self.phase.seconds


class Generator:
    """Runs phases over connections that are kept from one to the next."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._idle = deque[Connection]()
        self._waiting = set[Connection]()

    async def run(self, phase: Phase, requests: deque[bytes]) -> Tally:
        if phase.clients:
            while len(self._idle) < phase.clients:
                self._idle.append(await self._connect())
            course = Course(phase, requests)
            for _ in range(phase.clients):
                self._send(self._idle.popleft(), course)
            await asyncio.sleep(phase.seconds)
        else:
            course = Course(phase, requests)
            await self._at_rate(course)
        if phase.drains:
            await self.drain()
        return course.tally

    async def drain(self) -> None:
        """Wait for the outstanding answers. The tally counts those that do not arrive in time."""
        give_up_at = time.perf_counter() + _ANSWERS_WITHIN_S
        while self._waiting and time.perf_counter() < give_up_at:
            await asyncio.sleep(_TICK_S)
        for connection in self._waiting:
            if connection.course:
                connection.course.tally.unanswered += 1
        self._waiting.clear()

    def close(self) -> None:
        for connection in self._idle:
            connection.close()

    async def _at_rate(self, course: Course) -> None:
        opening = set[asyncio.Task[None]]()
        while not course.is_over:
            due = int((time.perf_counter() - course.started) * course.phase.rate) - course.tally.sent - len(opening)
            for _ in range(due):
                if self._idle:
                    self._send(self._idle.popleft(), course)
                else:
                    task = asyncio.create_task(self._send_on_a_new_connection(course))
                    opening.add(task)
                    task.add_done_callback(opening.discard)
            await asyncio.sleep(_TICK_S)
        await asyncio.gather(*opening)

    async def _send_on_a_new_connection(self, course: Course) -> None:
        try:
            connection = await self._connect()
        except OSError:
            course.tally.sent += 1
            course.tally.lost += 1
        else:
            self._send(connection, course)

    async def _connect(self) -> Connection:
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(self._on_answer, self._on_lost), self._plan.host, self._plan.port
        )
        return connection

    def _send(self, connection: Connection, course: Course) -> None:
        self._waiting.add(connection)
        connection.send(course)

    def _on_answer(self, connection: Connection) -> None:
        self._waiting.discard(connection)
        course, connection.course = connection.course, None
        if course and course.phase.clients and not course.is_over:
            self._send(connection, course)
        else:
            self._idle.append(connection)

    def _on_lost(self, connection: Connection) -> None:
        if connection.course:
            self._waiting.discard(connection)
            connection.course.tally.lost += 1
        elif connection in self._idle:
            self._idle.remove(connection)


async def run(plan: Plan) -> list[dict[str, Any]]:
    """Raises IndexError where fewer requests had been prepared than were sent."""
    asyncio.get_running_loop().set_exception_handler(_fail)
    host = f"{plan.host}:{plan.port}"
    prepared = [
        deque(http_request(host, plan.path, body) for body in phase.traffic.bodies(phase.prepared))
        for phase in plan.phases
    ]
    gc.freeze()
    generator = Generator(plan)
    started_cpu_s = time.process_time()
    tallies = [await generator.run(phase, requests) for phase, requests in zip(plan.phases, prepared, strict=True)]
    await generator.drain()
    cpu_s = time.process_time() - started_cpu_s
    generator.close()
    return [
        {**tally.summary(), "seconds": phase.seconds, "generator_cpu_s": cpu_s}
        for phase, tally in zip(plan.phases, tallies, strict=True)
    ]


def _fail(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Figures of a generator that is itself at fault are no figures."""
    print(context["message"], repr(context.get("exception")), file=sys.stderr, flush=True)
    os._exit(1)


if __name__ == "__main__":
    sys.stdout.buffer.write(orjson.dumps(uvloop.run(run(Plan.read(sys.stdin.buffer.read())))))
