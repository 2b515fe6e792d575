"""The metered transport: the bytes that it counts, and the writes that it joins."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from ingestion.http.request_log import LoggedRequest
from ingestion.http.transport import MeteredTransport


class FakeTransport(asyncio.Transport):
    """Keeps each write; nothing of it has been sent."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.writes))


def metered() -> tuple[FakeTransport, MeteredTransport]:
    inner = FakeTransport()
    return inner, MeteredTransport(inner, lambda: None)


def test_writes_between_hold_and_release_are_one() -> None:
    inner, transport = metered()
    transport.hold()
    transport.write(b"head")
    transport.write(b"body")
    assert (inner.writes, transport.written_bytes, transport.unsent_bytes()) == ([], 8, 8)
    transport.release()
    transport.release()
    transport.write(b"more")
    assert inner.writes == [b"headbody", b"more"]
    assert (transport.written_bytes, transport.unsent_bytes()) == (12, 12)


async def logged_request(transport: MeteredTransport, *steps: Any) -> None:
    """A request whose application sends the messages among `steps`, and awaits the others."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for step in steps:
            await (send(step) if isinstance(step, dict) else step)

    async def send(message: Any) -> None:
        transport.write(message.get("body", b"head "))

    cycle: Any = SimpleNamespace(more_body=False, keep_alive=True)
    request = LoggedRequest(app, cycle, transport, lambda _: None, quiet=True)
    await request({"method": "GET", "path": "/"}, None, send)


START = {"type": "http.response.start", "status": 200}
BODY = {"type": "http.response.body", "body": b"body"}


async def test_the_request_id_is_not_kept_in_an_answer_that_is_sent_again() -> None:
    _, transport = metered()
    headers = [(b"content-type", b"text/plain")]
    for _ in range(2):
        await logged_request(transport, {**START, "headers": headers}, BODY)
    assert headers == [(b"content-type", b"text/plain")]


async def test_head_and_body_of_an_answer_are_one_write() -> None:
    inner, transport = metered()
    await logged_request(transport, START, BODY, BODY)
    assert inner.writes == [b"head body", b"body"]


async def test_the_head_of_a_stream_does_not_wait_for_its_first_part() -> None:
    inner, transport = metered()
    written: list[bytes] = []

    async def look() -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        written.extend(inner.writes)

    await logged_request(transport, START, look(), BODY)
    assert written == [b"head "]
    assert inner.writes == [b"head ", b"body"]
