"""The scenarios, each in a long version and in a short one for every test run."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from tests.chaos.experiment import Experiment
from tests.chaos.scenarios_brokers import (
    all_brokers_down,
    broker_kills,
    network_cuts,
    one_of_three_killed,
    rebalances,
    rights_taken,
)
from tests.chaos.scenarios_deletes import cancellations, deletions
from tests.chaos.scenarios_embedding import poisoned_texts
from tests.chaos.scenarios_jobs import deliveries, poison, replays, unpublished
from tests.chaos.scenarios_outages import OUTAGES, outages, slow_and_broken_s3
from tests.chaos.scenarios_rolling import rolling_restarts
from tests.chaos.scenarios_workers import comings_and_goings, freezes, kills, terms
from workers.stack import kafka_kinds
from workers.stack.kafka_kinds import KafkaKind


class Scenario(Protocol):
    def __call__(self, servers: Mapping[str, str], folder: Path) -> Awaitable[Experiment]: ...


LONG: Final[dict[str, Scenario]] = {
    "kill": partial(kills, count=100, workers=3),
    "term": partial(terms, count=50, workers=3),
    "stop": partial(freezes, count=10),
    "deleted": partial(deletions, rounds=20),
    "cancelled": partial(cancellations, rounds=20),
    "come-and-go": partial(comings_and_goings, seconds=600, workers=8, period_s=60),
    **{name.replace(" ", "-"): partial(outages, of=(name,), down_s=60, documents=20) for name in OUTAGES},
    "embedder-poisoned": partial(poisoned_texts, good=60),
    "slow-s3": partial(slow_and_broken_s3, documents=6, size_bytes=100_000, bytes_per_s=10_000),
    "delivered": partial(deliveries, documents=200),
    "poison": partial(poison, good=96),
    "unpublished": partial(unpublished, documents=20),
    "replayed": partial(replays, documents=20),
    "rebalanced": partial(rebalances, rounds=10),
    "kafka-cut": partial(network_cuts, documents=60, mean_bytes=4_000),
    "session": partial(freezes, count=5, past_session=True),
    "broker-killed": partial(broker_kills, times=10),
    "broker-of-three": partial(one_of_three_killed, times=6),
    "brokers-down": partial(all_brokers_down, down_s=60, documents=4),
    "rights": partial(rights_taken, documents=6),
    "rolling": partial(rolling_restarts, rounds=5, workers=3),
}

NEED_APACHE: Final = frozenset({"session", "broker-killed", "broker-of-three", "brokers-down", "rights"})
"""noida-db never expires a dead member, and loses acknowledged records at kill -9."""

_EMBEDDER: Final = [name for name in OUTAGES if name.startswith("embedder")]
_QUICK: Final = [name for name in OUTAGES if not name.endswith("silent") and name not in _EMBEDDER]
"""Outages of servers that accept connections and never answer last longer: clients notice them by a timeout."""

SHORT: Final[dict[str, Scenario]] = {
    "outages": partial(outages, of=_QUICK, down_s=1, documents=2, workers=1),
    "embedder-outages": partial(outages, of=_EMBEDDER, down_s=0.5, documents=1, workers=1),
    "embedder-poisoned": partial(poisoned_texts, good=6, max_attempts=2, workers=1),
    "kill": partial(kills, count=2, workers=2),
    "poison": partial(poison, good=4, max_attempts=2, with_bomb=False),
    "term": partial(terms, count=1, workers=2),
    "stop": partial(freezes, count=1, past_session=kafka_kinds.default() is KafkaKind.APACHE),
    "kafka-cut": partial(network_cuts, documents=6, mean_bytes=4_000, workers=1),
    "deleted": partial(deletions, rounds=2),
    "cancelled": partial(cancellations, rounds=2),
    "slow-s3": partial(slow_and_broken_s3, documents=4, size_bytes=60_000, bytes_per_s=60_000, workers=1),
    "delivered": partial(deliveries, documents=6),
    "unpublished": partial(unpublished, documents=5),
    "replayed": partial(replays, documents=4),
}
