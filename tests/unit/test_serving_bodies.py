"""Bodies are reserved before they are read, and slow senders hold memory for a limited time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect

from ingestion.settings import ServingSettings
from tests.support.serving import HeldEmbedder, eventually, serving
from workers.embedding.serving.bodies import BodyBudget, read_body
from workers.embedding.serving.service_errors import ServiceError

MIB = 1024**2


class Sender:
    """An ASGI `receive` of given chunks, that then waits for ever unless the last one `ends` the body."""

    def __init__(self, chunks: Iterable[bytes], *, length: int | None = None, ends: bool = True) -> None:
        self.scope: dict[str, Any] = {"type": "http", "headers": []}
        if length is not None:
            self.scope["headers"].append((b"content-length", str(length).encode()))
        self._chunks = list(chunks)
        self._ends = ends
        self.received = 0

    async def receive(self) -> dict[str, Any]:
        if self.received == len(self._chunks):
            await asyncio.Event().wait()
        self.received += 1
        more = self.received < len(self._chunks) or not self._ends
        return {"type": "http.request", "body": self._chunks[self.received - 1], "more_body": more}


async def read(sender: Sender, budget: BodyBudget, *, max_bytes: int = 64 * MIB, silence_s: float = 10.0) -> bytes:
    with budget.hold() as reservation:
        return bytes(await read_body(sender.scope, sender.receive, reservation, max_bytes, silence_s=silence_s))


@pytest.mark.parametrize("length", [None, 9])
async def test_a_body_is_returned_unchanged_and_frees_its_bytes(length: int | None) -> None:
    budget = BodyBudget(100)
    for chunks in ([b"123456789"], [b"1234", b"", b"56789"], [b"", b"123456789", b""]):
        assert await read(Sender(chunks, length=length), budget) == b"123456789"
    assert budget.in_flight_bytes == 0


async def test_an_announced_body_is_reserved_before_it_is_read() -> None:
    budget = BodyBudget(8 * MIB)
    silent = asyncio.create_task(read(Sender([b"x"], length=4 * MIB, ends=False), budget))
    await eventually(lambda: budget.in_flight_bytes == 4 * MIB)
    late = Sender([b"x" * 3 * MIB], length=3 * MIB)
    with pytest.raises(ServiceError) as refused:
        await read(late, budget)
    assert (refused.value.status, refused.value.code, late.received) == (429, "overloaded", 0)
    assert refused.value.retry_after_s
    assert budget.refused == 1
    silent.cancel()
    await asyncio.wait((silent,))
    assert len(await read(late, budget)) == 3 * MIB
    assert budget.in_flight_bytes == 0


async def test_a_body_without_a_length_is_counted_as_it_arrives() -> None:
    budget = BodyBudget(8 * MIB)
    silent = asyncio.create_task(read(Sender([bytes(MIB)] * 4, ends=False), budget))
    await eventually(lambda: budget.in_flight_bytes == 4 * MIB)
    late = Sender([bytes(MIB)] * 5)
    with pytest.raises(ServiceError) as refused:
        await read(late, budget)
    assert (refused.value.status, late.received) == (429, 3)  # 6 MiB are for large bodies
    silent.cancel()
    await asyncio.wait((silent,))
    assert budget.in_flight_bytes == 0


async def test_large_bodies_leave_room_for_small_ones_and_small_for_large() -> None:
    budget = BodyBudget(8 * MIB)
    with budget.hold() as large, budget.hold() as other:
        large.grow_to(6 * MIB)
        with pytest.raises(ServiceError):
            other.grow_to(2 * MIB)
        assert await read(Sender([b"query"], length=5), budget) == b"query"
    with budget.hold() as first, budget.hold() as second, budget.hold() as third, budget.hold() as large:
        first.grow_to(MIB)
        second.grow_to(MIB)
        with pytest.raises(ServiceError):
            third.grow_to(1)
        large.grow_to(6 * MIB)
        assert budget.in_flight_bytes == budget.limit_bytes
    assert budget.in_flight_bytes == 0


async def test_a_body_larger_than_all_the_room_is_let_in_when_it_is_alone() -> None:
    assert len(await read(Sender([bytes(3 * MIB)], length=3 * MIB), BodyBudget(2 * MIB))) == 3 * MIB


@given(st.lists(st.lists(st.integers(0, 3 * MIB), max_size=4), max_size=12), st.data())
def test_no_order_of_bodies_takes_more_than_there_is_or_loses_any(
    bodies_bytes: list[list[int]], data: st.DataObject
) -> None:
    budget = BodyBudget(8 * MIB)
    held = []
    for sizes in bodies_bytes:
        hold = budget.hold()
        reservation = hold.__enter__()
        held.append((hold, reservation))
        for size in sizes:
            try:
                reservation.grow_to(size)
            except ServiceError:
                break
        assert budget.in_flight_bytes == sum(one.size_bytes for _, one in held) <= budget.limit_bytes
    for hold, _ in data.draw(st.permutations(held)):
        hold.__exit__(None, None, None)
    assert budget.in_flight_bytes == 0


async def test_a_sender_that_stops_is_dropped_and_its_room_is_free() -> None:
    budget = BodyBudget(8 * MIB)
    for chunks in ([], [b"x" * MIB, b"x"]):
        with pytest.raises(ServiceError) as dropped:
            await read(Sender(chunks, length=4 * MIB, ends=False), budget, silence_s=0.05)
        assert (dropped.value.status, dropped.value.code) == (408, "request_timeout")
        assert dropped.value.response().headers["connection"] == "close"
        assert budget.in_flight_bytes == 0


async def test_a_sender_that_drips_is_dropped_however_steadily(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now_s)

    class Dripping(Sender):
        async def receive(self) -> dict[str, Any]:
            nonlocal now_s
            now_s += 9.0
            return await super().receive()

    sender = Dripping([b"x"] * 100, length=100)
    with pytest.raises(ServiceError, match="bytes a second"):
        await read(sender, BodyBudget(1000))
    assert sender.received <= 3


async def test_a_caller_that_leaves_releases_its_room() -> None:
    async def leave() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    budget = BodyBudget(100)
    sender = Sender([], length=50)
    with pytest.raises(ClientDisconnect), budget.hold() as reservation:
        await read_body(sender.scope, leave, reservation, 100)
    assert budget.in_flight_bytes == 0


async def test_silent_senders_hold_a_bounded_number_of_bytes_and_queries_are_answered() -> None:
    """Over HTTP: of twelve that announce 2 MiB each, three are let in, and in the end nothing is held."""
    settings = ServingSettings(embed_bodies_limit_bytes=8 * MIB)
    async with serving(HeldEmbedder(), settings=settings) as client:
        url = client.http.base_url
        head = b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (2 * MIB)
        connections = []
        for _ in range(12):
            reader, writer = await asyncio.open_connection(url.host, url.port)
            writer.write(head + b" " * 1000)
            connections.append((reader, writer))
        refused = [await reader.readline() for reader, _ in connections[3:]]
        health = await client.health()
        assert len(await client.embed("pump")) == 1
        for _, writer in connections:
            writer.close()
        async with asyncio.timeout(10):
            while (await client.health())["bodies"]["in_flight_bytes"]:
                await asyncio.sleep(0.01)
    assert {line.split()[1] for line in refused} == {b"429"}
    assert health["bodies"] == {"in_flight_bytes": 6 * MIB, "limit_bytes": 8 * MIB, "refused": 9}


async def test_a_body_counts_until_its_request_is_answered() -> None:
    embedder = HeldEmbedder()
    embedder.hold()
    async with serving(embedder) as client:
        asking = asyncio.create_task(client.post("pump"))
        await eventually(lambda: embedder.waiting)
        assert (await client.health())["bodies"]["in_flight_bytes"] > 0
        embedder.let_go()
        await asking
        assert (await client.health())["bodies"]["in_flight_bytes"] == 0


def test_the_default_room_takes_the_largest_body() -> None:
    settings = ServingSettings()
    budget = BodyBudget(settings.embed_bodies_limit_bytes)
    with budget.hold() as first, budget.hold() as second:
        first.grow_to(settings.embed_max_body_bytes)
        second.grow_to(settings.embed_max_body_bytes)
