"""The limits of the HTTP server for each connection."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from structlog.testing import capture_logs

from ingestion.http.limits import LINGER_S, MAX_HEAD_BYTES, MAX_PIPELINED
from tests.support.raw_http import RunningServer, eventually, running_server

GET = b"GET /some HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: x\r\n"
TAKEN_BYTES = 48 * 1024**2
"""More than a connection's buffers hold, in the kernel and here."""


async def still_serves(server: RunningServer) -> None:
    async with server.connected() as other:
        await other.send(GET)
        assert (await other.answer()).status == 200


@pytest.mark.parametrize(
    ("begin", "more", "status"),
    [
        (b"GET / HTTP/1.1\r\n", b"X-A: b\r\n", 431),
        (b"GET / HTTP/1.1\r\nX-A: ", b"b" * 1024, 431),
        (b"GET / HTTP/1.1\r\n" + b"n" * 1024, b"n" * 1024, 431),
        (b"GET /", b"u" * 1024, 414),
        (b"", b"\r\n" * 512, 431),
    ],
    ids=["fields", "value", "name", "address", "empty lines"],
)
async def test_a_head_without_end_is_refused_at_its_limit(begin: bytes, more: bytes, status: int) -> None:
    async with running_server() as server, server.connected() as client:
        await client.send(begin)
        while client.sent_bytes <= TAKEN_BYTES and await client.send(more * 64):
            pass
        answer = await client.answer()
        assert (answer.status, answer.is_last) == (status, True)
        assert answer.headers["content-type"] == "application/problem+json"
        assert await client.is_closed()
        assert client.sent_bytes < TAKEN_BYTES, "the server has taken all that was sent"
        assert server.app.calls == []
        await still_serves(server)


@pytest.mark.parametrize(("size", "status"), [(MAX_HEAD_BYTES - 1, 200), (MAX_HEAD_BYTES + 1, 431)])
async def test_the_limit_of_a_head_holds_to_the_byte(size: int, status: int) -> None:
    head = b"GET /some HTTP/1.1\r\nX-A: "
    head += b"b" * (size - len(head) - 4) + b"\r\n\r\n"
    async with running_server() as server, server.connected() as client:
        for _ in range(2 if status == 200 else 1):  # each request of a connection has the whole limit
            await client.send(head)
            assert (await client.answer()).status == status


async def test_many_small_fields_are_refused() -> None:
    async with running_server() as server, server.connected() as client:
        await client.send(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 1000 + b"\r\n")
        assert (await client.answer()).status == 431
    assert server.app.calls == []


async def test_a_slow_head_is_408() -> None:
    async with running_server(header_timeout_s=10) as server, server.connected() as client:
        await client.send(b"GET / HTTP/1.1\r\nX-")
        await eventually(server.waiting_heads)
        for _ in range(9):
            await client.send(b"a")
            server.pass_time(1)
        await still_serves(server)
        server.pass_time(2)
        answer = await client.answer()
        assert (answer.status, answer.code, answer.is_last) == (408, "request_timeout", True)
        assert await client.is_closed()


async def test_a_silent_connection_is_closed_without_an_answer() -> None:
    with capture_logs() as logs:
        async with running_server(header_timeout_s=10) as server, server.connected() as client:
            await eventually(lambda: len(server.server.connections) == 1)
            server.pass_time(10)
            assert await client.is_closed()
    assert [line for line in logs if line["event"] == "request"] == []


async def test_an_idle_keep_alive_connection_is_closed() -> None:
    async with running_server(keep_alive_s=5) as server, server.connected() as client:
        for _ in range(3):
            await client.send(GET)
            assert not (await client.answer()).is_last
            server.pass_time(4)
        await client.send(b"\r\n")  # not the start of a request
        server.pass_time(2)
        assert await client.is_closed()


@pytest.mark.parametrize("framing", [b"Content-Length: 60000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"])
async def test_a_stalled_body_is_408(framing: bytes) -> None:
    async with running_server(stall_s=30) as server, server.connected() as client:
        await client.send(POST + framing)
        await eventually(lambda: server.app.calls)
        for _ in range(15):
            await client.send(b"1\r\na\r\n")
            server.pass_time(2)
        server.pass_time(2)
        answer = await client.answer()
        assert (answer.status, answer.is_last) == (408, True)
        assert await client.is_closed()
        await eventually(lambda: server.app.disconnects == 1)
        await still_serves(server)


async def test_a_slow_body_that_makes_progress_is_read() -> None:
    pieces, size = 40, 3000
    async with running_server(stall_s=30, min_bytes_per_s=1024) as server, server.connected() as client:
        await client.send(POST + b"Content-Length: %d\r\n\r\n" % (pieces * size))
        for number in range(1, pieces + 1):
            await client.send(b"x" * size)
            await eventually(lambda sent=number * size: server.app.read_bytes == sent)
            server.pass_time(2)
            if number == pieces // 2:
                server.pass_time(20)  # a stall within the limit
        assert (await client.answer()).body == b"/echo %d" % (pieces * size)


