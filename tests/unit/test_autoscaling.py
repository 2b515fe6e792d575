"""The scaling rule of deploy/k8s on a generated load."""

from __future__ import annotations

import itertools

import pytest

from tests.benchmarks.autoscaling import HOURS, Autoscaler, Rule, simulate

RULE = Rule.read()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_rule_neither_flaps_nor_lets_documents_wait(seed: int) -> None:
    course = simulate(RULE, pages_per_s=4.0, start_s=120.0, seed=seed)
    assert course.flaps() == 0
    assert max(course.waited_s) < 30 * 60
    assert course.times_s[-1] < (HOURS + 0.5) * 3600
    assert max(course.replicas) == RULE.most
    assert course.replicas[-1] == RULE.fewest


def test_a_worker_goes_only_after_the_window_and_one_at_a_time() -> None:
    scaler = Autoscaler(RULE)
    replicas, fell_s = 4, []
    scaler.decide(0.0, replicas, lag=1000.0, age_s=0.0)
    for now_s in range(15, 3600, 15):
        wanted = scaler.decide(float(now_s), replicas, lag=0.0, age_s=0.0)
        if wanted < replicas:
            fell_s.append(now_s)
        replicas = wanted
    window_s = RULE.behavior["scaleDown"]["stabilizationWindowSeconds"]
    assert fell_s[0] > window_s
    assert [later - earlier for earlier, later in itertools.pairwise(fell_s)] == [600, 600]


def test_one_old_document_is_reason_enough() -> None:
    scaler, replicas = Autoscaler(RULE), 1
    for now_s in range(0, 600, 15):
        replicas = scaler.decide(float(now_s), replicas, lag=5.0, age_s=2 * RULE.age_threshold_s)
    assert replicas == 2
