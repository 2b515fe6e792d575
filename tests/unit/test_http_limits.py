"""The arithmetic of the HTTP server's limits: places, time, framing."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.http.connections import Connections, Place
from ingestion.http.framing import Framing
from ingestion.http.limits import (
    MAX_FRAMING_BYTES,
    SPARE_CONNECTIONS,
    Allowance,
    HttpLimits,
    connections_within,
    limits_of,
)
from ingestion.http.refusals import NO_PLACE, URI_TOO_LONG, encode, problem_body
from ingestion.settings import HttpSettings


@dataclass(eq=False)
class Line:
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
    return limits_of(settings, descriptors_each=1)


def test_the_connection_that_has_waited_longest_makes_room() -> None:
    connections = Connections(limits(3))
    lines = [Line() for _ in range(5)]
    for line in lines[:3]:
        assert connections.made(line, "10.0.0.1") is Place.NORMAL
    connections.busy(lines[0])
    connections.busy(lines[1])
    connections.waits(lines[1])  # waits for less time than the third
    assert connections.made(lines[3], "10.0.0.2") is Place.NORMAL
    assert connections.made(lines[4], "10.0.0.3") is Place.NORMAL
    assert [line.dropped for line in lines] == [False, True, True, False, False]
    assert len(connections) == 3


def test_a_connection_whose_answer_is_still_being_taken_is_not_dropped_for_another() -> None:
    connections = Connections(limits(2))
    taking, idle = Line(unsent=True), Line()
    connections.made(taking, "10.0.0.1")
    connections.made(idle, "10.0.0.1")
    assert connections.made(Line(), "10.0.0.1") is Place.NORMAL
    assert (taking.dropped, idle.dropped) == (False, True)


def test_where_all_are_busy_there_are_spare_places_and_then_none() -> None:
    connections = Connections(limits(4))
    for number in range(4 + SPARE_CONNECTIONS):
        line = Line()
        assert connections.made(line, f"10.0.0.{number}") is (Place.NORMAL if number < 4 else Place.SPARE)
        connections.busy(line)
    late = Line()
    assert connections.made(late, "10.0.0.99") is Place.NONE
    assert not connections.is_over(late)
    assert len(connections) == 4 + SPARE_CONNECTIONS


def test_one_address_does_not_take_the_places_of_others() -> None:
    connections = Connections(limits(10, 3))
    greedy = [Line() for _ in range(6)]
    places = []
    for line in greedy:
        places.append(connections.made(line, "10.0.0.1"))
        connections.busy(line)
    assert places == [Place.NORMAL] * 3 + [Place.SPARE] * 3
    assert connections.made(Line(), "10.0.0.2") is Place.NORMAL
    for line in greedy:
        connections.lost(line)
        connections.lost(line)
    assert connections.made(Line(), "10.0.0.1") is Place.NORMAL


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
def test_what_is_counted_as_one_address(host: str, name: str | None) -> None:
    assert limits(4, 4, "192.168.0.0/16", "fd00::7").counted_as(host) == name


@pytest.mark.parametrize("value", ["nowhere", "10.0.0.1/99"])
def test_a_proxy_that_is_no_address_is_an_error_at_start(value: str) -> None:
    with pytest.raises(ValueError, match="http_trusted_proxies"):
        HttpSettings(http_trusted_proxies=value)  # type: ignore[arg-type]


@given(st.integers(1, 10**6), st.integers(1, 4))
def test_descriptors_are_kept_in_reserve(open_files: int, each: int) -> None:
    connections = connections_within(open_files, each)
    assert connections >= 1
    assert connections == 1 or open_files - (connections + SPARE_CONNECTIONS) * each >= 100


def test_a_tick_reaches_every_connection() -> None:
    connections = Connections(limits())
    lines = [Line(), Line()]
    for line in lines:
        connections.made(line, "10.0.0.1")
    connections.tick(1.5)
    assert [line.elapsed_s for line in lines] == [1.5, 1.5]


@given(st.lists(st.integers(1024, 10**6), max_size=200))
def test_who_keeps_to_the_least_rate_never_runs_out_of_time(seconds: list[int]) -> None:
    allowance = Allowance(10, 1024)
    assert not any(allowance.spend(1, moved) for moved in seconds)


@given(st.integers(0, 1000))
def test_who_is_slower_does_in_the_end(rate: int) -> None:
    allowance = Allowance(10, 1024)
    assert any(allowance.spend(1, rate) for _ in range(1000))


def test_a_large_piece_wins_back_no_more_than_the_whole_allowance() -> None:
    allowance = Allowance(10, 1024)
    allowance.spend(1, 10**9)
    assert not any(allowance.spend(1, 0) for _ in range(9))
    assert allowance.spend(1, 0)


@given(st.lists(st.integers(1, 65_536), max_size=50), st.integers(20, 4096))
def test_ordinary_chunks_are_always_admitted(pieces: list[int], chunk_bytes: int) -> None:
    framing = Framing()
    for data in pieces:
        assert framing.admits(data + 10 * (1 + data // chunk_bytes), data)


def test_chunks_of_a_byte_are_admitted_until_their_framing_is_too_much() -> None:
    framing = Framing()
    admitted = 0
    while framing.admits(6_000, 1_000):
        admitted += 6_000
    assert admitted <= 2 * MAX_FRAMING_BYTES


def test_trailers_have_a_limit_however_large_the_body_was() -> None:
    framing = Framing()
    for _ in range(100):
        assert framing.admits(65_546, 65_536)
    trailers = 0
    while framing.admits(1_000, 0):
        trailers += 1_000
    assert trailers <= MAX_FRAMING_BYTES


def test_a_refusal_is_a_whole_answer_that_ends_the_connection() -> None:
    head, _, body = encode(URI_TOO_LONG, problem_body).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 414 URI Too Long" or lines[0] == b"HTTP/1.1 414 Request-URI Too Long"
    assert b"content-length: %d" % len(body) in lines
    assert b"connection: close" in lines
    assert not any(line.startswith(b"retry-after") for line in lines)
    assert b"retry-after: 2" in encode(NO_PLACE, problem_body).split(b"\r\n")