async def test_a_paused_sender_does_not_time_out() -> None:
    async with running_server(stall_s=10) as server, server.connected() as client:
        await client.send(b"POST /hold HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 500_000)
        await eventually(lambda: server.app.calls)
        await eventually(server.paused)
        server.pass_time(100)
        server.app.released.set()
        assert (await client.answer()).status == 200


async def test_an_unread_answer_ends_the_connection() -> None:
    async with running_server(stall_s=30) as server, server.connected() as client:
        await client.send(b"GET /flood HTTP/1.1\r\n\r\n")
        await eventually(server.unsent)
        held_bytes = server.app.sent_bytes
        server.pass_time(32)
        await eventually(lambda: not len(server.server.connections))
        assert held_bytes < TAKEN_BYTES
        await still_serves(server)


async def test_a_slowly_read_answer_arrives() -> None:
    async with running_server(stall_s=30) as server, server.connected() as client:
        await client.send(b"GET /flood HTTP/1.1\r\n\r\n")
        taken = 0
        while taken < 65_536_000:
            await eventually(lambda: server.unsent() or server.app.sent_bytes == 65_536_000)
            server.pass_time(20)
            taken += await client.read(min(8 * 1024**2, 65_536_000 - taken))


async def test_the_application_has_no_time_limit() -> None:
    async with running_server() as server, server.connected() as client:
        await client.send(b"GET /hold HTTP/1.1\r\n\r\n")
        await eventually(lambda: server.app.calls)
        server.pass_time(3600)
        server.app.released.set()
        assert (await client.answer()).status == 200


async def test_an_answer_before_the_end_of_the_body_closes_the_connection() -> None:
    async with running_server() as server, server.connected() as client:
        await client.send(b"POST /refuse HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n")
        answer = await client.answer()
        assert (answer.status, answer.is_last) == (401, True)
        while client.sent_bytes <= TAKEN_BYTES and await client.send(b"x" * 65_536):
            pass
        assert client.sent_bytes < TAKEN_BYTES


async def test_a_client_that_sends_its_body_first_still_reads_an_early_answer() -> None:
    async with running_server() as server, server.connected() as client:
        await client.send(b"POST /refuse HTTP/1.1\r\nContent-Length: 4194304\r\n\r\n")
        await eventually(lambda: server.app.calls)
        assert all([await client.send(b"x" * 65_536) for _ in range(64)])
        assert (await client.answer()).status == 401
        assert await client.is_closed()


async def test_a_connection_is_closed_after_its_last_answer_even_if_the_client_stays() -> None:
    async with running_server() as server, server.connected() as client:
        await client.send(b"POST /refuse HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n")
        await client.answer()
        server.pass_time(LINGER_S)
        await eventually(lambda: not len(server.server.connections))


async def test_100_continue_is_sent_when_the_body_is_read() -> None:
    async with running_server() as server:
        async with server.connected() as client:
            await client.send(b"POST /refuse HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
            assert (await client.answer()).status == 401
        async with server.connected() as client:
            await client.send(POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
            assert (await client.answer(has_body=False)).status == 100
            await client.send(b"12345")
            assert (await client.answer()).body == b"/echo 5"


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with running_server() as server, server.connected() as client:
        await client.send(b"".join(b"GET /%d HTTP/1.1\r\n\r\n" % number for number in range(MAX_PIPELINED)))
        bodies = [(await client.answer()).body for _ in range(MAX_PIPELINED)]
    assert bodies == [b"/%d 0" % number for number in range(MAX_PIPELINED)]


async def test_too_many_pipelined_requests_end_the_connection() -> None:
    async with running_server() as server, server.connected() as client:
        await client.send(b"GET /hold HTTP/1.1\r\n\r\n" + b"GET /more HTTP/1.1\r\n\r\n" * 5000)
        await eventually(lambda: server.app.calls)
        server.app.released.set()
        for _ in range(MAX_PIPELINED + 1):
            assert (await client.answer()).status == 200
        assert await client.is_closed()
    assert len(server.app.calls) == MAX_PIPELINED + 1


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"", b"1\r\na\r\n"),
        (b"", b"5;" + b"e" * 2000 + b"\r\nabcde\r\n"),
        (b"5;", b"e" * 1024),
        (b"186a0\r\n" + b"x" * 100_000 + b"\r\n0\r\n", b"t: v\r\n"),
        (b"186a0\r\n" + b"x" * 100_000 + b"\r\n0\r\nt: ", b"v" * 1024),
    ],
    ids=["tiny chunks", "extensions", "one extension", "trailer fields", "one trailer field"],
)
async def test_a_chunked_body_that_is_mostly_framing_is_refused(begin: bytes, more: bytes) -> None:
    async with running_server() as server, server.connected() as client:
        await client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + begin)
        while client.sent_bytes <= TAKEN_BYTES and await client.send(more * (65_536 // len(more))):
            pass
        assert client.sent_bytes < TAKEN_BYTES
        assert (await client.answer()).status == 400
        await still_serves(server)


async def test_a_body_of_ordinary_chunks_is_read() -> None:
    async with running_server() as server, server.connected() as client:
        await client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + (b"50\r\n" + b"x" * 0x50 + b"\r\n") * 20_000)
        await client.send(b"0\r\ntrailer: v\r\n\r\n")
        assert (await client.answer()).body == b"/echo %d" % (20_000 * 0x50)


async def test_silent_connections_are_replaced() -> None:
    limit = 10
    async with running_server(max_connections=limit) as server, contextlib.AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(server.connected()) for _ in range(5 * limit)]
        await eventually(lambda: len(server.server.connections) == limit // 2)  # all from one address
        await still_serves(server)
        assert all(await asyncio.gather(*(client.is_closed() for client in silent[:limit])))


async def test_when_all_connections_are_busy_a_new_one_is_503_and_probes_are_answered() -> None:
    async with (
        running_server(max_connections=4, trusted_proxies="127.0.0.0/8") as server,
        contextlib.AsyncExitStack() as stack,
    ):
        busy = [await stack.enter_async_context(server.connected()) for _ in range(4)]
        await asyncio.gather(*(client.send(b"GET /hold HTTP/1.1\r\n\r\n") for client in busy))
        await eventually(lambda: len(server.app.calls) == len(busy))
        async with server.connected() as client:
            await client.send(GET)
            answer = await client.answer()
            assert (answer.status, answer.code, answer.is_last) == (503, "too_many_connections", True)
            assert int(answer.headers["retry-after"]) > 0
        async with server.connected() as probe:
            await probe.send(b"GET /health HTTP/1.1\r\n\r\n")
            assert (await probe.answer()).status == 200
        server.app.released.set()
        for client in busy:
            assert (await client.answer()).status == 200


async def test_every_request_is_one_line_in_the_log() -> None:
    with capture_logs() as logs:
        async with running_server() as server:
            async with server.connected() as client:
                await client.send(b"POST /echo?secret=1 HTTP/1.1\r\nContent-Length: 5\r\n\r\n12345")
                await client.answer()
                await client.send(b"GET /health HTTP/1.1\r\n\r\n")
                await client.answer()
                await client.send(b"no http\r\n\r\n")
                assert (await client.answer()).status == 400
            async with server.connected() as client:
                await client.send(b"GET /flood HTTP/1.1\r\n\r\n")
                await eventually(server.unsent)
            await eventually(lambda: not len(server.server.connections))
    lines = [line for line in logs if line["event"] == "request"]
    shown = [(line["log_level"], line["method"], line["path"], line["status"]) for line in lines]
    assert shown == [
        ("info", "POST", "/echo", 200),
        ("debug", "GET", "/health", 200),
        ("info", "", "", 400),
        ("info", "GET", "/flood", 200),
    ]
    assert all(line["sent_bytes"] > 0 and line["seconds"] >= 0 for line in lines)


@pytest.mark.parametrize(
    "said",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\n\r\n",
        b"CONNECT somewhere:443 HTTP/1.1\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n123456",
        b"POST /echo HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nnot a size\r\n",
        b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n\x00: x\r\n\r\n",
    ],
)
async def test_malformed_requests_are_400(said: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with running_server() as server, server.connected() as client:
        await client.send(said)
        answer = await client.answer()
        assert (answer.status, answer.is_last) == (400, True)
        assert await client.is_closed()
        await still_serves(server)
    assert [record for record in caplog.records if record.levelname in ("ERROR", "WARNING")] == []


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
async def test_protocol_upgrades_are_ignored(protocol: bytes) -> None:
    async with running_server() as server, server.connected() as client:
        head = b"GET /some HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: %s\r\n\r\n" % protocol
        await client.send(head + b"something else")
        answer = await client.answer()
        assert (answer.status, answer.is_last) == (200, True)
        assert await client.is_closed()


async def test_a_request_in_single_bytes_is_answered() -> None:
    async with running_server() as server, server.connected() as client:
        for byte in POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n":
            await client.send(bytes((byte,)))
            await asyncio.sleep(0)
        assert (await client.answer()).body == b"/echo 3"


async def test_a_malformed_request_does_not_affect_the_answer_before_it() -> None:
    async with running_server() as server, server.connected() as client:
        await client.send(b"GET /hold HTTP/1.1\r\n\r\n" + b"\x00\x01no http\r\n\r\n")
        await eventually(lambda: server.app.calls)
        server.app.released.set()
        answer = await client.answer()
        assert (answer.status, answer.body) == (200, b"/hold 0")
        assert await client.is_closed()


async def test_a_disconnect_in_the_middle_of_a_body_is_noticed() -> None:
    async with running_server() as server:
        async with server.connected() as client:
            await client.send(POST + b"Content-Length: 100\r\n\r\nabc")
            await eventually(lambda: server.app.read_bytes == 3)
        await eventually(lambda: server.app.disconnects == 1)
        assert not len(server.server.connections)
