"""The arithmetic of the HTTP server's limits: connections, time, framing."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.http.connections import Connections, ConnectionSlot
from ingestion.http.error_responses import TOO_MANY_CONNECTIONS, URI_TOO_LONG, encode, problem_body
from ingestion.http.framing import Framing
from ingestion.http.limits import (
    MAX_FRAMING_BYTES,
    RESERVED_CONNECTIONS,
    HttpLimits,
    StallTimer,
    connections_within,
    limits_of,
)
from ingestion.settings import HttpSettings


@dataclass(eq=False)
class FakeConnection:
    """A connection without a socket."""

    unsent: bool = False
    dropped: bool = False
    elapsed_s: float = 0

    def has_unsent(self) -> bool:
        return self.unsent

    def drop(self) -> None:
        self.dropped = True

    def tick(self, elapsed_s: float) -> None:
        self.elapsed_s += elapsed_s


def limits(connections: int = 4, per_address: int = 4, *proxies: str) -> HttpLimits:
    settings = HttpSettings(
        http_max_connections=connections,
        http_max_connections_per_address=per_address,
        http_trusted_proxies=",".join(proxies),  # type: ignore[arg-type]
    )
    return limits_of(settings, descriptors_each=1, accepted_per_turn=1)


def test_the_longest_idle_connection_is_replaced() -> None:
    connections = Connections(limits(3))
    peers = [FakeConnection() for _ in range(5)]
    for peer in peers[:3]:
        assert connections.add(peer, "10.0.0.1") is ConnectionSlot.REGULAR
    connections.mark_busy(peers[0])
    connections.mark_busy(peers[1])
    connections.mark_idle(peers[1])  # idle for less time than the third
    assert connections.add(peers[3], "10.0.0.2") is ConnectionSlot.REGULAR
    assert connections.add(peers[4], "10.0.0.3") is ConnectionSlot.REGULAR
    assert [peer.dropped for peer in peers] == [False, True, True, False, False]
    assert len(connections) == 3


def test_a_connection_with_an_unread_answer_is_not_replaced() -> None:
    connections = Connections(limits(2))
    taking, idle = FakeConnection(unsent=True), FakeConnection()
    connections.add(taking, "10.0.0.1")
    connections.add(idle, "10.0.0.1")
    assert connections.add(FakeConnection(), "10.0.0.1") is ConnectionSlot.REGULAR
    assert (taking.dropped, idle.dropped) == (False, True)


def test_when_all_connections_are_busy_reserved_slots_follow_and_then_none() -> None:
    connections = Connections(limits(4))
    for number in range(4 + RESERVED_CONNECTIONS):
        peer = FakeConnection()
        assert connections.add(peer, f"10.0.0.{number}") is (
            ConnectionSlot.REGULAR if number < 4 else ConnectionSlot.RESERVED
        )
        connections.mark_busy(peer)
    late = FakeConnection()
    assert connections.add(late, "10.0.0.99") is ConnectionSlot.NONE
    assert not connections.is_over_limit(late)
    assert len(connections) == 4 + RESERVED_CONNECTIONS


def test_one_address_does_not_take_the_slots_of_others() -> None:
    connections = Connections(limits(10, 3))
    greedy = [FakeConnection() for _ in range(6)]
    slots = []
    for peer in greedy:
        slots.append(connections.add(peer, "10.0.0.1"))
        connections.mark_busy(peer)
    assert slots == [ConnectionSlot.REGULAR] * 3 + [ConnectionSlot.RESERVED] * 3
    assert connections.add(FakeConnection(), "10.0.0.2") is ConnectionSlot.REGULAR
    for peer in greedy:
        connections.remove(peer)
        connections.remove(peer)
    assert connections.add(FakeConnection(), "10.0.0.1") is ConnectionSlot.REGULAR


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64"),
        ("192.168.7.9", None),
        ("::ffff:192.168.7.9", None),
        ("fd00::7", None),
        ("", None),
    ],
)
def test_the_quota_key_of_an_address(host: str, name: str | None) -> None:
    assert limits(4, 4, "192.168.0.0/16", "fd00::7").quota_key(host) == name


@pytest.mark.parametrize("value", ["nowhere", "10.0.0.1/99"])
def test_an_invalid_proxy_address_is_an_error_at_start(value: str) -> None:
    with pytest.raises(ValueError, match="http_trusted_proxies"):
        HttpSettings(http_trusted_proxies=value)  # type: ignore[arg-type]


@given(st.integers(1, 10**6), st.integers(1, 4), st.sampled_from([1, 128]))
def test_descriptors_are_kept_in_reserve(open_files: int, each: int, per_turn: int) -> None:
    connections = connections_within(open_files, each, per_turn)
    assert connections >= 1
    assert connections == 1 or open_files - (connections + RESERVED_CONNECTIONS) * each - per_turn >= 100


def test_a_tick_reaches_every_connection() -> None:
    connections = Connections(limits())
    peers = [FakeConnection(), FakeConnection()]
    for peer in peers:
        connections.add(peer, "10.0.0.1")
    connections.tick(1.5)
    assert [peer.elapsed_s for peer in peers] == [1.5, 1.5]


@given(st.lists(st.integers(1024, 10**6), max_size=200))
def test_a_peer_at_the_least_rate_never_expires(seconds: list[int]) -> None:
    timer = StallTimer(10, 1024)
    assert not any(timer.tick(1, moved) for moved in seconds)


@given(st.integers(0, 1000))
def test_a_slower_peer_expires_in_the_end(rate: int) -> None:
    timer = StallTimer(10, 1024)
    assert any(timer.tick(1, rate) for _ in range(1000))


def test_a_large_piece_gives_back_no_more_than_the_full_time() -> None:
    timer = StallTimer(10, 1024)
    timer.tick(1, 10**9)
    assert not any(timer.tick(1, 0) for _ in range(9))
    assert timer.tick(1, 0)


@given(st.lists(st.integers(1, 65_536), max_size=50), st.integers(20, 4096))
def test_ordinary_chunks_are_always_admitted(pieces: list[int], chunk_bytes: int) -> None:
    framing = Framing()
    for data in pieces:
        assert framing.admits(data + 10 * (1 + data // chunk_bytes), data)


def test_tiny_chunks_are_admitted_up_to_the_limit_of_framing() -> None:
    framing = Framing()
    admitted = 0
    while framing.admits(6_000, 1_000):
        admitted += 6_000
    assert admitted <= 2 * MAX_FRAMING_BYTES


def test_the_limit_of_trailers_does_not_grow_with_the_body() -> None:
    framing = Framing()
    for _ in range(100):
        assert framing.admits(65_546, 65_536)
    trailers = 0
    while framing.admits(1_000, 0):
        trailers += 1_000
    assert trailers <= MAX_FRAMING_BYTES


def test_an_error_response_is_complete_and_closes_the_connection() -> None:
    head, _, body = encode(URI_TOO_LONG, problem_body).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 414 URI Too Long" or lines[0] == b"HTTP/1.1 414 Request-URI Too Long"
    assert b"content-length: %d" % len(body) in lines
    assert b"connection: close" in lines
    assert not any(line.startswith(b"retry-after") for line in lines)
    assert b"retry-after: 2" in encode(TOO_MANY_CONNECTIONS, problem_body).split(b"\r\n")
