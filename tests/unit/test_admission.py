"""The capacity of an admission lane."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.embedding.serving.admission import AdmissionLane
from workers.embedding.serving.service_errors import LaneFull


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def refusal(lane: AdmissionLane, cost: int) -> LaneFull:
    with pytest.raises(LaneFull) as caught, lane.admit(1, cost):
        pass
    return caught.value


def test_requests_within_the_lane_capacity_are_admitted_and_others_refused(clock: Clock) -> None:
    lane = AdmissionLane("text", 10, clock)
    with lane.admit(1, 6):
        with lane.admit(2, 4):
            assert (lane.requests_in_flight, lane.inputs_in_flight, lane.cost_in_flight) == (2, 3, 10)
            assert refusal(lane, 1).status == 429
        with lane.admit(1, 4):
            pass
    assert (lane.requests_in_flight, lane.inputs_in_flight, lane.cost_in_flight) == (0, 0, 0)
    assert (lane.admitted, lane.refused) == (3, 1)


def test_a_request_larger_than_the_lane_is_admitted_alone(clock: Clock) -> None:
    lane = AdmissionLane("text", 10, clock)
    with lane.admit(1, 50):
        assert refusal(lane, 1).status == 429
    with lane.admit(1, 1):
        assert refusal(lane, 50).status == 429


def test_room_is_given_back_after_an_error(clock: Clock) -> None:
    lane = AdmissionLane("text", 10, clock)
    with pytest.raises(ZeroDivisionError), lane.admit(1, 10):
        raise ZeroDivisionError
    with lane.admit(1, 10):
        pass


def test_without_experience_the_caller_is_asked_back_in_a_second(clock: Clock) -> None:
    lane = AdmissionLane("text", 10, clock)
    with lane.admit(1, 10):
        assert refusal(lane, 5).retry_after_s == 1


def test_the_caller_is_asked_back_when_there_should_be_room(clock: Clock) -> None:
    lane = AdmissionLane("text", 100, clock)
    with lane.admit(1, 60):
        with lane.admit(1, 20):
            clock.now += 2  # 20 in 2 s
        with lane.admit(1, 40):
            assert refusal(lane, 30).retry_after_s == 3  # 30 have to be through
            assert refusal(lane, 1000).retry_after_s == 10  # all 100 have to be


def test_old_requests_do_not_count_for_retry_after(clock: Clock) -> None:
    lane = AdmissionLane("text", 10, clock)
    with lane.admit(1, 10):
        clock.now += 5
    clock.now += 3600
    with lane.admit(1, 10):
        assert refusal(lane, 10).retry_after_s == 1


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 50))
def test_a_lane_never_holds_more_than_its_limit_or_one_request(costs: list[int], limit: int) -> None:
    lane = AdmissionLane("text", limit)
    with ExitStack() as inside:
        for cost in costs:
            try:
                inside.enter_context(lane.admit(1, cost))
            except LaneFull as error:
                assert 1 <= (error.retry_after_s or 0) <= 30
            assert lane.cost_in_flight <= limit or lane.requests_in_flight == 1
        assert lane.admitted + lane.refused == len(costs)
    assert lane.cost_in_flight == 0


def test_latencies_are_those_of_recent_requests(clock: Clock) -> None:
    lane = AdmissionLane("text", 10, clock)
    assert lane.status()["latency_ms"] == {"p50": None, "p95": None, "p99": None}
    for number in range(1, 101):
        lane.observe(number / 1000)
    found = lane.status()["latency_ms"]
    assert (round(found["p50"]), round(found["p95"]), round(found["p99"])) == (50, 95, 99)
